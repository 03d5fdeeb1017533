"""Search a whole picture for the part that another picture shows.

A copy that was not resized is found by a few of its pixels. One that was is looked for at every scale, in pictures so
small that it is some twenty pixels wide, and followed from there to full size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thyme.eval.crops_pixels import PLAIN, Box, Picture, Pixels, fits, grey, rgb

Grey = NDArray[Any]
"""(height, width) uint8."""

PROBES: Final = 24
"""Pixels by which an exact copy is found."""
MOST_PLACES: Final = 256
"""Exact copies that are compared whole; where more begin alike, the place is not certain."""
TEMPLATE: Final = 26
"""Side of a square as large as the template of a resized copy, pixels."""
SMALLEST: Final = 24
"""Shortest side, in the picture and in the original, of a resized copy that is looked for, pixels."""
LARGEST_MAP: Final = 4_000_000
"""Pixels of the largest reduced picture that is searched for a resized copy."""
_OFF: Final = 1.0
"""Pixels of a template by which its ends may be off at the scale that comes closest."""
CANDIDATES: Final = 6
"""Places that are followed to full size."""
_ROWS: Final = 256
"""Rows of the original that are looked at together."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a picture was found."""

    box: Box
    filter: str
    certain: bool


def search(picture: Picture, original: Image.Image) -> Found | None:
    """Find a picture in another one, of which nothing else is known.

    Args:
        picture: Not flat.
        original: Of any mode.
    """
    pixels: Pixels = np.asarray(rgb(original))
    exact = _exact(picture, pixels)
    return exact or _resized(picture, original, pixels)


# --- copies as they are -----------------------------------------------------------------------------------------------


def _exact(picture: Picture, pixels: Pixels) -> Found | None:
    """A copy that was not resized."""
    width, height = picture.size
    if height > pixels.shape[0] or width > pixels.shape[1]:
        return None
    places: list[tuple[int, int]] = []
    begun = 0
    for top, left in _starts(picture.pixels, pixels):
        begun += 1
        if begun > MOST_PLACES:
            break
        if np.array_equal(pixels[top : top + height, left : left + width], picture.pixels):
            places.append((top, left))
        if len(places) > 1:
            break
    if not places:
        return None
    top, left = places[0]
    certain = len(places) == 1 and begun <= MOST_PLACES
    return Found((left, top, left + width, top + height), PLAIN, certain)


def _starts(shown: Pixels, pixels: Pixels) -> Iterator[tuple[int, int]]:
    """Top and left of the places where all probes have the right colour, in order."""
    height, width = shown.shape[:2]
    rows, columns = pixels.shape[0] - height + 1, pixels.shape[1] - width + 1
    probes = _probes(shown)
    y, x, color = probes[0]
    for first in range(0, rows, _ROWS):
        last = min(first + _ROWS, rows)
        window = pixels[first + y : last + y, x : x + columns]
        tops, lefts = np.nonzero(window[:, :, 1] == color[1])
        tops += first
        for y_next, x_next, wanted in probes:
            if not tops.size:
                break
            kept = (pixels[tops + y_next, lefts + x_next] == wanted).all(axis=1)
            tops, lefts = tops[kept], lefts[kept]
        yield from zip(tops.tolist(), lefts.tolist(), strict=True)


