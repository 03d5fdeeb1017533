"""Saved pictures come back as they were drawn, and whoever looks at what was saved finds a real, valid file."""

from __future__ import annotations

import contextlib
import gc
import io
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thyme.errors import IsolationError
from thyme.sandbox import Sandbox
from thyme.sandbox.facade import SandboxSession
from thyme.types import Execution, ImageRecord

LEVELS = ("namespaces", "landlock")
OUT = "/mnt/data/temp_processed_images"
NOISE = np.random.default_rng(1).integers(0, 256, (60, 80, 4), np.uint8)
INPUT = ImageRecord.of(Image.fromarray(NOISE[..., :3], "RGB"))

WATCH = """
import PIL.Image, PIL.ImageFile, cv2, sys
written = []
PIL.ImageFile._save_original = PIL.ImageFile._save
def counted(im, fp, *args, **kwargs):
    written.append(fp)
    return PIL.ImageFile._save_original(im, fp, *args, **kwargs)
PIL.ImageFile._save = PIL.PngImagePlugin.ImageFile._save = PIL.JpegImagePlugin.ImageFile._save = counted
from PIL import Image
import glob, io, os, pathlib, shutil, zipfile
import numpy as np
im = Image.open(image_path).convert('RGB')

def waiting():
    hook = Image.Image.save
    while hook.__closure__:
        found = dict(zip(hook.__code__.co_freevars, [cell.cell_contents for cell in hook.__closure__]))
        if 'saves' in found:
            return [path[path.index('/mnt'):] for path in found['saves']._waiting]
        hook = found['original']
"""
"""Counts in `written` how often Pillow really encodes a picture, and says which wait."""


