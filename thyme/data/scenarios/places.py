"""Which part of a picture another one shows, whatever was done to its brightness and contrast: by its pixels.

Boxes that the code speaks of are tried first; then the picture is searched at every scale. What was turned, drawn on or
is of one colour has no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thyme.data.drafts import Draft
from thyme.data.scenarios.boxes import Box, inside
from thyme.data.scenarios.spoken import spoken_boxes
from thyme.data.scenarios.written import code_of, executions

Grey: TypeAlias = NDArray[np.float32]
"""(height, width), levels of 255."""

GLIMPSE: Final = 48
"""Longest side of the copies that are compared, pixels."""
ALIKE: Final = 0.85
"""Least correlation of a crop with the place that its code speaks of."""
SURE: Final = 0.998
"""Correlation at which no further place is tried."""
FOUND: Final = 0.92
"""Least correlation of a crop with a place that was searched for."""
FLAT: Final = 1.0
"""Standard deviation below which a picture shows nothing that could be compared, levels of 255."""
SEARCHED: Final = 384
"""Longest side of the copy of a picture that is searched, pixels."""
LEAST: Final = 0.02
"""Shortest side that is searched for, as a share of the picture's."""
CANDIDATES: Final = 3
"""Places that are looked at closely."""
CLOSE: Final = 160
"""Longest side of a part that is looked at closely, pixels."""
_STEP: Final = 1.08
"""Ratio of one width to the next that is searched for in the small copy."""
_FINE: Final = 1.015
"""The same where it is looked closely."""
_MARGIN: Final = 0.15
"""Share of a place's side that is looked at closely around it."""
_GAP: Final = 4.0
"""Times a glimpse's size at which it is averaged exactly: with less, an enlarged crop is not `SURE` to be its place."""
_SMOOTH: Final = Image.Resampling.BILINEAR
FEW: Final = 16
"""Levels of 255 over which a picture has to spread to be told by some of its pixels."""


@dataclass(frozen=True)
class Place:
    """Where an image that code made was cut out of the problem's first image."""

    block: int
    """Which block made it, from 0."""
    box: Box
    image: Image.Image


def places(draft: Draft) -> tuple[Place, ...]:
    """Every image of a draft that shows a part of the problem's first image, in order; the whole counts as a part."""
    original = draft.problem.images[0].image
    found: list[Place] = []
    codes: list[str] = []
    for block, execution in enumerate(executions(draft)):
        codes.append(code_of(execution))
        spoken = spoken_boxes(codes, original.size)
        for record in execution.images:
            box = where(record.image, original, [*_candidates(spoken, found), (0, 0, *original.size)])
            if box is not None:
                found.append(Place(block, box, record.image))
    return tuple(found)


def _candidates(spoken: Sequence[tuple[float, ...]], found: Sequence[Place]) -> Iterator[tuple[float, ...]]:
    """Boxes as they stand, and as parts of crops that were made before."""
    yield from spoken
    for place in reversed(found):
        left, top, right, bottom = place.box
        x, y = (right - left) / place.image.width, (bottom - top) / place.image.height
        yield from ((left + a * x, top + b * y, left + c * x, top + d * y) for a, b, c, d in spoken)


def where(shown: Image.Image, original: Image.Image, candidates: Iterable[Sequence[float]]) -> Box | None:
    """Find what a picture shows of another one.

    Args:
        shown: What may be a part, resized or not, with another contrast or not.
        original: RGB.
        candidates: Where to look first, pixels of the original.

    Returns:
        The best of the candidates, exact; else the best place of a search, true to about a hundredth of the original's
        side; None where nothing is alike, or the picture is of one colour.
    """
    rounded = (tuple(round(v) for v in box) for box in candidates)
    fitted = {inside((b[0], b[1], b[2], b[3]), original.size): None for b in rounded}
    glimpse: Grey | None = None
    best, box = 0.0, None
    for candidate in filter(None, fitted):
        if _is_part(shown, original, candidate):
            return candidate
        glimpse = _glimpse(shown, (0, 0, *shown.size), shown.size) if glimpse is None else glimpse
        found = _alike(shown.size, glimpse, original, candidate)
        best, box = max((best, box), (found, candidate), key=lambda pair: pair[0])
        if best >= SURE:
            break
    return box if best >= ALIKE else _searched(shown.convert("L"), original.convert("L"))


def _is_part(shown: Image.Image, original: Image.Image, box: Box) -> bool:
    """Whether a picture is a box of the original as it is, by some thousand of its pixels: so most crops are found."""
    left, top, right, bottom = box
    if (right - left, bottom - top, shown.mode) != (*shown.size, original.mode):
        return False
    part = original.resize((GLIMPSE, GLIMPSE), Image.Resampling.NEAREST, box)
    if np.ptp(np.asarray(part), axis=(0, 1)).max() < FEW:
        return False  # what is nearly of one colour is like much else
    return shown.resize(part.size, Image.Resampling.NEAREST).tobytes() == part.tobytes()


