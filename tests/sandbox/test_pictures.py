"""Inputs inside the sandbox behave exactly as the same files do in a plain process, and nobody can change them."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from thyme.errors import IsolationError
from thyme.sandbox import Sandbox
from thyme.sandbox.facade import SandboxSession
from thyme.types import EXTENSIONS, ImageRecord

LEVELS = ("namespaces", "landlock")
WIDTH, HEIGHT = 61, 43


def scene(mode: str = "RGB") -> Image.Image:
    """Smooth, with edges and noise, so that every decoder has something to do."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(3).integers(0, 40, (HEIGHT, WIDTH, 4))
    channels = np.stack([x * 4, y * 5, (x // 7 + y // 5) % 2 * 180, 255 - x * 2], axis=-1) + noise
    picture = Image.fromarray(channels.clip(0, 255).astype(np.uint8), "RGBA")
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)  # type: ignore[arg-type]  # options differ from format to format
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = orientation, "a sign"
    return tags.tobytes()


def with_text_behind(data: bytes) -> bytes:
    """A PNG file whose comment stands behind its pixels, where it is only found by loading them."""
    body = b"tEXtComment\0late"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:-12] + chunk + data[-12:]


def text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "early")
    return info


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(scene(), "JPEG", quality=88, dpi=(72, 72), comment=b"hello", exif=exif(1)),
    "jpeg_progressive": lambda: encoded(scene(), "JPEG", progressive=True, subsampling=0, icc_profile=b"x" * 50),
    "jpeg_halved": lambda: encoded(scene(), "JPEG", subsampling=1, quality=40),
    "jpeg_grey": lambda: encoded(scene("L"), "JPEG"),
    "jpeg_cmyk": lambda: encoded(scene("CMYK"), "JPEG"),
    "jpeg_turned": lambda: encoded(scene(), "JPEG", exif=exif(6)),
    "png": lambda: with_text_behind(encoded(scene(), "PNG", pnginfo=text(), dpi=(96, 96))),
    "png_alpha": lambda: encoded(scene("RGBA"), "PNG"),
    "png_grey": lambda: encoded(scene("L"), "PNG", transparency=9),
    "png_bits": lambda: encoded(scene("1"), "PNG"),
    "png_palette": lambda: encoded(scene("P"), "PNG", transparency=3),
    "png_16": lambda: encoded(scene("L").convert("I;16"), "PNG"),
    "gif": lambda: encoded(scene("P"), "GIF"),
    "bmp": lambda: encoded(scene(), "BMP"),
    "webp": lambda: encoded(scene(), "WEBP", quality=70),
    "webp_alpha": lambda: encoded(scene("RGBA"), "WEBP", lossless=True),
    "tiff": lambda: encoded(scene(), "TIFF", compression="tiff_lzw"),
}


def record(name: str) -> ImageRecord:
    data = FILES[name]()
    picture = Image.open(io.BytesIO(data))
    picture.load()
    assert picture.format is not None
    return ImageRecord.of(picture, format=picture.format, encoded=data)


