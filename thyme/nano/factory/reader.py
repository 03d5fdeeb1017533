"""Reads pictures of the embedded world exactly, by their pixels: what every plate says, also turned or nearly grey.

It is what the rule-based teacher sees with, and how its checker knows the truth: neither is told anything by the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thyme.nano.world import CHARACTERS, COLORS, LARGE_TEXT, SIDE, SMALL_TEXT, Plate, draw_plate, ink_of, turned

Pixels = NDArray[Any]

SIZES: Final = tuple(low + (high - low) * step / 8 for low, high in (SMALL_TEXT, LARGE_TEXT) for step in range(9))
"""Font sizes that labels may have, pixels."""
_CLEAR = 100
"""Levels from middle grey that pixels of a picture of full contrast reach."""
_SHARES = np.arange(0.02, 0.4, 0.0001)
"""Shares of the contrast that a picture may have."""
_LEAST_CHROMA = 3
"""Least difference of the channels of a plate in the faintest picture, levels."""
_LEAST_PIXELS = 300
"""Of the smallest face."""
_FULL = 0.4
"""Least share of its bounding box that a plate's face fills; edges of letters that look like a colour fill less."""
_STRIP = 6
"""Width of the border that no plate reaches, pixels."""
_COARSE = 4
"""To find plates, one pixel in so many is looked at, across and down."""
_COLORS = np.array(list(COLORS.values()), np.float64)

_ARITHMETIC = re.compile(r"\d+(?: [-+*] \d+)+")
_COLOR = re.compile(rf"\b({'|'.join(COLORS)})\b")


@dataclass(frozen=True)
class Sight:
    """What a picture shows."""

    plates: dict[str, Plate]
    """By colour; where they lie in the upright scene."""
    widths: dict[str, int]
    """Of the faces, pixels; by colour."""
    angle: int
    """Degrees counter-clockwise by which the scene is turned."""
    contrast: float
    """Share of the full contrast."""


def read_picture(image: Image.Image) -> Sight:
    """Read a scene, whole, as the world draws it or as scenarios prepare it.

    Args:
        image: RGB, 1024 x 1024 px.

    Raises:
        ValueError: It is no scene of this world.
    """
    if image.size != (SIDE, SIDE):
        raise ValueError(f"a scene is {SIDE} x {SIDE} pixels, not {image.width} x {image.height}")
    angle = _angle(np.asarray(image.convert("L")))
    pixels = np.asarray(turned(image.convert("RGB"), (360 - angle) % 360))
    contrast = _contrast(pixels)
    faces = dict(_faces(pixels, contrast))
    plates = {color: _read(pixels, color, box, contrast) for color, box in faces.items()}
    return Sight(plates, {color: box[2] - box[0] for color, box in faces.items()}, angle, contrast)


def face_width(image: Image.Image, color: str) -> int:
    """Width of a plate's face, its border left out: pixels from the first to the last that have its colour exactly."""
    same = (np.asarray(image.convert("RGB")) == COLORS[color]).all(-1).any(0).nonzero()[0]
    return int(same[-1] - same[0] + 1)


def asked_colors(question: str) -> list[str]:
    """Colours that a question names, in order."""
    return _COLOR.findall(question)


def true_answer(question: str, sight: Sight | None) -> str | None:
    """What is right, worked out from question and picture; None where the picture does not show what is asked for."""
    if sight is None:
        expression = expression_of(question)
        return None if expression is None else str(_value(expression))
    colors = asked_colors(question)
    if not colors or any(color not in sight.plates for color in colors):
        return None
    if question.startswith("How wide"):
        return str(sight.widths[colors[0]])
    return " ".join(sight.plates[color].label for color in colors)


def expression_of(question: str) -> str | None:
    """The expression that a question is about; None where it is about none."""
    found = _ARITHMETIC.search(question)
    return found.group() if found else None


def _value(expression: str) -> int:
    """Products before sums, from the left."""
    total = 0
    for sign, term in re.findall(r"(^|[-+]) ?(\d+(?: \* \d+)*)", expression):
        product = 1
        for factor in term.split(" * "):
            product *= int(factor)
        total += -product if sign == "-" else product
    return total


def _angle(grey: Pixels) -> int:
    """The background is light above; its border holds no plate."""
    sides = {0: grey[:_STRIP], 90: grey[:, :_STRIP], 180: grey[-_STRIP:], 270: grey[:, -_STRIP:]}
    return max(sides, key=lambda angle: float(sides[angle].mean()))


