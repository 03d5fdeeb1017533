"""What code may import: number, image and plotting libraries, read-only; what a user adds; and nothing else."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from thyme.config.sandbox import IMPORTABLE
from thyme.errors import ConfigError, IsolationError
from thyme.sandbox import Sandbox
from thyme.sandbox.runtime import runtime_for
from thyme.types import Execution

LEVELS = ("namespaces", "landlock")


def opened(level: str, **settings: object) -> Sandbox:
    try:
        return Sandbox(isolation=level, timeout_s=30, **settings)
    except IsolationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=LEVELS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with opened(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def shapes() -> Image.Image:
    """A red circle, a blue square, a green circle, on white."""
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 90, 90), fill="red")
    draw.rectangle((150, 60, 250, 160), fill="blue")
    draw.ellipse((60, 150, 120, 210), fill="green")
    return image


def succeeded(execution: Execution) -> list[str]:
    """Printed lines."""
    assert execution.error is None, f"{execution.error}\n{execution.stdout}"
    return execution.stdout.splitlines()


# --- the libraries, on code as a model writes it

SCIPY = """
import numpy as np
from PIL import Image
from scipy import fft, integrate, interpolate, linalg, ndimage, optimize, signal, spatial, stats
from scipy.io import loadmat, savemat

gray = np.asarray(Image.open(image_path).convert("L"))
labels, count = ndimage.label(gray < 200)
centers = ndimage.center_of_mass(gray < 200, labels, range(1, count + 1))
print(count, [tuple(round(float(c)) for c in center) for center in centers])
slope, offset = optimize.curve_fit(lambda x, a, b: a * x + b, np.arange(5.0), 2 * np.arange(5.0) + 1)[0]
print(round(slope, 3), round(offset, 3), signal.find_peaks([0, 1, 0, 2, 0])[0].tolist())
print(round(integrate.quad(np.sin, 0, np.pi)[0], 6), round(linalg.det([[1, 2], [3, 4]]), 6))
print(round(stats.linregress([1, 2, 3], [2, 4, 6]).slope, 6), float(interpolate.interp1d([0, 1], [0, 2])(0.5)))
print(spatial.ConvexHull([[0, 0], [1, 0], [0, 1], [0.2, 0.2]]).vertices.size, abs(fft.fft([1, 0])).tolist())
savemat("gray.mat", {"gray": gray})
print(loadmat("gray.mat")["gray"].shape)
"""

SYMPY = """
import sympy as sp
from sympy.geometry import Point, Triangle

x, y = sp.symbols("x y")
print(sp.solve(x**2 - 5 * x + 6, x), sp.solve([sp.Eq(x + y, 10), sp.Eq(x - y, 2)], [x, y]))
print(sp.integrate(sp.sin(x), (x, 0, sp.pi)), sp.limit(sp.sin(x) / x, x, 0), sp.latex(sp.Rational(1, 3)))
print(sp.lambdify(x, x**2, "numpy")(3), sp.sympify("2*x + 1").subs(x, 4), sp.N(sp.pi, 20))
print(Triangle(Point(0, 0), Point(4, 0), Point(0, 3)).area, sp.parse_expr("3*x").diff(x))
"""

SKIMAGE = """
from skimage import color, exposure, feature, filters, io, measure, metrics, morphology, segmentation, transform, util

image = io.imread(image_path)
gray = color.rgb2gray(image)
mask = gray < filters.threshold_otsu(gray)
print(image.shape, [region.bbox for region in measure.regionprops(measure.label(mask))])
print(feature.canny(gray).any(), transform.rotate(image, 30, resize=True).ndim, exposure.equalize_adapthist(gray).shape)
print(segmentation.slic(image, n_segments=20, channel_axis=-1).max() > 1, morphology.closing(mask).shape)
print(metrics.structural_similarity(gray, gray, data_range=1.0), feature.local_binary_pattern(mask, 8, 1).max())
io.imsave("turned.png", util.img_as_ubyte(transform.rotate(image, 90, resize=True)))
print("turned.png")
"""

MATPLOTLIB = """
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

