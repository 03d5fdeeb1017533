"""Whatever comes in, as code or as pictures: a clear result or a clear error, and the session lives on."""

from __future__ import annotations

import io
import os
import resource
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thyme.errors import ImageError, IsolationError, UsageError
from thyme.images import load_image
from thyme.sandbox import Sandbox
from thyme.types import Execution

SIZES = "from PIL import Image\nprint(len(image_paths), sum(Image.open(path).width for path in image_paths))"
SHOWN = "from PIL import Image\ni = Image.open(image_path)\nprint(i.mode, i.size, i.getpixel((0, 0)))"


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    try:
        opened = Sandbox(isolation=request.param, timeout_s=20)
    except IsolationError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def stored(execution: Execution) -> Execution:
    """The same after a way through the store."""
    return Execution.model_validate_json(execution.model_dump_json())


# --- code


NUL = "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"
"""What Python says of a null byte."""


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        pytest.param("print(1)\n\0", NUL, "null bytes", id="nul"),
        pytest.param("x = 1\nprint('\ud800')", "SyntaxError", "U+D800 is a lone surrogate", id="surrogate"),
        pytest.param("x = 1\n" * 1_700_000, "CodeTooLong", "10200000 characters of code; at most 200000", id="10 MB"),
        pytest.param("(" * 5000 + ")" * 5000, "SyntaxError", "too many nested parentheses", id="nested"),
        pytest.param("x = " + "9" * 100_000, "SyntaxError", "Exceeds the limit", id="digits"),
        pytest.param("raise ValueError('\\ud800')", "ValueError", "?", id="surrogate in an error"),
        pytest.param("def f(:\n  pass", "SyntaxError", "invalid syntax", id="no Python"),
    ],
)
def test_code_that_cannot_run_is_a_result(sandbox: Sandbox, code: str, kind: str, message: str) -> None:
    with sandbox.session() as session:
        session.run("kept = 7")
        execution = session.run(code)
        assert execution.error is not None
        assert execution.error.type == kind
        assert message in execution.error.message
        assert len(execution.error.message) < 1000
        assert stored(execution).error == execution.error
        assert not execution.session_lost
        assert session.run("print(kept)").stdout == "7\n", "nothing is lost"


def test_a_lone_surrogate_is_found_by_its_line(sandbox: Sandbox) -> None:
    error = sandbox.run("x = 1\ny = 'é'\nprint('\ud800')").error
    assert error is not None
    assert error.line == 3


@pytest.mark.parametrize(
    "code", ["", "   \n\n\t", "# only\n# comments", "```python\n```", "\ufeff", b"", b"\xef\xbb\xbf"]
)
def test_code_without_anything_to_do_runs(sandbox: Sandbox, code: str | bytes) -> None:
    execution = sandbox.run(code)
    assert (execution.stdout, execution.error, execution.images) == ("", None, ())


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("print('\\ud800')", "?\n"),
        ("\ufeffprint(1)", "1\n"),
        (b"\xef\xbb\xbfprint('\xc3\xa9')", "é\n"),
        ("print(1)\rprint(2)\r\nprint(3)", "1\n2\n3\n"),
    ],
)
def test_unusual_text_runs(sandbox: Sandbox, code: str | bytes, stdout: str) -> None:
    execution = sandbox.run(code)
    assert (execution.stdout, execution.error) == (stdout, None)
    assert stored(execution).stdout == stdout


def test_bytes_that_are_not_utf_8_are_refused_by_place(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="the code is not UTF-8: byte 7 is 0xe9"):
        sandbox.run("print('é')".encode("latin-1"))
    with pytest.raises(UsageError, match="byte 4 is 0xff"):
        sandbox.run(b"\xef\xbb\xbf#\xff")
    with pytest.raises(UsageError, match="the code is a NoneType; give text"):
        sandbox.run(None)  # type: ignore[arg-type] # what a notebook hands over by mistake


# --- pictures


def test_no_picture(sandbox: Sandbox) -> None:
    assert sandbox.run("print(image_paths)").stdout == "[]\n"
    error = sandbox.run("print(image_path)").error
    assert error is not None
    assert (error.type, error.line) == ("NameError", 1)
    assert "image_path" in error.message


@pytest.mark.parametrize("count", [50, 200])
def test_many_pictures(sandbox: Sandbox, count: int) -> None:
    pictures = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(count)]
    assert sandbox.run(SIZES, pictures).stdout == f"{count} {count * 8}\n"