def _contrast(pixels: Pixels) -> float:
    """The share at which most pixels have exactly the colour of a plate."""
    if max(128 - int(pixels.min()), int(pixels.max()) - 128) > _CLEAR:
        return 1.0
    coarse = pixels[::_COARSE, ::_COARSE].reshape(-1, 3)
    colored = coarse[coarse.max(-1).astype(np.int16) - coarse.min(-1) >= _LEAST_CHROMA]
    if not len(colored):
        return 1.0
    found, counts = np.unique(_code(colored), return_counts=True)
    expected = _code(_palette(_SHARES))
    places = np.searchsorted(found, expected).clip(max=len(found) - 1)
    matched = np.where(found[places] == expected, counts[places], 0).sum(-1)
    best = np.nonzero(matched == matched.max())[0]
    return float(_SHARES[best[len(best) // 2]])


def _palette(shares: Pixels) -> Pixels:
    """(shares, colours, 3): what paling makes of the colours of plates; it rounds down."""
    return np.asarray(np.floor(128 + (_COLORS - 128) * np.reshape(shares, (-1, 1, 1)) + 1e-9))


def _code(colors: Pixels) -> Pixels:
    """One number a colour."""
    parts = colors.astype(np.int64)
    return np.asarray(parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2])


def _faces(pixels: Pixels, contrast: float) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Colours of plates, and where their faces lie: left, top, right, bottom."""
    coarse = _code(pixels[::_COARSE, ::_COARSE])
    for name, code in zip(COLORS, _code(_palette(np.array([contrast])))[0], strict=True):
        rows, columns = np.nonzero(coarse == code)
        if len(rows) < _LEAST_PIXELS / _COARSE**2:
            continue
        (top, bottom), (left, right) = _extent(rows), _extent(columns)
        if len(rows) >= _FULL * (right - left) * (bottom - top):
            yield name, _closely(pixels, code, (left, top, right, bottom))


def _closely(pixels: Pixels, code: int, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The box of a face to the pixel, from the one that was found among every fourth."""
    left, top, right, bottom = (max(0, _COARSE * (v + by)) for v, by in zip(box, (-1, -1, 1, 1), strict=True))
    rows, columns = np.nonzero(_code(pixels[top:bottom, left:right]) == code)
    (upper, lower), (first, last) = _extent(rows), _extent(columns)
    return left + first, top + upper, left + last, top + lower


def _extent(places: Pixels) -> tuple[int, int]:
    """First place, and the one behind the last, of lines in which many pixels lie."""
    counts = np.bincount(places)
    full = np.nonzero(counts >= counts.max() / 4)[0]
    return int(full[0]), int(full[-1]) + 1


def _read(pixels: Pixels, color: str, face: tuple[int, int, int, int], contrast: float) -> Plate:
    left, top, right, bottom = face
    size = min(SIZES, key=lambda size: abs(_face(2.2, size) - (right - left)) + abs(_face(1.5, size) - (bottom - top)))
    x, y = (left + right - 1) / 2, (top + bottom - 1) / 2
    fill = 128 + (np.array(COLORS[color], np.float32) - 128) * contrast
    line = 128 + (np.array(ink_of(color), np.float32) - 128) * contrast - fill
    around = _cut(pixels, round(x), round(y), size)
    marked = np.clip((around - fill) @ line / float(line @ line), 0, 1)
    label = "".join(_character(marked, size, place) for place in (0, 1))
    return Plate(color, label, x, y, size)


def _face(times: float, size: float) -> float:
    return times * size - 2 * max(1, round(size / 18))


def _cut(pixels: Pixels, x: int, y: int, size: float) -> Pixels:
    """The letters of a plate and two pixels around them."""
    wide, high = _reach(size)
    return pixels[y - high - 2 : y + high + 3, x - wide - 2 : x + wide + 3].astype(np.float32)


def _reach(size: float) -> tuple[int, int]:
    """How far letters go from the plate's centre, pixels."""
    return round(0.9 * size), round(0.5 * size)


def _character(marked: Pixels, size: float, place: int) -> str:
    """The character that differs least, moved by up to two pixels."""
    wide, high = _reach(size)
    edge = slice(0, wide) if place == 0 else slice(wide + 1, 2 * wide + 1)
    every = max(1, round(size / 24))  # letters of 24 pixels tell enough
    templates = _templates(size)[:, ::every, edge][:, :, ::every]
    least: list[tuple[float, int]] = []
    for dy in range(5):
        for dx in range(5):
            seen = marked[dy : dy + 2 * high + 1, dx + edge.start : dx + edge.stop][::every, ::every]
            apart = np.abs(templates - seen).mean((1, 2))
            least.append((float(apart.min()), int(apart.argmin())))
    return CHARACTERS[min(least)[1]]


@lru_cache(maxsize=len(SIZES))
def _templates(size: float) -> Pixels:
    """(characters, height, width): how much ink each of the characters leaves, at both places."""
    found = []
    wide, high = _reach(size)
    for character in CHARACTERS:
        side = 2 * round(1.2 * size) + 1
        canvas = Image.new("RGB", (side, side))
        draw_plate(canvas, Plate("red", 2 * character, side // 2, side // 2, size))
        inked = np.asarray(canvas, np.float32)[:, :, 1]  # green: 30 of the face, 255 of the letters
        middle = side // 2
        part = inked[middle - high : middle + high + 1, middle - wide : middle + wide + 1]
        found.append(np.clip((part - 30) / 225, 0, 1))
    return np.stack(found)