print(matplotlib.get_backend())
figure, axes = plt.subplots(1, 2, figsize=(4, 2), dpi=100)
axes[0].imshow(plt.imread(image_path))
axes[0].set_title("zoomed $x^2$")
axes[1].bar(["a", "b"], [1, 2], label="bars")
axes[1].legend()
plt.tight_layout()
plt.savefig("figure.png")
surface = plt.figure(figsize=(3, 3), dpi=100).add_subplot(projection="3d")
surface.plot_surface(*np.meshgrid(np.arange(3), np.arange(3)), np.ones((3, 3)))
plt.savefig("surface.jpg")
print("figure.png", "surface.jpg")
"""

PANDAS = """
import io

import pandas as pd

table = pd.DataFrame({"city": ["A", "B", "A"], "value": [1, 2, 3.5]})
print(table.groupby("city").value.mean().to_dict(), table.query("value > 1").shape)
print(pd.read_csv(io.StringIO("a,b\\n1,2")).to_dict("records"))
print(pd.Timestamp("2024-03-01", tz="Europe/Paris").day_name())
table.to_csv("table.csv", index=False)
print(pd.read_csv("table.csv").equals(table))
table.plot(x="city", y="value", kind="bar").figure.savefig("bars.png", dpi=50)
print("bars.png")
"""


def test_scipy(sandbox: Sandbox, shapes: Image.Image) -> None:
    assert succeeded(sandbox.run(SCIPY, shapes)) == [
        "3 [(55, 55), (110, 200), (180, 90)]",
        "2.0 1.0 [1, 3]",
        "2.0 -2.0",
        "2.0 1.0",
        "3 [1.0, 1.0]",
        "(240, 320)",
    ]


def test_sympy(sandbox: Sandbox) -> None:
    assert succeeded(sandbox.run(SYMPY)) == [
        "[2, 3] {x: 6, y: 4}",
        r"2 1 \frac{1}{3}",
        "9 9 3.1415926535897932385",
        "6 3",
    ]


def test_scikit_image(sandbox: Sandbox, shapes: Image.Image) -> None:
    execution = sandbox.run(SKIMAGE, shapes)
    boxes = "[(20, 20, 91, 91), (60, 150, 161, 251), (150, 60, 211, 121)]"
    assert succeeded(execution)[:2] == [f"(240, 320, 3) {boxes}", "True 3 (240, 320)"]
    assert [image.size for image in execution.images] == [(240, 320)]
    assert execution.images[0].image.getpixel((110, 120)) == (0, 0, 255)


def test_matplotlib_and_pandas(sandbox: Sandbox, shapes: Image.Image) -> None:
    with sandbox.session(shapes) as session:
        drawn = session.run(MATPLOTLIB)
        assert succeeded(drawn)[0].lower() == "agg"
        assert [image.size for image in drawn.images] == [(400, 200), (300, 300)]
        assert np.asarray(drawn.images[0].image.convert("L")).std() > 10, "something is drawn"
        table = session.run(PANDAS)
        assert succeeded(table)[:4] == [
            "{'A': 2.25, 'B': 2.0} (2, 2)",
            "[{'a': 1, 'b': 2}]",
            "Friday",
            "True",
        ]
        assert len(table.images) == 1


# --- nothing else


def test_what_is_not_there_is_told_from_a_part_that_is_not(sandbox: Sandbox) -> None:
    missing = sandbox.run("import torch").error
    assert missing is not None
    there = "numpy, PIL, cv2, scipy, sympy, skimage, matplotlib, pandas and the standard library"
    assert missing.message.endswith(f". It is not installed; there are {there}")
    part = sandbox.run("import numpy.nothing").error
    assert part is not None
    assert part.message == "No module named 'numpy.nothing' in `import numpy.nothing`"


def test_the_rest_of_the_environment_is_neither_importable_nor_readable(sandbox: Sandbox) -> None:
    others = ["thyme", "torch", "transformers", "pip", "setuptools", "pydantic", "typer", "hypothesis", "fastapi"]
    places = [
        str(Path(spec.origin).resolve())
        for name in others
        if (spec := importlib.util.find_spec(name)) is not None and spec.origin
    ]
    assert len(places) >= 5
    code = f"""
import importlib, json
found = []
for name in {others}:
    try:
        importlib.import_module(name)
        found.append(name)
    except ModuleNotFoundError:
        pass
for place in {places}:
    try:
        open(place).close()
        found.append(place)
    except OSError:
        pass