def _probes(shown: Pixels) -> list[tuple[int, int, Pixels]]:
    """Row, column and colour of the pixels to look for: the rarest level of green first, then any."""
    height, width = shown.shape[:2]
    green = shown[:, :, 1]
    counts = np.bincount(green[:: max(1, height // 256)].ravel(), minlength=256)
    rare = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
    y, x = np.argwhere(green == rare)[0]
    places = np.random.default_rng(0).random((PROBES - 1, 2)) * (height, width)
    return [(int(y), int(x), shown[y, x]), *((int(a), int(b), shown[int(a), int(b)]) for a, b in places)]


# --- resized copies ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Guess:
    """A box that may be the one, in pixels of the original, not yet whole ones."""

    likeness: float
    left: float
    top: float
    width: float
    height: float
    step: float
    """Pixels of the original for one of the picture it was found in."""

    def near(self, other: _Guess) -> bool:
        """Whether both are about the same box."""
        reach = 0.1 * min(self.width, other.width) + 1
        middle = abs(self.left + self.width / 2 - other.left - other.width / 2) < reach
        return middle and abs(self.top + self.height / 2 - other.top - other.height / 2) < reach


def _resized(picture: Picture, original: Image.Image, pixels: Pixels) -> Found | None:
    """A copy that was enlarged or reduced in both directions alike."""
    if min(*picture.size, *original.size) < SMALLEST:
        return None
    shown, whole = grey(picture.pixels), grey(pixels)
    boxes: list[tuple[Box, str]] = []
    for guess in _guesses(shown, whole):
        box = _settled(shown, whole, _followed(shown, whole, guess))
        found = fits(picture, original, box)
        if found is not None:
            boxes.append((box, found))
    if not boxes:
        return None
    box, filter = boxes[0]
    alone = all(_same(box, other) for other, _ in boxes[1:])
    return Found(box, filter, alone and not _repeats(picture, original, shown, whole, box))


def _repeats(picture: Picture, original: Image.Image, shown: Grey, whole: Grey, box: Box) -> bool:
    """Whether a picture fits in another place close by, too, as in a pattern whose period is short."""
    import cv2

    step = max(1.0, min(box[2] - box[0], box[3] - box[1]) / (4 * TEMPLATE))
    reach = round(0.25 * min(box[2] - box[0], box[3] - box[1])) + 2
    left, top = max(0, box[0] - reach), max(0, box[1] - reach)
    window = whole[top : box[3] + reach, left : box[2] + reach]
    field = cv2.resize(window, _reduced(window.shape[1], window.shape[0], step), interpolation=cv2.INTER_AREA)
    size = _reduced(box[2] - box[0], box[3] - box[1], step)
    likeness = cv2.matchTemplate(field, cv2.resize(shown, size, interpolation=cv2.INTER_AREA), cv2.TM_CCOEFF_NORMED)
    likeness = np.nan_to_num(np.asarray(likeness, np.float32), nan=-1.0, posinf=-1.0)
    likeness[likeness < cv2.dilate(likeness, np.ones((3, 3), np.uint8))] = -1  # what is left are peaks
    for _, x, y in _peaks(np.asarray(likeness, np.float32), 1, CANDIDATES):
        moved = round(left + x * step) - box[0], round(top + y * step) - box[1]
        guess = _Guess(1.0, box[0] + moved[0], box[1] + moved[1], box[2] - box[0], box[3] - box[1], step / 2)
        other = _settled(shown, whole, guess)
        if not _same(box, other) and fits(picture, original, other) is not None:
            return True
    return False


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes differ by no more than what cannot be told apart."""
    slack = 2 + 0.02 * (one[2] - one[0])
    return all(abs(a - b) <= slack for a, b in zip(one, other, strict=True))


def _guesses(shown: Grey, whole: Grey) -> list[_Guess]:
    """The likeliest places over all scales, no two of them about the same."""
    height, width = shown.shape
    smallest = max(SMALLEST / min(width, height), _finest(whole) * TEMPLATE / _side(shown))
    ratio = _ratio(shown)
    scale = min(whole.shape[0] / height, whole.shape[1] / width)
    found: list[_Guess] = []
    halved = _halved(whole)
    while scale >= smallest:
        found += _at_scale(shown, halved, scale)
        scale /= ratio
    chosen: list[_Guess] = []
    for guess in sorted(found, key=lambda guess: -guess.likeness):
        if not any(guess.near(other) for other in chosen):
            chosen.append(guess)
        if len(chosen) == CANDIDATES:
            break
    return chosen


def _side(shown: Grey) -> float:
    """Side of a square as large as a picture, pixels."""
    return float(np.sqrt(shown.size))


def _ratio(shown: Grey) -> float:
    """From one scale to the next: the longer a template, the smaller."""
    return 1 + 2 * _OFF * _side(shown) / float(TEMPLATE * max(shown.shape))


def _finest(whole: Grey) -> float:
    """By how much an original has to be reduced before it is searched."""
    return float(max(1.0, np.sqrt(whole.size / LARGEST_MAP)))


def _halved(whole: Grey) -> list[Grey]:
    """A picture at full size, at half, at a quarter, and so on."""
    import cv2

    levels = [whole]
    while min(levels[-1].shape) >= 2 * TEMPLATE:
        height, width = levels[-1].shape
        levels.append(cv2.resize(levels[-1], _reduced(width, height, 2), interpolation=cv2.INTER_AREA))
    return levels


def _at_scale(shown: Grey, halved: list[Grey], scale: float) -> list[_Guess]:
    """The likeliest places of a copy that is `scale` times as large in the original."""
    import cv2

    height, width = shown.shape
    step = scale * _side(shown) / TEMPLATE
    template = cv2.resize(shown, _reduced(width, height, step / scale), interpolation=cv2.INTER_AREA)
    level = halved[min(len(halved) - 1, int(np.log2(max(1.0, step))))]
    size = _reduced(halved[0].shape[1], halved[0].shape[0], step)
    field = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
    if template.shape[0] > field.shape[0] or template.shape[1] > field.shape[1]:
        return []
    likeness = cv2.matchTemplate(field, template, cv2.TM_CCOEFF_NORMED)
    return [
        _Guess(value, left * step, top * step, width * scale, height * scale, step)
        for value, left, top in _peaks(np.asarray(likeness, np.float32), TEMPLATE // 4)
    ]


def _peaks(likeness: NDArray[np.float32], reach: int, count: int = 3) -> Iterator[tuple[float, int, int]]:
    """Value, column and row of the highest places that are `reach` apart."""
    import cv2

    rest = np.nan_to_num(likeness, nan=-1.0, posinf=-1.0)
    for _ in range(count):
        _, value, _, (left, top) = cv2.minMaxLoc(rest)
        if value < 0.5:
            return
        yield value, left, top
        rest[max(0, top - reach) : top + reach + 1, max(0, left - reach) : left + reach + 1] = -1


def _reduced(width: int, height: int, step: float) -> tuple[int, int]:
    return max(1, round(width / step)), max(1, round(height / step))


def _followed(shown: Grey, whole: Grey, guess: _Guess) -> _Guess:
    """The guess at finer and finer steps, until its box is compared at some hundred pixels."""
    while guess.step > 1 and np.sqrt(guess.width * guess.height) / guess.step < 6 * TEMPLATE:
        guess = _finer(shown, whole, guess, max(1.0, guess.step / 2))
    return guess


def _finer(shown: Grey, whole: Grey, guess: _Guess, step: float) -> _Guess:
    """The best box around a guess, at another step; slightly larger and smaller ones are tried, too."""
    import cv2

    spread = 1 + 1.5 * _OFF * guess.step / max(guess.width, guess.height)
    margin = 2 * guess.step + (spread - 1) * max(guess.width, guess.height)
    left, top = max(0, int(guess.left - margin)), max(0, int(guess.top - margin))
    right, bottom = int(guess.left + guess.width + margin) + 1, int(guess.top + guess.height + margin) + 1
    window = whole[top:bottom, left:right]
    field = cv2.resize(window, _reduced(window.shape[1], window.shape[0], step), interpolation=cv2.INTER_AREA)
    best = guess
    for exponent in np.linspace(-1, 1, 9):
        width, height = guess.width * spread**exponent, guess.height * spread**exponent
        template = cv2.resize(shown, _reduced(round(width), round(height), step), interpolation=cv2.INTER_AREA)
        if template.shape[0] > field.shape[0] or template.shape[1] > field.shape[1]:
            continue
        _, value, _, place = cv2.minMaxLoc(cv2.matchTemplate(field, template, cv2.TM_CCOEFF_NORMED))
        if value > best.likeness or best is guess:
            best = _Guess(value, left + place[0] * step, top + place[1] * step, width, height, step)
    return best


def _settled(shown: Grey, whole: Grey, guess: _Guess) -> Box:
    """Whole pixels: edge after edge is moved while that makes the box more alike."""
    height, width = whole.shape
    edges = [guess.left, guess.top, guess.left + guess.width, guess.top + guess.height]
    box = [min(max(round(edge), 0), limit) for edge, limit in zip(edges, (width, height) * 2, strict=True)]
    template = _compared(shown)
    least = _unlike(template, whole, box)
    stride = max(1, round(2 * guess.step))
    while stride >= 1:
        moved = False
        for move in _moves(stride):
            tried = [edge + way for edge, way in zip(box, move, strict=True)]
            apart = _unlike(template, whole, tried)
            if apart < least:
                box, least, moved = tried, apart, True
        if not moved:
            stride //= 2
    return box[0], box[1], box[2], box[3]


def _compared(shown: Grey) -> Grey:
    """The picture at a size at which boxes are compared."""
    import cv2

    factor = max(1.0, max(shown.shape) / 256)
    return cv2.resize(shown, _reduced(shown.shape[1], shown.shape[0], factor), interpolation=cv2.INTER_AREA)


def _moves(stride: int) -> Iterator[tuple[int, int, int, int]]:
    """The whole box, and each of its edges, by `stride` pixels."""
    for way in (stride, -stride):
        yield way, 0, way, 0
        yield 0, way, 0, way
        yield way, 0, 0, 0
        yield 0, way, 0, 0
        yield 0, 0, way, 0
        yield 0, 0, 0, way


def _unlike(template: Grey, whole: Grey, box: list[int]) -> float:
    """Mean square of the difference of a box and the template; infinite beyond the edges of the original."""
    import cv2

    left, top, right, bottom = box
    if not (0 <= left < right <= whole.shape[1] and 0 <= top < bottom <= whole.shape[0]):
        return float("inf")
    part = whole[top:bottom, left:right]
    size = (template.shape[1], template.shape[0])
    reduces = part.shape[0] > template.shape[0]
    apart = cv2.resize(part, size, interpolation=cv2.INTER_AREA if reduces else cv2.INTER_LINEAR).astype(np.float32)
    apart -= template
    return float(cv2.norm(apart, cv2.NORM_L2SQR) / apart.size)