@pytest.fixture(scope="module", params=LEVELS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox without repairs, at each level."""
    try:
        with Sandbox(isolation=request.param, repairs=(), timeout_s=20) as found:
            yield found
    except IsolationError as error:
        pytest.skip(str(error))


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[SandboxSession]:
    """A session that has run `WATCH`."""
    with sandbox.session(INPUT) as found:
        assert found.run(WATCH).error is None
        yield found


def ran(session: SandboxSession, code: str) -> Execution:
    execution = session.run(code)
    assert execution.error is None
    return execution


def test_saved_pictures_come_back_as_drawn_and_nothing_is_encoded(session: SandboxSession) -> None:
    code = (
        "im.save('a.png'); im.save('b.jpg', quality=30); im.convert('L').save('c.webp')\n"
        "im.save('d.webp', quality=10)\nim.putalpha(9)\nim.save('e.png')\n"
        "cv2.imwrite('f.png', np.asarray(im)); cv2.imwrite('g.jpg', np.asarray(im)[..., 0])\n"
        "print('a.png b.jpg d.webp e.png f.png g.jpg')\n"
        "print(len(os.listdir('.')), len(written), os.path.exists('a.png'))"
    )
    execution = ran(session, code)
    drawn = Image.fromarray(NOISE[..., :3], "RGB")
    alpha = drawn.copy()
    alpha.putalpha(9)
    swapped = Image.fromarray(np.asarray(alpha)[..., [2, 1, 0, 3]], "RGBA")
    expected = [drawn, drawn, drawn, alpha, swapped, drawn.getchannel(0)]
    assert [(im.mode, im.image.tobytes()) for im in execution.images] == [(im.mode, im.tobytes()) for im in expected]
    assert execution.stdout.endswith(" 0 True\n")


LOOKS = {
    "open": "open('x.png', 'rb').read()",
    "fileio": "io.FileIO('x.png').read()",
    "os.open": "os.read(os.open('x.png', os.O_RDONLY), 1 << 20)",
    "pathlib": "pathlib.Path('x.png').read_bytes()",
    "stat": "os.stat('x.png').st_size",
    "getsize": "os.path.getsize('x.png')",
    "path_stat": "pathlib.Path('x.png').stat().st_size",
    "scandir": "[entry.stat().st_size for entry in os.scandir('.')]",
    "walk": "[os.path.getsize(name) for _, _, names in os.walk('.') for name in names]",
    "glob": "[os.path.getsize(name) for name in glob.glob('*.png')]",
    "image": "Image.open('x.png').tobytes()",
    "imread": "cv2.imread('x.png').tobytes()",
    "imreadmulti": "cv2.imreadmulti('x.png')[1][0].tobytes()",
    "imcount": "cv2.imcount('x.png')",
    "video": "cv2.VideoCapture('x.png').read()[1].tobytes()",
    "fromfile": "np.fromfile('x.png', np.uint8).tobytes()",
    "copy": "open(shutil.copy('x.png', 'y.png'), 'rb').read()",
    "rename": "os.rename('x.png', 'y.png') or open('y.png', 'rb').read()",
    "move": "open(shutil.move('x.png', 'y.png'), 'rb').read()",
    "zip": "zipfile.ZipFile('z.zip', 'w').write('x.png') or zipfile.ZipFile('z.zip').namelist()",
    "archive": "zipfile.ZipFile(shutil.make_archive('../tmp/all', 'zip', '.')).read('x.png')",
    "append": "open('x.png', 'ab').write(b'x') and open('x.png', 'rb').read()",
    "chmod": "os.chmod('x.png', 0o600) or open('x.png', 'rb').read()",
    "relative": "open('../temp_processed_images/./x.png', 'rb').read()",
    "bytes": "open(b'x.png', 'rb').read()",
    "dir_fd": "os.stat('x.png', dir_fd=os.open('.', os.O_RDONLY)).st_size",
}


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_sees_what_a_real_save_leaves(session: SandboxSession, look: str) -> None:
    """The same code, once after a save that waits and once after one that does not."""
    code = (
        "save = im.save if {waits} else (lambda name: im.save(open(name, 'wb'), 'PNG'))\n"
        f"save('x.png')\nbefore = len(written)\nfound = {LOOKS[look]}\n"
        "print(found if isinstance(found, int) else hash(repr(found)), len(written) - before)\n"
        "for name in os.listdir('.'):\n    os.remove(name)"
    )
    waited, plain = (
        ran(session, code.format(waits=True)).stdout.split(),
        ran(session, code.format(waits=False)).stdout.split(),
    )
    assert waited == [plain[0], "1"]
    assert plain[1] == "0"


@pytest.mark.parametrize(
    "save",
    [
        "im.save(NAME + '.jpg')",
        "im.save(NAME + '.jpg', quality=20, optimize=True, progressive=True)",
        "im.save(NAME + '.jpg', subsampling=0, dpi=(100, 50))",
        "im.save(NAME + '.png')",
        "im.save(NAME + '.png', optimize=True, quality=5)",
        "im.save(NAME + '.dat', 'png', compress_level=7)",
        "im.save(NAME + '.webp', quality=3)",
        "im.save(NAME + '.webp', lossless=True)",
        "im.convert('L').save(NAME + '.png', dpi=(72, 72))",
        "c = im.copy(); c.info = dict(comment=b'hi', icc_profile=b'abc'); c.save(NAME + '.png')",
        "c = im.copy(); c.info = dict(comment=b'hi', icc_profile=b'abc'); c.save(NAME + '.jpg')",
        "cv2.imwrite(NAME + '.jpg', np.asarray(im))",
        "cv2.imwrite(NAME + '.jpg', np.asarray(im)[::2, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 11])",
        "cv2.imwrite(NAME + '.png', np.asarray(im)[..., :1])",
        "cv2.imwrite(NAME + '.png', np.dstack([np.asarray(im), np.asarray(im)[..., 0]]))",
        "cv2.imwrite(NAME + '.webp', np.asarray(im), [cv2.IMWRITE_WEBP_QUALITY, 70])",
        "plt.imsave(NAME + '.png', np.asarray(im))",
        "plt.figure(figsize=(2, 1)).savefig(NAME + '.png', dpi=60)",
        "skimage.io.imsave(NAME + '.png', np.asarray(im))",
    ],
)
def test_file_that_waited_is_byte_for_byte_the_one_saved_at_once(sandbox: Sandbox, save: str) -> None:
    imports = "import hashlib\n"
    for name, module in (("plt.", "matplotlib.pyplot as plt"), ("skimage.", "skimage.io")):
        if name in save:
            pytest.importorskip(module.split(" ")[0])
            imports += f"import {module}\n"
    code = (
        "for NAME in ('first', 'second'):\n"
        f"    {save}\n"
        "    (path,) = glob.glob(NAME + '.*')\n    data = open(path, 'rb').read()\n"
        "    print(len(data) > 90, hashlib.md5(data).hexdigest())\n    Image.open(path).load()\n"
        "    import ctypes\n    ctypes.CDLL(None)"  # from here on every save is real
    )
    with sandbox.session(INPUT) as session:
        session.run(WATCH + imports)
        waited, plain = ran(session, code).stdout.splitlines()
    assert waited == plain
    assert waited.startswith("True")


def test_what_is_done_to_the_image_after_the_save_does_not_show(session: SandboxSession) -> None:
    code = (
        "im.save('a.png'); im.info['comment'] = b'later'; im.paste(0, (0, 0, 80, 60))\n"
        "array = np.full((4, 5, 3), 200, np.uint8); cv2.imwrite('b.png', array); array[:] = 3\nprint('a.png', 'b.png')"
    )
    first, second = ran(session, code).images
    assert first.image.tobytes() == INPUT.image.tobytes()
    assert second.image.getcolors() == [(20, (200, 200, 200))]
    again = ran(
        session, "print(cv2.imread('b.png').max(), Image.open('a.png').tobytes() == Image.open(image_path).tobytes())"
    )
    assert again.stdout == "200 True\n"


def test_looked_at_and_moved_pictures_come_back_as_drawn_and_changed_ones_as_they_are(session: SandboxSession) -> None:
    code = (
        "for name in 'abcd':\n    im.save(f'{name}.jpg', quality=5)\nos.rename('a.jpg', 'moved.jpg')\n"
        "size = os.path.getsize('b.jpg')\nopen('c.jpg', 'r+b').close()\n"
        "data = open('d.jpg', 'rb').read(); open('d.jpg', 'wb').write(data)\nprint('moved.jpg b.jpg c.jpg d.jpg')"
    )
    drawn = INPUT.image.tobytes()
    assert [im.image.tobytes() == drawn for im in ran(session, code).images] == [True, True, False, False]


def test_saving_again_over_the_same_name(session: SandboxSession) -> None:
    blocks = [
        "for shade in (1, 2, 3):\n    Image.new('L', (9, 9), shade).save('a.png')\nprint('a.png', len(written))",
        "Image.new('L', (9, 9), 4).save('a.png')\nprint('a.png', len(written))",
        "print(Image.open('a.png').getpixel((0, 0)), len(written))\n"
        "Image.new('L', (9, 9), 5).save('a.png')\nprint('a.png')",
        "cv2.imwrite('a.png', np.full((2, 3), 6, np.uint8))\nprint(open('a.png', 'rb').read(4), 'a.png')",
        "os.remove('a.png')\nim.save('a.png')\nos.remove('a.png')\nprint(os.listdir('.'), 'a.png')",
        "Image.new('L', (4, 4), 8).save('a.png')\nImage.new('L', (5, 5), 9).save('b.png')\n"
        "os.replace('a.png', 'b.png')\nprint('b.png', Image.open('b.png').size)",
    ]
    executions = [ran(session, block) for block in blocks]
    shown = [[(im.size, im.image.getpixel((0, 0))) for im in execution.images] for execution in executions]
    assert shown == [[((9, 9), 3)], [((9, 9), 4)], [((9, 9), 5)], [((3, 2), 6)], [], [((4, 4), 8)]]
    assert [execution.stdout.splitlines()[0] for execution in executions[:3]] == ["a.png 0", "a.png 0", "4 1"]


def test_three_hundred_pictures(session: SandboxSession) -> None:
    """More than may wait: the rest is written at once, and nobody can tell."""
    code = (
        "big = im.resize((800, 600))\nfor n in range(300):\n    big.putpixel((0, 0), (n % 256, 0, 0))\n"
        "    big.save(f'{n}.jpg', quality=1)\nprint('7.jpg', '280.jpg')\n"
        "print(len(os.listdir('.')), 0 < len(written) < 300)"
    )
    first = ran(session, code)
    assert first.stdout.endswith("300 True\n")
    assert [im.size for im in first.images] == [(800, 600)] * 2
    assert first.images[0].image.getpixel((0, 0)) == (7, 0, 0)
    again = "sizes = {os.path.getsize(e.path) > 500 for e in os.scandir('.')}\nprint(sizes, Image.open('299.jpg').size)"
    assert ran(session, again).stdout == "{True} (800, 600)\n"


def test_waiting_pictures_live_on_and_are_named_later(session: SandboxSession) -> None:
    assert ran(session, "im.save('early.png')").images == ()
    ran(
        session,
        "names = [f'{n}.png' for n in range(5)]\n"
        "for name in names:\n    im.resize((600, 400)).save(name)\nprint(*names)",
    )
    (image,) = ran(session, "processed_path = 'early.png'").images
    assert image.image.tobytes() == INPUT.image.tobytes()


def test_looking_at_an_old_picture_does_not_bring_it_back(session: SandboxSession) -> None:
    """`processed_path` of an earlier block counts only if the file was saved again, not if its bytes were written."""
    assert len(ran(session, "im.save('a.png')\nprocessed_path = 'a.png'").images) == 1
    assert ran(session, "size = os.path.getsize('a.png')").images == ()
    assert len(ran(session, "im.save('a.png')").images) == 1
    assert len(ran(session, "os.remove('a.png')\nim.save('a.png')").images) == 1
    assert len(ran(session, "im.save('a.png')").images) == 1
    assert ran(session, "pass").images == ()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("im.save('no/such/folder.png')", "FileNotFoundError"),
        ("im.save('a.xyz')", "ValueError"),
        ("im.convert('RGBA').save('a.jpg')", "OSError"),
        ("im.save('a.jpg', quality='best')", "ValueError"),
        ("im.save('a.png', transparency=(1, 2))", "ValueError"),
        ("im.save('.')", "ValueError"),
        ("os.mkdir('d.png'); im.save('d.png')", "IsADirectoryError"),
        ("im.save('/mnt/data/input/a.png')", "OSError"),
        ("Image.new('RGB', (0, 5)).save('a.jpg')", "ValueError"),
        ("Image.new('L', (70000, 1)).save('a.jpg')", "OSError"),
        ("cv2.imwrite('a.xyz', np.asarray(im))", "cv2.error"),
        ("cv2.imwrite('a.png', np.zeros((0, 3), np.uint8))", "cv2.error"),
        ("assert cv2.imwrite('no/such/folder.png', np.asarray(im))", "AssertionError"),
    ],
)
def test_errors_arise_where_they_would(session: SandboxSession, code: str, error: str) -> None:
    execution = session.run(code)
    assert execution.error is not None
    assert execution.error.type in {error, "PermissionError" if error == "OSError" else error}


@pytest.mark.parametrize(
    "save",
    [
        "im.convert('P').save('x.png')",
        "im.convert('CMYK').save('x.jpg')",
        "im.save('x.gif')",
        "im.save('x.bmp')",
        "im.save('x.tif')",
        "im.save(open('x.png', 'wb'), 'PNG')",
        "im.save('x.png', save_all=True)",
        "im.save('x.jpg', exif=Image.Exif())",
        "im.save('../tmp/x.png')",
        "open('x.png', 'w').close(); im.save('x.png')",
        "im.encoderinfo = dict(quality=5); im.save('x.jpg')",
        "cv2.imwrite('x.png', np.asarray(im).astype(np.uint16))",
        "cv2.imwrite('x.jpg', np.asarray(im), [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])",
    ],
)
def test_what_is_out_of_the_ordinary_is_saved_at_once(session: SandboxSession, save: str) -> None:
    assert ran(session, f"im.save('y.png')\n{save}\nprint(waiting())").stdout == f"['{OUT}/y.png']\n"


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 50),
    mode=st.sampled_from(["L", "RGB", "RGBA"]),
    seed=st.integers(0, 99),
)
def test_any_picture_comes_back_exactly(sandbox: Sandbox, width: int, height: int, mode: str, seed: int) -> None:
    code = (
        "import numpy as np\nfrom PIL import Image\n"
        f"pixels = np.random.default_rng({seed}).integers(0, 256, ({height}, {width}, 4), np.uint8)\n"
        f"Image.fromarray(pixels, 'RGBA').convert('{mode}').save('x.png')\nprint('x.png')"
    )
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    (image,) = sandbox.run(code).images
    assert (image.mode, image.image.tobytes()) == (mode, Image.fromarray(pixels, "RGBA").convert(mode).tobytes())


@pytest.mark.parametrize("level", LEVELS)
def test_round_trip_brings_back_what_the_file_shows(level: str) -> None:
    code = (
        "from PIL import Image\nimport cv2\nim = Image.open(image_path)\nim.save('a.jpg', quality=20)\n"
        "cv2.imwrite('b.jpg', cv2.imread(image_path), [cv2.IMWRITE_JPEG_QUALITY, 20])\nprint('a.jpg', 'b.jpg')"
    )
    buffer = io.BytesIO()
    INPUT.image.save(buffer, "JPEG", quality=20)
    try:
        with Sandbox(isolation=level, round_trip=True) as sandbox:
            first, second = sandbox.run(code, INPUT).images
    except IsolationError as error:
        pytest.skip(str(error))
    assert first.image.tobytes() == Image.open(buffer).tobytes()
    assert second.image.tobytes() != INPUT.image.tobytes()


def test_threads_that_look_while_others_save(session: SandboxSession) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def work(n):\n"
        "    Image.new('RGB', (90, 70), (n, n, n)).save(f'{n}.png')\n"
        "    sizes = [os.stat(name).st_size for name in glob.glob(f'{n}.*')]\n"
        "    return Image.open(f'{n}.png').getpixel((3, 3))[0] == n and min(sizes) > 0\n"
        "with ThreadPoolExecutor(8) as pool:\n    print(all(pool.map(work, range(60))))"
    )
    assert ran(session, code).stdout == "True\n"


def test_looks_that_fail_go_on_failing_in_their_own_way(session: SandboxSession) -> None:
    """While something waits: no path at all, and a working folder that is gone."""
    code = (
        "im.save('a.png')\n"
        "looks = [lambda: os.stat(2.5), lambda: open(None), lambda: open('a\\0b'), lambda: os.stat('no')]\n"
        "looks += [lambda: os.remove('no'), lambda: os.stat(b'no'), lambda: os.stat(0).st_size]\n"
        "for look in looks:\n"
        "    try:\n        print(look())\n    except Exception as error:\n        print(repr(error))\n"
        "os.mkdir('d'); os.chdir('d'); os.rmdir('../d')\n"
        f"try:\n    im.save('b.png')\nexcept OSError as error:\n    print(type(error).__name__)\n"
        f"os.chdir('{OUT}')\nprint(len(waiting()), sorted(os.listdir('.')))\n"
    )
    assert ran(session, code).stdout.splitlines() == [
        "TypeError('stat: path should be string, bytes, os.PathLike or integer, not float')",
        "TypeError('expected str, bytes or os.PathLike object, not NoneType')",
        "ValueError('embedded null byte')",
        "FileNotFoundError(2, 'No such file or directory')",
        "FileNotFoundError(2, 'No such file or directory')",
        "FileNotFoundError(2, 'No such file or directory')",
        "0",
        "FileNotFoundError",
        "1 ['a.png']",
    ]


def test_full_disk_is_found_when_saving(sandbox: Sandbox) -> None:
    if sandbox.isolation != "namespaces":
        pytest.skip("a session's files have no file system of their own")
    code = (
        "from PIL import Image\nimport os\nnoise = Image.frombytes('RGB', (1000, 1000), os.urandom(3_000_000))\n"
        "for n in range(20):\n    noise.save(f'{n}.png')"
    )
    with Sandbox(isolation=sandbox.isolation, disk_mb=16, file_mb=8) as small, small.session() as session:
        execution = session.run(code)
        assert execution.error is not None
        assert "No space left" in execution.error.message
        assert (
            ran(session, "print(all(os.path.getsize(f'{k}.png') > 2_900_000 for k in range(n)), n)").stdout
            == "True 5\n"
        )


STEPS = {
    "save": "PICTURE.save(A, compress_level=1)",
    "save_jpeg": "PICTURE.save(A + '.jpg', quality=60)",
    "imwrite": "cv2.imwrite(A, np.asarray(PICTURE))",
    "draw": "PICTURE.paste(SHADE, (0, 0, 9, 9))",
    "open": "print(hashlib.md5(open(A, 'rb').read()).hexdigest())",
    "image": "print(hashlib.md5(Image.open(A).tobytes()).hexdigest(), Image.open(A).format)",
    "imread": "print(cv2.imread(A).sum())",
    "size": "print(os.path.getsize(A))",
    "exists": "print(os.path.exists(A), os.path.isfile(A), pathlib.Path(A).exists(), os.path.isdir(A))",
    "list": "print(sorted(os.listdir('.')), sorted(glob.glob('*')))",
    "scan": "print(sorted((e.name, e.is_dir() or e.stat().st_size) for e in os.scandir('.')))",
    "walk": "print(sorted(n for _, _, names in os.walk('.') for n in names))",
    "rename": "os.rename(A, B)",
    "replace": "os.replace(A, B)",
    "copy": "shutil.copy(A, B)",
    "remove": "os.remove(A)",
    "unlink": "pathlib.Path(A).unlink(missing_ok=True)",
    "truncate": "open(A, 'wb').close()",
    "append": "print(open(A, 'ab').write(b'more'))",
    "bytes": "b = io.BytesIO(); PICTURE.save(b, 'PNG', compress_level=1); open(A, 'wb').write(b.getvalue())",
    "reopen": "PICTURE = Image.open(A).convert('RGB')",
    "zip": "zipfile.ZipFile('z.zip', 'w').write(A); print(zipfile.ZipFile('z.zip').infolist()[0].file_size)",
    "folder": "os.makedirs('d', exist_ok=True); PICTURE.save('d/' + A, compress_level=1); os.rename('d', 'e')",
    "rmtree": "shutil.rmtree('e')",
}
STEP = st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(["ab", "ba"]), st.integers(0, 255))


def steps_code(steps: list[tuple[str, str, int]]) -> str:
    lines = [
        "import cv2, glob, hashlib, io, os, pathlib, shutil, zipfile\nimport numpy as np\nfrom PIL import Image\n"
        "PICTURE = Image.new('RGB', (23, 11), 77)"
    ]
    for name, (a, b), shade in steps:
        lines.append(
            f"A, B, SHADE = '{a}.png', '{b}.png', {shade}\ntry:\n    {STEPS[name]}\n"
            "except Exception as error:\n    print(type(error).__name__)"
        )
    return "\n".join([*lines, "print(sorted((n, os.path.getsize(n)) for n in os.listdir('.') if os.path.isfile(n)))"])


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, min_size=2, max_size=12))
def test_any_sequence_of_saves_and_looks_goes_as_in_a_plain_folder(
    sandbox: Sandbox, steps: list[tuple[str, str, int]]
) -> None:
    code, printed = steps_code(steps), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        exec(compile(code, "plain", "exec"), {})
        gc.collect(1)  # files that the code left open are closed while nobody is warned of them
    execution = sandbox.run(code)
    assert (execution.error, execution.stdout) == (None, printed.getvalue())