print(json.dumps(found))
"""
    for sandboxed in (code, code.replace("importlib.import_module(name)", "exec('import ' + name)")):
        assert json.loads(succeeded(sandbox.run(sandboxed))[-1]) == []


def test_what_is_missing_is_named_to_the_model(sandbox: Sandbox) -> None:
    error = sandbox.run("x = 1\nimport sklearn.cluster").error
    assert error is not None
    assert (error.type, error.line) == ("ModuleNotFoundError", 2)
    assert "sklearn" in error.message


def test_libraries_cannot_be_changed(sandbox: Sandbox) -> None:
    code = """
import os, numpy, cv2, PIL
kept = []
for module in (numpy, cv2, PIL):
    file, folder = module.__file__, os.path.dirname(module.__file__)
    for change in (
        lambda: os.open(file, os.O_WRONLY),
        lambda: os.open(os.path.join(folder, "new.py"), os.O_WRONLY | os.O_CREAT),
        lambda: os.unlink(file),
        lambda: os.rename(file, file + "x"),
        lambda: os.chmod(file, 0o777),
        lambda: os.utime(file),
        lambda: os.rmdir(folder),
    ):
        try:
            change()
        except (OSError, PermissionError):
            kept.append(1)
print(len(kept))
"""
    before = [Path(path).stat() for _, path in runtime_for(IMPORTABLE).packages]
    succeeded(sandbox.run(code))
    assert [Path(path).stat() for _, path in runtime_for(IMPORTABLE).packages] == before
    assert succeeded(sandbox.run("import numpy, cv2, PIL\nprint(numpy.add(1, 2))")) == ["3"]


# --- what a user adds


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions: ``single`` is one file; ``first`` needs ``second`` needs ``Third.Dist``."""
    folder = tmp_path / "site-packages"
    install(folder, "single-file", {"single_file.py": "VALUE = 1"}, [])
    install(
        folder,
        "first",
        {"first/__init__.py": "import second\nVALUE = second.VALUE + 1"},
        ["second>=1 ; python_version > '3'"],
    )
    install(
        folder, "second", {"second/__init__.py": "from third.deep import VALUE"}, ["Third_Dist", "unused; extra == 'x'"]
    )
    install(folder, "third-dist", {"third/deep.py": "VALUE = 40"}, ["first"])
    install(folder, "unused", {"unused/__init__.py": ""}, [])
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(folder: Path, name: str, files: dict[str, str], requires: list[str]) -> None:
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + "".join(
        f"Requires-Dist: {r}\n" for r in requires
    )
    files = files | {f"{info}/METADATA": metadata}
    for path, text in (files | {f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@pytest.mark.parametrize("level", LEVELS)
def test_a_users_own_distributions(site: Path, level: str) -> None:
    """A single file, and a chain of requirements in a circle; a requirement of an extra stays out."""
    assert importlib.metadata.version("single-file") == "1.0"
    code = """
import importlib.util, first, single_file
print(first.VALUE, single_file.VALUE, importlib.util.find_spec("unused"), importlib.util.find_spec("scipy"))
try:
    open(single_file.__file__, "a")
except OSError as error:
    print("read-only")
"""
    with opened(level, importable=("numpy", "pillow", "opencv-python-headless", "single_file", "First")) as sandbox:
        assert succeeded(sandbox.run(code)) == ["41 1 None None", "read-only"]
    assert (site / "single_file.py").read_text() == "VALUE = 1"


# --- imported beforehand


@pytest.mark.parametrize("level", LEVELS)
def test_preloaded_modules_are_there_at_once(level: str) -> None:
    """And behave as if code had imported them: a figure that was only shown comes back; none is another session's."""
    shown = "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1), dpi=100)\nplt.plot([1, 2])\nplt.show()"
    with opened(level, preload=("matplotlib.pyplot", "colorsys")) as sandbox:
        assert succeeded(sandbox.run("import sys\nprint('matplotlib.pyplot' in sys.modules)")) == ["True"]
        for _ in range(2):
            execution = sandbox.run(shown)
            assert [image.size for image in execution.images] == [(200, 100)]
            assert [repair.name for repair in execution.repairs] == ["windows"]
        assert succeeded(sandbox.run("import matplotlib.pyplot as plt\nprint(plt.get_fignums())")) == ["[]"]


def test_what_may_not_be_imported_cannot_be_preloaded() -> None:
    with pytest.raises(ConfigError, match=r"preload: code may not import thyme, torch\.nn; install it, name its"):
        Sandbox(preload=("numpy", "thyme", "torch.nn"))