def likeness(shown: Image.Image, original: Image.Image, box: Box) -> float:
    """Correlation of a picture with a box of the original, from small grey copies; 0 where either is of one colour.

    A nearly even surface has no structure to correlate: it is like a box of the same shape and nearly the same level.
    """
    return _alike(shown.size, _glimpse(shown, (0, 0, *shown.size), shown.size), original, box)


def _alike(size: tuple[int, int], glimpse: Grey, original: Image.Image, box: Box) -> float:
    """`likeness`, of a picture of this size of which there is a small copy already."""
    part = _glimpse(original, box, size)
    if glimpse.std() < FLAT and part.std() < FLAT:
        same_shape = abs(size[0] * (box[3] - box[1]) - size[1] * (box[2] - box[0])) <= max(size)
        return float(same_shape and abs(float(glimpse.mean() - part.mean())) <= FLAT)
    return correlation(glimpse, part)


def _glimpse(image: Image.Image, box: Box, size: tuple[int, int]) -> Grey:
    """A small grey copy of a part, of the proportions of `size`."""
    scale = min(1.0, GLIMPSE / max(size))
    small = (max(4, round(size[0] * scale)), max(4, round(size[1] * scale)))
    return np.asarray(image.resize(small, Image.Resampling.BOX, box, reducing_gap=_GAP).convert("L"), np.float32)


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's, of two arrays of the same shape; 0 where one of them is constant."""
    a, b = (one - one.mean()).ravel(), (other - other.mean()).ravel()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _searched(shown: Image.Image, original: Image.Image) -> Box | None:
    """Look at every scale in a small copy of the original, then closely at the best places."""
    if np.asarray(shown.resize((GLIMPSE, GLIMPSE), Image.Resampling.BOX), np.float32).std() < FLAT:
        return None
    scale = min(1.0, SEARCHED / max(original.size))
    small = _reduced(original, scale)
    widths = [shown.width * scale]
    widest = float(small.width)
    while widest >= max(8.0, LEAST * small.width):
        widths.append(widest)
        widest /= _STEP
    coarse = sorted(_tried(shown, small, widths), key=lambda pair: -pair[0])[:CANDIDATES]
    close = [_closer(shown, original, tuple(v / scale for v in box)) for _, box in coarse]
    best, box = max(close, key=lambda pair: pair[0], default=(0.0, None))
    return box if best >= FOUND else None


def _closer(shown: Image.Image, original: Image.Image, box: Sequence[float]) -> tuple[float, Box | None]:
    """The best place of about this size near a box of the original, and its correlation."""
    x, y = _MARGIN * (box[2] - box[0]), _MARGIN * (box[3] - box[1])
    around = inside((int(box[0] - x), int(box[1] - y), int(box[2] + x) + 1, int(box[3] + y) + 1), original.size)
    if around is None:
        return 0.0, None
    scale = min(1.0, CLOSE / max(box[2] - box[0], box[3] - box[1]))
    part = _reduced(original.crop(around), scale)
    widths = [(box[2] - box[0]) * scale * _FINE**step for step in range(-4, 5)]
    best, found = max(_tried(shown, part, widths), key=lambda pair: pair[0], default=(0.0, (0, 0, 0, 0)))
    left, top, right, bottom = (round(v / scale) for v in found)
    moved = (around[0] + left, around[1] + top, around[0] + right, around[1] + bottom)
    return best, inside(moved, original.size)


def _tried(shown: Image.Image, small: Image.Image, widths: Iterable[float]) -> Iterator[tuple[float, Box]]:
    """Correlation at the best place, and that place, for each width that the picture may have in another one."""
    import cv2  # here: half of a second, and most drafts never need it

    pixels = np.asarray(small)
    for wide in widths:
        size = (round(wide), round(wide * shown.height / shown.width))
        if not (4 <= size[0] <= small.width and 4 <= size[1] <= small.height):
            continue
        template = np.asarray(shown.resize(size, Image.Resampling.BOX if wide < shown.width else _SMOOTH))
        if template.std() < FLAT:
            continue
        found = cv2.minMaxLoc(cv2.matchTemplate(pixels, template, cv2.TM_CCOEFF_NORMED))
        left, top = found[3]
        yield float(found[1]), (left, top, left + size[0], top + size[1])


def _reduced(image: Image.Image, scale: float) -> Image.Image:
    """A grey picture, no larger than it was."""
    factor = min(scale, 1.0)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image if size == image.size else image.resize(size, Image.Resampling.BOX)
