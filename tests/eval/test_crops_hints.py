"""Boxes are read off code without running it, through names, arithmetic, sizes and slices; no code hangs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.eval.crops_hints import MOST_BOXES, Hints
from thyme.types import Execution, Repair

SIZE = (640, 480)
OPEN = "from PIL import Image\nimage = Image.open(image_path)\n"


def boxes(
    *blocks: str, image: int = 0, sizes: tuple[tuple[int, int], ...] = (SIZE,)
) -> list[tuple[int, int, int, int]]:
    hints = Hints(sizes)
    for block in blocks:
        hints.read_code(block)
    return hints.boxes(image)


@pytest.mark.parametrize(
    ("code", "box"),
    [
        ("image.crop((10, 20, 110, 220)).save('a.png')", (10, 20, 110, 220)),
        ("box = (10, 20, 110, 220)\ncrop = image.crop(box)", (10, 20, 110, 220)),
        ("x, y = 300, 200\ncrop = image.crop((x - 96, y - 96, x + 96, y + 96))", (204, 104, 396, 296)),
        ("w, h = image.size\ncrop = image.crop((w // 2, int(h * 0.25), w, round(h / 2)))", (320, 120, 640, 240)),
        ("crop = image.crop((0.5 * image.width, 0, image.width - 1, image.height))", (320, 0, 639, 480)),
        ("crop = image.crop((-30, 400, 100, 900))", (0, 400, 100, 480)),
        ("crop = image.crop((110, 220, 10, 20))", (10, 20, 110, 220)),
        ("crop = image.crop((max(0, 5 - 9), min(480, 90), 70, 95))", (0, 90, 70, 95)),
        ("part = cv2.imread(image_path)[20:220, 10:110]", (10, 20, 110, 220)),
        ("a = np.array(image)\npart = a[-100:, :50, :]", (0, 380, 50, 480)),
        ("h, w = np.asarray(image).shape[:2]\npart = np.asarray(image)[h//2:, w//4:w//2]", (160, 240, 320, 480)),
        ("def zoom(img, box):\n    return img.crop(box)\nzoom(image, [10, 20, 110, 220])", (10, 20, 110, 220)),
        (
            "regions = [(1, 2, 31, 42), (5, 6, 70, 80)]\nfor i, r in enumerate(regions):\n    image.crop(r)",
            (1, 2, 31, 42),
        ),
        ("for x in (0, 320):\n    tile = image.crop((x, 0, x + 320, 240))", (320, 0, 640, 240)),
        ("if True:\n    with image as im:\n        c = im.crop((3, 4, 50, 60))", (3, 4, 50, 60)),
        ("x, y, w, h = 10, 20, 100, 200\nshow(image, x, y, w, h)\nshow(x, y, w, h)", (10, 20, 110, 220)),
        ("bbox = [0.25, 0.5, 0.75, 1.0]", (160, 240, 480, 480)),
        ("c = image.crop((100, 100, 400, 400))\nd = c.crop((10, 20, 60, 70))", (110, 120, 160, 170)),
        ("c = np.array(image)[100:400, 100:400]\nd = c[20:70, 10:60]", (110, 120, 160, 170)),
        ("try:\n    c = image.crop((7, 8, 90, 91))\nexcept Exception:\n    pass", (7, 8, 90, 91)),
    ],
)
def test_a_box_is_found_in_the_ways_that_code_has(code: str, box: tuple[int, int, int, int]) -> None:
    assert box in boxes(OPEN + code)


def test_variables_live_on_from_block_to_block() -> None:
    assert (204, 104, 396, 296) in boxes(OPEN + "x, y = 300, 200", "c = image.crop((x-96, y-96, x+96, y+96))")


def test_each_image_has_its_own() -> None:
    sizes = ((640, 480), (200, 100))
    code = "a = Image.open(image_paths[1])\nb = a.crop((50, 10, 900, 900))"
    assert boxes(code, image=1, sizes=sizes)[0] == (50, 10, 200, 100)
    code = "b = Image.open('/mnt/data/input/image_2.png')\nw, h = b.size\nb.crop((w - 5, h - 7, w, h))"
    assert (195, 93, 200, 100) in boxes(code, image=1, sizes=sizes)


def test_what_the_sandbox_noted_is_read_too() -> None:
    notes = (
        Repair(name="boundary", note="fitted the slice [20:480, 10:110] to the image of 640x480"),
        Repair(name="placebo", note="showed (1, 2, 31, 42) in place of (5, 6, 35, 46)"),
    )
    hints = Hints((SIZE,))
    hints.read(Execution(code="pass", repairs=notes))
    assert {(10, 20, 110, 480), (1, 2, 31, 42), (5, 6, 35, 46)} <= set(hints.boxes())


def test_the_latest_come_first_and_there_is_a_bound() -> None:
    many = OPEN + "\n".join(f"image.crop(({i}, {i}, {i + 9}, {i + 9}))" for i in range(100))
    found = boxes(many)
    assert len(found) == MOST_BOXES
    assert found[0] == (99, 99, 108, 108)


@pytest.mark.parametrize(
    "code",
    [
        "this is no Python",
        "x = (",
        "\0",
        "(" * 5000 + ")" * 5000,
        "x = " + "-" * 15000 + "1",
        "x = 1" + " + 1" * 4000,
        "\n".join(" " * i + f"for i{i} in range(9):" for i in range(60)),
        "v = (1, 2, 3, 4, 5, 6, 7, 8)\n"
        + "\n".join(" " * i + f"for i{i} in v:" for i in range(18))
        + "\n"
        + " " * 18
        + "f(i0)",
        "x = 9\n" + "x = x * x\n" * 2000,
        "v = (1, 2, 3, 4)\n" + "v = (v, v, v, v)\n" * 500,
        "image.crop((1 // 0, 1 % 0, 2, 3))\nimage.crop((1e400, 1e400, -1e400, 0))\nmax()\nint(1e300)\nimage[::2, 5]",
        "a = image_paths[10 ** 10]\nb = Image.open(image_paths[-7])\n(1, 2, 3)[9]",
    ],
)
def test_hostile_or_broken_code_ends_quickly_and_without_an_error(code: str) -> None:
    assert all(0 <= left < right <= 640 and 0 <= top < bottom <= 480 for left, top, right, bottom in boxes(OPEN + code))


@given(st.text(alphabet="xyi[](){}:,.=+-*/ 0123456789\n croplsizemaf", max_size=200))
def test_no_text_is_an_error(code: str) -> None:
    boxes(OPEN + code)
    boxes(code)
