"""How sharp a picture is, and how much of it is text: two numbers from its pixels, no model.

`docs/rl_data_collect.md` says how they do on drawn pages and on pictures that look like photographs.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey: TypeAlias = NDArray[np.uint8]
"""Of shape (height, width)."""

_WINDOW: Final = 256
"""Side of the squares that sharpness is measured in, pixels."""
_GRID: Final = 8
"""Squares along each side at most."""
_BLUR: Final = 9
"""Pixels that are averaged (Crété-Roffet et al. 2007, section 2)."""
_SEEN: Final = 128
"""Differences above rounding that a square needs to say anything: sky and walls do not count."""
_ROUNDING: Final = 2.0
"""Differences up to this may come of rounding to 8 bits and of weak noise, which no blur takes away."""
_SHARPEST: Final = 90
"""Percentile of the squares: a picture with one sharp thing before a soft background is sharp."""

_TEXT_SIDE: Final = 2048
"""The longer side of what is looked at for text lies between this and twice as much."""
_EDGE: Final = 48
"""Difference of grey within three pixels that is an edge of a letter."""
_GAP: Final = 15
"""Letters and words that are nearer than this are one piece of text, pixels."""
_HEIGHTS: Final = (6, 96)
"""Of a line of text, pixels."""
_RING: Final = 2
"""Rows above and below that must be empty, as lines have space between them."""
_RING_EDGES: Final = 0.15
"""Share of edges that they may hold."""
_FLAT: Final = 12
"""Grey levels around the most frequent one that count as the same background."""
_BACKGROUND: Final = 0.35
"""Share of a line that is background at least."""
_STROKES: Final = (1.2, 14.0)
"""Times that the line changes between ink and background over a length of its height."""


def sharpness(image: Image.Image) -> float:
    """How much finest detail there is where there is most, from 0 (none, or nothing to be seen) to 1.

    Of squares spread over the picture, the share of the differences between neighbouring pixels that averaging takes
    away (the complement of Crété-Roffet's perceptual blur, the lesser of the two directions); its 90th percentile.
    It depends little on contrast; strong noise counts as detail.

    Args:
        image: RGB, loaded.
    """
    found = []
    for left in _places(image.width):
        for top in _places(image.height):
            window = image.crop((left, top, min(left + _WINDOW, image.width), min(top + _WINDOW, image.height)))
            grey = np.asarray(window.convert("L"), np.float32)
            differences = [np.abs(np.diff(grey, axis=axis)) for axis in (0, 1)]
            if max(np.count_nonzero(one > _ROUNDING) for one in differences) >= _SEEN:
                found.append(min(_detail(grey, sharp, axis) for axis, sharp in enumerate(differences)))
    return round(float(np.percentile(found, _SHARPEST)), 4) if found else 0.0


def _places(side: int) -> list[int]:
    count = min(_GRID, -(-side // _WINDOW))
    return [round(place) for place in np.linspace(0, max(0, side - _WINDOW), count)]


def _detail(grey: NDArray[np.float32], sharp: NDArray[np.float32], axis: int) -> float:
    """Share of the differences along an axis that averaging takes away; those that rounding makes count as kept."""
    soft = np.abs(np.diff(cv2.blur(grey, (1, _BLUR) if axis == 0 else (_BLUR, 1)), axis=axis))
    lost = np.maximum(sharp - soft, 0)[sharp > _ROUNDING]
    return float(lost.sum() / max(float(sharp.sum()), 1e-6))


def text_share(image: Image.Image) -> float:
    """Share of the area that lines of text cover, from 0 to 1. A page full of text has some 0.2 to 0.5.

    A line is a wide, low piece of strong edges on an even background, with strokes as close as letters have them, and
    empty rows above and below.

    Args:
        image: RGB, loaded.
    """
    factor = max(1, max(image.size) // _TEXT_SIDE)
    grey = np.asarray((image.reduce(factor) if factor > 1 else image).convert("L"))
    edges = (cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > _EDGE).astype(np.uint8)
    joined = cv2.morphologyEx(edges, cv2.MORPH_CLOSE, np.ones((1, _GAP), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    left, top, width, height, area = stats[1:].T
    likely = (height >= _HEIGHTS[0]) & (height <= _HEIGHTS[1]) & (width >= 1.5 * height)
    likely &= area >= 0.45 * width * height
    covered = sum(
        int(w) * int(h)
        for x, y, w, h in zip(left[likely], top[likely], width[likely], height[likely], strict=True)
        if _is_line(grey, edges, int(x), int(y), int(w), int(h))
    )
    return round(min(1.0, covered / grey.size), 4)


def _is_line(grey: Grey, edges: Grey, x: int, y: int, width: int, height: int) -> bool:
    """Whether a piece is a line of text."""
    above = edges[max(0, y - _RING) : y, x : x + width]
    below = edges[y + height : y + height + _RING, x : x + width]
    ring = np.concatenate([above, below])
    if ring.size and ring.mean() > _RING_EDGES:
        return False
    piece = grey[y : y + height, x : x + width]
    background = int(np.bincount(piece.ravel(), minlength=256).argmax())
    ink = np.abs(piece.astype(np.int16) - background) > _FLAT
    if 1 - ink.mean() < _BACKGROUND:
        return False
    changes = int(np.count_nonzero(ink[:, 1:] != ink[:, :-1], axis=1).max()) * height / width
    return _STROKES[0] <= changes <= _STROKES[1]