def test_more_pictures_than_a_session_takes(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="201 input images; a session takes at most 200"):
        sandbox.session(["never-opened.png"] * 201)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        pytest.param(encoded(Image.new("RGB", (1, 1), "red"), "PNG"), "RGB (1, 1) (255, 0, 0)", id="1x1"),
        pytest.param(
            encoded(Image.fromarray(np.full((3, 4), 65535, np.uint16)), "PNG"),
            "RGB (4, 3) (255, 255, 255)",
            id="16 bit",
        ),
        pytest.param(encoded(Image.new("CMYK", (4, 3), (0, 255, 255, 0)), "TIFF"), "RGB (4, 3) (255, 0, 0)", id="CMYK"),
        pytest.param(
            encoded(Image.new("L", (4, 3), 9), "GIF", save_all=True, append_images=[Image.new("L", (4, 3), 200)]),
            "RGB (4, 3) (9, 9, 9)",
            id="animated GIF",
        ),
        pytest.param(encoded(Image.new("RGBA", (4, 3), (255, 0, 0, 0)), "WEBP"), "RGB (4, 3)", id="transparent"),
        pytest.param(encoded(Image.new("1", (4, 3), 1), "BMP"), "RGB (4, 3) (255, 255, 255)", id="1 bit"),
    ],
)
def test_every_kind_of_picture_is_plain_to_the_code(sandbox: Sandbox, data: bytes, shown: str) -> None:
    execution = sandbox.run(SHOWN, data)
    assert execution.error is None
    assert execution.stdout.startswith(shown)


NOISE = encoded(Image.effect_noise((200, 200), 60), "JPEG")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(NOISE[:2000], "damaged or cut off", id="truncated JPEG"),
        pytest.param(b"once upon a time", "is not an image that can be read", id="text"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param("{}/text.png", "text.png is not an image that can be read", id="text named .png"),
        pytest.param("{}/missing.png", "missing.png: no such file", id="missing"),
        pytest.param("{}", "is a directory; name one image file in it", id="folder"),
        pytest.param("{}/fifo", "fifo is not a regular file", id="FIFO"),
        pytest.param("/dev/zero", "/dev/zero is not a regular file", id="device"),
        pytest.param("/proc/self/mem", "cannot be read", id="unreadable"),
        pytest.param("x" * 5000, "cannot be read", id="long name"),
        pytest.param("a\0b", "no such file", id="NUL"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, sandbox: Sandbox, source: str | bytes, message: str) -> None:
    (tmp_path / "text.png").write_text("once upon a time")
    os.mkfifo(tmp_path / "fifo")
    if isinstance(source, str):
        source = source.replace("{}", str(tmp_path))
    with pytest.raises(ImageError, match=message):
        sandbox.run("print(1)", source)
    assert sandbox.run("print(1)").stdout == "1\n"


def test_limits_of_pixels_are_kept_on_the_way_in_and_out(sandbox: Sandbox) -> None:
    """In: refused by the header alone, and the limit can be raised. Out: cut, and said so."""
    bomb = bytearray(encoded(Image.new("1", (1, 1)), "PNG"))
    bomb[16:24] = struct.pack(">II", 40_000, 40_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    with pytest.raises(ImageError, match=r"40000 x 40000 = 1,600,000,000 pixels, .* raise the limit with"):
        sandbox.run("print(1)", bomb)
    code = "from PIL import Image\nImage.new('L', (9000, 9000)).save('a.png')\nprint('a.png')"
    execution = sandbox.run(code)
    assert (execution.images, execution.truncated, execution.error) == ((), True, None)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_megapixels(tmp_path: Path, sandbox: Sandbox) -> None:
    """The picture of a telephone: as input it works, in bounded memory; as output it is cut, and said so."""
    Image.effect_noise((1632, 1224), 60).convert("RGB").resize((16320, 12240)).save(tmp_path / "big.jpg")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="more than the limit of 89,478,485"):
        load_image(tmp_path / "big.jpg")
    with sandbox.session(tmp_path / "big.jpg") as session:
        crop = session.run(
            "from PIL import Image\ni = Image.open(image_path)\nprint(i.size)\n"
            "i.crop((9000, 9000, 9400, 9300)).save('a.png')\nprint('a.png')"
        )
        assert (crop.error, crop.images[0].size) == (None, (400, 300))
        arrays = session.run("import cv2, numpy as np\nprint(cv2.imread(image_path).shape, np.asarray(i).shape)")
        assert arrays.stdout == "(12240, 16320, 3) (12240, 16320, 3)\n"
        whole = session.run("i.save('b.jpg')\nprint('b.jpg')")
        assert (whole.error, whole.images, whole.truncated) == (None, (), True)
        assert session.run("print(i.size)").stdout == "(16320, 12240)\n"
    taken_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert taken_mb < 4 * 800, "at most four times the pixels as they lie in memory"
