"""Repairs that are made while code runs: each named and counted, none of them in the way of right code."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from thyme.config.sandbox import ALL_REPAIRS
from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.sandbox.jail.boxes import are_fractions, fit_box
from thyme.sandbox.jail.interpreter import find_path, shorten
from thyme.sandbox.jail.names import expected_names
from thyme.sandbox.jail.paths import Paths
from thyme.sandbox.jail.slices import compile_block, fit_slices, looks_for_empty
from thyme.types import Execution, ImageRecord

OUT = "/mnt/data/temp_processed_images"
INPUT = ImageRecord.of(Image.linear_gradient("L").resize((100, 50)).convert("RGB"))
SIDES = st.floats(-300, 300) | st.integers(-300, 300)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unrepaired() -> AsyncIterator[Broker]:
    """A sandbox with every repair off."""
    async with open_sandbox(SandboxConfig(repairs=(), timeout_s=20)) as found:
        yield found


async def run(broker: Broker, code: str) -> Execution:
    async with broker.session([INPUT, INPUT]) as session:
        return await session.run(code)


def counted(execution: Execution) -> dict[str, int]:
    totals: dict[str, int] = {}
    for repair in execution.repairs:
        totals[repair.name] = totals.get(repair.name, 0) + repair.count
    return totals


@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 200), st.integers(1, 200))
def test_fitted_box_lies_inside_and_has_area(
    left: float, upper: float, right: float, lower: float, width: int, height: int
) -> None:
    box = (left, upper, right, lower)
    assume(not are_fractions(box))
    fitted = fit_box(box, width, height) or tuple(round(side) for side in box)
    assert 0 <= fitted[0] < fitted[2] <= width
    assert 0 <= fitted[1] < fitted[3] <= height
    assert fit_box(fitted, width, height) is None


@given(st.integers(0, 99), st.integers(1, 100), st.integers(0, 49), st.integers(1, 50))
def test_right_box_is_not_touched(left: int, wide: int, upper: int, high: int) -> None:
    box = (left, upper, min(left + wide, 100), min(upper + high, 50))
    assert fit_box(box, 100, 50) is None


BOUNDS = st.none() | st.integers(-120, 120)


@given(BOUNDS, BOUNDS, BOUNDS, BOUNDS)
def test_fitted_slice_has_area_and_leaves_other_axes_alone(
    top: int | None, bottom: int | None, left: int | None, right: int | None
) -> None:
    array = np.zeros((40, 60, 3), np.uint8)
    key = (slice(top, bottom), slice(left, right))
    fitted = fit_slices(key, array.shape)
    if array[key].size or fitted is None:
        assert fitted is None or fitted == key
        return
    assert array[fitted].size
    for before, after, length in zip(key, fitted, array.shape, strict=False):
        if range(*before.indices(length)):
            assert after == before
        else:
            assert 0 <= after.start < after.stop <= length
    assert fit_slices(fitted, array.shape) == fitted


@pytest.mark.parametrize(
    ("key", "fitted"),
    [
        (np.s_[30:10, 5:9], np.s_[10:30, 5:9]),
        (np.s_[-5:9, 5:9], np.s_[0:9, 5:9]),
        (np.s_[50:70, 5:9], np.s_[39:40, 5:9]),
        (np.s_[10:-35, 5:9], np.s_[5:10, 5:9]),
        (np.s_[-10:-20, 5:9], np.s_[20:30, 5:9]),
        (np.s_[50:, 5:9], np.s_[39:40, 5:9]),
        (np.s_[30:10, 50:40, 0], np.s_[10:30, 40:50, 0]),
        (np.s_[5:5, 0:9], None),
        (np.s_[:0, 0:9], None),
        (np.s_[30:10:2, 0:9], None),
        (np.s_[..., 30:10], None),
    ],
)
def test_slices(key: tuple[Any, ...], fitted: tuple[Any, ...] | None) -> None:
    assert fit_slices(key, (40, 60, 3)) == fitted


@pytest.mark.parametrize(
    ("code", "looks"),
    [
        ("if crop.size == 0: pass", True),
        ("if not crop.size: pass", True),
        ("ok = crop.size and crop.mean()", True),
        ("while crop.shape[0] < 1: pass", True),
        ("x = len(crop) > 0", True),
        ("h, w = crop.shape[:2]\nif h == 0 or w == 0: pass", True),
        ("if min(crop.shape) < 1: pass", True),
        ("h, w = image.shape[:2]\nif x < 0: x = 0", False),
        ("w, h = image.size", False),
        ("if image.size == (3, 4): pass", False),
        ("if n == 0: pass", False),
    ],
)
def test_code_that_looks_for_empty_pictures_is_known(code: str, looks: bool) -> None:
    assert looks_for_empty(list(ast.walk(ast.parse(code)))) is looks


@pytest.mark.parametrize(
    ("code", "wraps"),
    [
        ("a[1:2, 3:4]", True),
        ("def f(a):\n    return a[y:y + 5,\n             x:x + 5, 0]", True),
        ("a[1:2]", False),
        ("a[1:2, 3]", False),
        ("a[:, :]", False),
        ("a[1:2, 3:4] = 0", False),
        ("[[1, 2], {3: 4, 5: 6}]", False),
        ("if a[1:2, 3:4].size == 0: pass", False),
        ("+".join(["a[1:2, 3:4]"] * 900), True),
    ],
)
def test_only_what_is_sliced_along_two_axes_is_wrapped(code: str, wraps: bool) -> None:
    compiled = compile_block(code, "<code 1>", Paths("", (), ("boundary",)))
    names = [*compiled.co_names, *(n for c in compiled.co_consts if hasattr(c, "co_names") for n in c.co_names)]
    assert ("__picture__" in names) is wraps
    plain = compile(code, "<code 1>", "exec", dont_inherit=True)
    assert compile_block(code, "<code 1>", Paths("", (), ())) == plain
    assert (compiled == plain) is not wraps


@pytest.mark.parametrize(
    ("box", "fitted"),
    [
        ((-10, 5, 40, 30), (0, 5, 40, 30)),
        ((40, 30, 10, 5), (10, 5, 40, 30)),
        ((10.4, 5.6, 200.2, 60), (10, 6, 100, 50)),
        ((100, 100, 120, 130), (99, 49, 100, 50)),
        ((10, 10, 10, 20), (10, 10, 11, 20)),
        ([0, 0, 101, 50], (0, 0, 100, 50)),
        ((0.4, 0.4, 99.6, 49.9), None),
        ((0.1, 0.2, 0.5, 0.9), None),
        ((0, 0, 1, 1), None),
        ((1, 2, 3), None),
        ((1, 2, 3, "x"), None),
        ((float("nan"), 0, 1, 1), None),
        ((float("inf"), 0, 1, 1), None),
        (7, None),
    ],
)
def test_boxes(box: object, fitted: object) -> None:
    assert fit_box(box, 100, 50) == fitted


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("np.zeros(3)", {"np"}),
        ("def f():\n    return cv.imread(Image)", {"Image", "cv"}),
        ("x.y.z", set()),
        ("def f(np):\n    return np", set()),
        ("print(len)", set()),
        (
            "display(img_path, image_path_2, input_path, processed_path)",
            {"display", "img_path", "image_path_2", "input_path", "processed_path"},
        ),
        ("print(path_image, image, file)", set()),
        ("import numpy as np\nnp.zeros(3)", set()),
        ("x.random.math(y.copy)", set()),
        ("def f():\n    def g():\n        return os.time\n    return g", {"os"}),
        ("class np: pass\nnp()", set()),
        ("for os in []: print(os)", set()),
        ("f(processed_path)\nprocessed_path = img_path = 2\nf(img_path)", {"processed_path"}),
        ("\n".join(f"v{n} = {n}" for n in range(300)) + "\nmath = 2\nprint(math, np)", {"np"}),
    ],
)
def test_expected_names_are_those_that_can_be_found(code: str, names: set[str]) -> None:
    assert expected_names(compile(code, "", "exec"), {}, True) == names
    assert expected_names(compile(code, "", "exec"), dict.fromkeys(names), True) == set()
    bound = {"processed_path"} if "processed_path = " in code else set()
    assert expected_names(compile(code, "", "exec"), {}, False) == names - bound


@pytest.mark.parametrize(
    ("text", "place"),
    [("a.png", 0), ("see a.png", 4), ("'a.png'", 1), ("a.png.", 0), ("a.png\n", 0), ("xa.png", -1), ("a.png2", -1),
     ("b/a.png", -1), ("a.png.bak", -1), ("xa.png a.png", 7), ("a.png, done", 0), ("", -1)],
)  # fmt: skip
def test_find_path(text: str, place: int) -> None:
    assert find_path(text, "a.png") == place


@given(st.text(max_size=300), st.integers(100, 200))
def test_shortened_text_keeps_both_ends(text: str, limit: int) -> None:
    short, cut = shorten(text, limit)
    assert cut == (len(text) > limit)
    assert short[:50] == text[:50]
    assert short[-25:] == text[-25:]
    assert len(short) <= limit + 60


REPAIRED = [
    ("boundary", 1, "from PIL import Image\nc = Image.open(image_path).crop((-5, 10, 500, 40))\n"
         "assert c.size == (100, 30)"),
    (
        "boundary", 2,
        "from PIL import Image\ni = Image.open(image_path).resize((300, 150))\n"
        "assert i.crop((250, 0, 300, 150)).size == (50, 150)\n"
        "assert [i.crop((280, 0, 320, 150)).size for _ in 'ab'] == [(20, 150)] * 2",
    ),
    ("names", 2, "assert cv.imread(image_path).shape == (50, 100, 3)\nassert np.ones(3).sum() == 3"),
    ("names", 1, "import cv4 as cv\nassert cv.imread(image_path) is not None"),
    ("names", 3, "assert math.floor(os.path.getsize(image_path) * 0) == 0\n"
         "assert Image.open(image_path).size[0] == 100"),
    ("input_path", 1, "from PIL import Image\nassert Image.open('/data/images/photo.jpg').size == (100, 50)"),
    ("input_path", 1, "import cv2\nassert cv2.imread('/mnt/data/image_2.jpg').shape == (50, 100, 3)"),
    ("input_path", 1, "assert open('image.jpeg', 'rb').read(4)"),
    (
        "output_folder", 1,
        "from PIL import Image\nimport os\nImage.new('L', (5, 5)).save('/home/user/out/a.png')\n"
        "assert os.path.exists('/home/user/out/a.png') and Image.open('/home/user/out/a.png').size == (5, 5)\n"
        "print('/home/user/out/a.png')",
    ),
    (
        "output_folder", 1,
        f"import cv2, os, numpy as np\nassert cv2.imwrite('{OUT}/new/sub/a.png', np.zeros((5, 5, 3), np.uint8))\n"
        f"print('{OUT}/new/sub/a.png')",
    ),
    (
        "output_folder", 1,
        "import os\nfrom PIL import Image\nos.makedirs('/mnt/data/output/x', exist_ok=True)\n"
        "os.makedirs('/mnt/data/output/x', exist_ok=True)\nImage.new('L', (5, 5)).save('/mnt/data/output/x/a.png')\n"
        "assert os.listdir('/mnt/data/output/x') == ['a.png']\nprint('/mnt/data/output/x/a.png')",
    ),
    ("output_folder", 1, "from pathlib import Path\np = Path('/srv/out')\np.mkdir(parents=True, exist_ok=True)\n"
         "assert p.is_dir()"),
    ("fences", 1, "```python\nprint(1)\n```"),
    ("indentation", 1, "x = 1\n    y = 2"),
    ("quotes", 1, "print(“a”)"),
]  # fmt: skip


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "count", "code"), REPAIRED)
async def test_repair_is_made_named_and_counted(broker: Broker, name: str, count: int, code: str) -> None:
    execution = await run(broker, code)
    assert execution.error is None
    assert counted(execution) == {name: count}
    assert all(repair.note for repair in execution.repairs)
    assert (execution.ran != execution.code) == (name in {"fences", "indentation", "quotes"})
    assert len(execution.images) == execution.stdout.count(".png")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "count", "code"), REPAIRED)
async def test_repair_can_be_switched_off(unrepaired: Broker, name: str, count: int, code: str) -> None:
    execution = await run(unrepaired, code)
    assert execution.repairs == ()
    assert execution.error is not None or name == "output_folder"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ALL_REPAIRS)
async def test_one_repair_alone_makes_no_other(name: str) -> None:
    async with open_sandbox(SandboxConfig(repairs=(name,), timeout_s=20)) as broker:
        for expected, _, code in REPAIRED:
            execution = await run(broker, code)
            assert set(counted(execution)) <= {name}
            assert bool(execution.repairs) == (
                name in {expected, "whitespace" if expected == "indentation" else expected}
            )


RIGHT = [
    "import cv2, numpy as np, math, os\nfrom PIL import Image\ni = Image.open(image_path)\n"
    f"i.crop((0, 0, 100, 50)).save('{OUT}/a.png')\nprint(i.size, '{OUT}/a.png')",
    "try:\n    open('/nowhere/notes.txt')\nexcept FileNotFoundError as e:\n    print(e)",
    "import os\n"
    "print(os.path.exists('/nowhere/a.png'), os.path.isdir('/nowhere'), sorted(os.listdir('/mnt/data/input')))",
    "from PIL import Image\ntry:\n    Image.open('/mnt/data/temp_processed_images/none.png')\n"
    "except OSError as e:\n    print(e)",
    "x = '“quoted”'\nprint(x)\nprint('```python')",
    "from PIL import Image\nc = Image.open(image_path).crop((0.4, 0.4, 50.2, 20.4))\nprint(c.size, c.tobytes()[:9])",
    "import random\nprint([random.random() for _ in range(3)])",
    "def cv(x):\n    return x\nprint(cv(2))",
    "print(sorted(k for k in globals() if not k.startswith('__')))",
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("code", RIGHT)
async def test_right_code_does_the_same_with_all_repairs_off(broker: Broker, unrepaired: Broker, code: str) -> None:
    on, off = await run(broker, code), await run(unrepaired, code)
    assert on.repairs == off.repairs == ()
    assert (on.stdout, on.error, on.images, on.ran) == (off.stdout, off.error, off.images, off.ran)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_saved_comes_back_once_though_it_was_shown_too(broker: Broker) -> None:
    crop = "from PIL import Image\nc = Image.open(image_path).crop((0, 0, 9, 9))\n"
    execution = await run(broker, crop + "c.save('c.png')\nc.show()\nprint('c.png')")
    assert execution.repairs == ()
    assert [image.name for image in execution.images] == [f"{OUT}/c.png"]


@pytest.mark.asyncio(loop_scope="module")
async def test_no_block_runs_twice(broker: Broker) -> None:
    async with broker.session() as session:
        await session.run("count = 0")
        await session.run("```python\ncount += 1\n1 / 0\n```")
        execution = await session.run("print(count)")
    assert execution.stdout == "1\n"