@pytest.fixture(scope="module", params=LEVELS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox without repairs, so that errors are Python's own."""
    try:
        with Sandbox(isolation=request.param, repairs=(), timeout_s=20) as found:
            yield found
    except IsolationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def session(sandbox: Sandbox) -> Iterator[SandboxSession]:
    """A session whose inputs are all of `FILES`, in their order."""
    with sandbox.session([record(name) for name in FILES]) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same files for a plain process."""
    folder = tmp_path_factory.mktemp("files")
    for index, name in enumerate(FILES):
        (folder / f"image_{index + 1}.{EXTENSIONS[record(name).format]}").write_bytes(FILES[name]())
    return [str(path) for path in sorted(folder.iterdir(), key=lambda path: int(path.stem.split("_")[1]))]


def plainly(code: str, files: list[str]) -> str:
    """What the code prints without a sandbox."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "plain", "exec"), {"image_paths": files})
        gc.collect(1)  # files that the code left open are closed while nobody is warned of them
    return printed.getvalue()


PRELUDE = """
import copy, hashlib, io, pickle
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFile, ImageMath, ImageOps, ImageSequence

def value(im):
    bands = len(im.getbands())
    return 7 if bands == 1 else tuple(range(7, 7 + bands))

def show(im):
    pixels = hashlib.md5(im.tobytes()).hexdigest()
    info = {k: v for k, v in im.info.items() if k != 'exif'}
    palette = hashlib.md5(bytes(im.getpalette())).hexdigest() if im.mode == 'P' else None
    return type(im).__name__, im.format, im.mode, im.size, info, pixels, palette

def attempt(f):
    try:
        return f()
    except Exception as error:
        return type(error).__name__, str(error)[:60].replace(image_path, 'PATH')

def set_pixel(im):
    im.load()[3, 2] = value(im)
    return im.load()[3, 2]

def turn(im):
    px = im.load()
    before = px[1, 1]
    im.putpixel((1, 1), value(im))
    return before, im.getpixel((1, 1))

def closed(im):
    with im:
        return im.size

def written(im):
    array = np.array(im)
    array[:2] = 0
    return array.sum(), np.asarray(im).sum()

OPERATIONS = {
    'load': lambda im: im.load()[1, 2],
    'set_pixel': set_pixel,
    'turn': turn,
    'putpixel': lambda im: im.putpixel((2, 1), value(im)),
    'paste': lambda im: im.paste(value(im), (0, 0, 9, 4)),
    'draw': lambda im: ImageDraw.Draw(im).line((0, 0, 20, 9), fill=value(im)),
    'thumbnail': lambda im: im.thumbnail((20, 20)),
    'draft': lambda im: im.draft('L', (20, 20)),
    'draft_same': lambda im: im.draft('RGB', (60, 40)),
    'shrink': lambda im: show(im.resize((10, 7), reducing_gap=2.0)),
    'convert': lambda im: show(im.convert('L')),
    'convert_same': lambda im: show(im.convert(im.mode)),
    'verify': lambda im: im.verify(),
    'close': lambda im: im.close(),
    'with': closed,
    'pickle': lambda im: show(pickle.loads(pickle.dumps(im))),
    'deepcopy': lambda im: show(copy.deepcopy(im)),
    'copy_draw': lambda im: ImageDraw.Draw(im.copy()).rectangle((0, 0, 9, 9), fill=value(im)),
    'exif': lambda im: dict(im.getexif()),
    'seek': lambda im: im.seek(0),
    'seek_on': lambda im: im.seek(1),
    'frames': lambda im: [show(frame) for frame in ImageSequence.Iterator(im)],
    'crop': lambda im: show(im.crop((5, 5, 30, 20))),
    'rotate': lambda im: show(im.rotate(30, expand=True)),
    'frombytes': lambda im: im.frombytes(bytes(len(im.tobytes()))),
    'putalpha': lambda im: im.putalpha(100),
    'putdata': lambda im: im.putdata([value(im)] * 50),
    'putpalette': lambda im: im.putpalette(list(range(256)) * 3),
    'array': written,
    'quantize': lambda im: show(im.quantize(4)),
    'split': lambda im: [band.getextrema() for band in im.split()],
    'transposed': lambda im: show(ImageOps.exif_transpose(im)),
    'transpose_here': lambda im: ImageOps.exif_transpose(im, in_place=True),
    'invert': lambda im: show(ImageChops.invert(im)),
    'composite': lambda im: im.alpha_composite(Image.new('RGBA', (9, 9), (1, 2, 3, 100))),
    'math': lambda im: show(ImageMath.lambda_eval(lambda a: a['x'] + 1, x=im)),
    'getim': lambda im: type(im.getim()).__name__,
    'tell': lambda im: im.tell(),
    'state': lambda im: (im.tile == [], im.fp is None, im.is_animated if im.format != 'JPEG' else None),
    'save': lambda im: im.save(io.BytesIO(), 'PNG'),
    'histogram': lambda im: hashlib.md5(repr(im.histogram()).encode()).hexdigest(),
    'transparency': lambda im: im.apply_transparency(),
}
"""

SEQUENCE = """
image_path = image_paths[{index}]
with open(image_path, 'rb') as file:
    im = Image.open(image_path if {by_name} else file)
    for name in {names!r}:
        print(name, attempt(lambda: OPERATIONS[name](im)))
    print(attempt(lambda: show(im)))
print(attempt(lambda: show(Image.open(image_path))))
"""

NAMES = [line.split("'")[1] for line in PRELUDE.splitlines() if line.startswith("    '")]


@settings(max_examples=120, deadline=None)
@given(
    index=st.integers(0, len(FILES) - 1),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    by_name=st.booleans(),
)
def test_any_operations_give_what_they_give_on_the_real_file(
    session: SandboxSession, files: list[str], index: int, names: list[str], by_name: bool
) -> None:
    code = SEQUENCE.format(index=index, names=names, by_name=by_name)
    execution = session.run(PRELUDE + code)
    assert (execution.error, execution.session_lost) == (None, False)
    assert execution.stdout == plainly(PRELUDE + code, files)


def test_every_operation_on_every_file(session: SandboxSession, files: list[str]) -> None:
    """Each alone, and what the next one to open the file sees."""
    for start in range(0, len(FILES), 3):
        code = PRELUDE + "".join(
            f"image_path = image_paths[{index}]\n"
            "for name in OPERATIONS:\n"
            "    im = Image.open(image_path)\n"
            "    found = attempt(lambda: OPERATIONS[name](im)), attempt(lambda: show(im))\n"
            "    print(name, hashlib.md5(repr(found).encode()).hexdigest()[:8])\n"
            "print(attempt(lambda: show(Image.open(image_path))))\n"
            for index in range(start, min(start + 3, len(FILES)))
        )
        assert session.run(code).stdout == plainly(code, files)


COUNTED = """
from PIL import Image, ImageFile
original, decoded = Image._getdecoder, []

def counting(mode, name, *args):
    if name != 'given':
        decoded.append(name)
    return original(mode, name, *args)

Image._getdecoder = counting
for path in image_paths:
    decoded.clear()
    for _ in range(3):
        im = Image.open(path)
        im.putpixel((0, 0), im.getpixel((1, 1)))
        Image.open(path).tobytes()
    print(len(decoded))
"""


def test_pixels_are_decoded_once_or_not_at_all(sandbox: Sandbox) -> None:
    names = ["jpeg", "jpeg_grey", "png", "png_alpha", "bmp", "webp", "webp_alpha", "jpeg_cmyk", "png_palette", "png_16"]
    with sandbox.session([record(name) for name in names]) as session:
        assert session.run(COUNTED).stdout.split() == ["0"] * 7 + ["1"] * 3


@pytest.mark.parametrize(
    "flags", ["", ", cv2.IMREAD_COLOR", ", flags=1", ", 0", ", -1", ", cv2.IMREAD_COLOR_RGB", ", 2"]
)
def test_opencv_reads_what_it_reads_from_the_real_file(session: SandboxSession, files: list[str], flags: str) -> None:
    code = (
        "import cv2, hashlib\n"
        "for path in image_paths:\n"
        f"    array = cv2.imread(path{flags})\n"
        "    print(None if array is None else (array.shape, array.dtype, array.flags.writeable, "
        "array.flags.c_contiguous, hashlib.md5(array.tobytes()).hexdigest()))\n"
        "    if array is not None:\n        array[:] = 0\n"
        f"    print(None if array is None else cv2.imread(path{flags}).sum())"
    )
    execution = session.run(code)
    assert execution.error is None
    assert execution.stdout == plainly(code, files)


@pytest.mark.parametrize(
    "read",
    [
        "open(path, 'rb').read()",
        "np.fromfile(path, np.uint8).tobytes()",
        "pathlib.Path(path).read_bytes()",
        "np.memmap(path, mode='r').tobytes()",
        "os.read(os.open(path, os.O_RDONLY), 1 << 20)",
        "plt.imread(path).tobytes()",
        "skimage.io.imread(path).tobytes()",
        "np.asarray(Image.open(path)).tobytes()",
        "cv2.imdecode(np.fromfile(path, np.uint8), 1)",
        "Image.open(io.BytesIO(open(path, 'rb').read())).tobytes()",
    ],
)
def test_other_readers_see_the_real_file(session: SandboxSession, files: list[str], read: str) -> None:
    modules = ["cv2", "hashlib", "io", "os", "pathlib"]
    for name, module in (("plt.", "matplotlib.pyplot as plt"), ("skimage.", "skimage.io")):
        if read.startswith(name):
            pytest.importorskip(module.split(" ")[0])
            modules.append(module)
    code = (
        f"import {', '.join(modules)}\nimport numpy as np\nfrom PIL import Image\nfor path in image_paths[:4]:\n"
        f"    found = {read}\n    data = found if isinstance(found, bytes) else found.tobytes()\n"
        "    print(hashlib.md5(data).hexdigest())"
    )
    execution = session.run(code)
    assert execution.error is None
    assert execution.stdout == plainly(code, files)


def test_pixels_cannot_be_written_even_on_purpose(session: SandboxSession) -> None:
    """The memory is read-only to Python as well; a copy of it is not."""
    code = (
        "from PIL import Image\nimport numpy as np\nim = Image.open(image_paths[0])\nim.getpixel((0, 0))\n"
        "print(im.readonly)\n"
        "try:\n    np.asarray(im)[0, 0] = 1\nexcept ValueError as error:\n    print(error)\n"
        "im.putpixel((0, 0), (1, 2, 3))\n"
        "print(im.readonly, im.getpixel((0, 0)) == Image.open(image_paths[0]).getpixel((0, 0)))"
    )
    assert session.run(code).stdout.splitlines() == ["1", "assignment destination is read-only", "0 False"]


def test_draft_and_thumbnail_decode_for_real(sandbox: Sandbox) -> None:
    """At another scale than the given pixels have, a decoder gives other pixels than resizing does."""
    big = scene().resize((800, 600))
    data = encoded(big, "JPEG")
    decoded = Image.open(io.BytesIO(data))
    decoded.load()
    expected = Image.open(io.BytesIO(data))
    expected.thumbnail((90, 90))
    code = (
        "from PIL import Image\nimport hashlib\nim = Image.open(image_path)\nim.thumbnail((90, 90))\n"
        "print(im.size, hashlib.md5(im.tobytes()).hexdigest())"
    )
    with sandbox.session(ImageRecord.of(decoded, format="JPEG", encoded=data)) as session:
        assert session.run(code).stdout == f"{expected.size} {hashlib.md5(expected.tobytes()).hexdigest()}\n"


def test_two_sessions_and_two_inputs_share_what_is_the_same(sandbox: Sandbox) -> None:
    image = record("jpeg")
    code = (
        "from PIL import Image, ImageDraw\na, b = map(Image.open, image_paths)\nbefore = b.tobytes()\n"
        "ImageDraw.Draw(a).rectangle((0, 0, 60, 42), fill='red')\n"
        "print(b.tobytes() == before == Image.open(image_path).tobytes(), a.getpixel((3, 3)))"
    )
    with sandbox.session([image, image]) as first, sandbox.session([image, image]) as second:
        assert [first.run(code).stdout, second.run(code).stdout] == ["True (255, 0, 0)\n"] * 2
        assert first.run(code).stdout == "True (255, 0, 0)\n"


def test_truncated_file_fails_as_it_does_outside(sandbox: Sandbox, tmp_path: Path) -> None:
    """The record's pixels are not what this file shows, and must not hide that."""
    data = encoded(scene(), "JPEG")[:-400]
    code = "from PIL import Image\ntry:\n    Image.open(image_path).load()\nexcept OSError as error:\n    print(error)"
    with sandbox.session() as session:
        session.run(f"open('cut.jpg', 'wb').write({data!r})\nimage_path = 'cut.jpg'")
        assert "truncated" in session.run(code).stdout
