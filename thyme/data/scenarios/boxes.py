"""Boxes of a picture: read from a problem, widened, moved elsewhere, compared. Pixels; right and bottom lie outside."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from thyme.types import Problem

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom; whole pixels of the problem's first image."""

TRIES = 64
"""Places that are tried for a box that has to lie elsewhere."""


def boxes_of(problem: Problem) -> tuple[Box, ...]:
    """What a problem asks about, whole pixels around it; empty where nothing usable is known.

    ``meta["boxes"]`` (several) goes before ``meta["box"]`` (one). What has no area inside the picture is left out.
    """
    if not problem.images:
        return ()
    given = problem.meta.get("boxes") or [problem.meta.get("box")]
    found = (_whole(box, problem.images[0].size) for box in given)
    return tuple(box for box in found if box is not None)


def _whole(box: Any, size: tuple[int, int]) -> Box | None:
    if not isinstance(box, Sequence) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        return None
    if not all(math.isfinite(v) for v in box):
        return None
    return inside((math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])), size)


def inside(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box that lies in a picture of this size; None where there is none."""
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])
    return (left, top, right, bottom) if left < right and top < bottom else None


def area(box: Box) -> int:
    """Pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(one: Box, other: Box) -> int:
    """Pixels that lie in both."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def cover(shown: Box, target: Box) -> float:
    """Share of `target` that `shown` holds, 0 to 1."""
    return shared(shown, target) / area(target)


def widened(box: Box, size: tuple[int, int], rng: random.Random, factors: Sequence[float]) -> Box | None:
    """A larger box around a box, not centred on it.

    Args:
        box: What it must hold.
        size: Of the picture.
        rng: Decides how much larger it is, and where the box lies in it.
        factors: Least and greatest ratio of the sides.

    Returns:
        None where less than three halves of the box's area would be gained: it fills the picture nearly.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    factor = rng.uniform(*factors)
    # Very flat boxes (a line of text) get height too, so that the larger box shows surroundings on all sides.
    extra_x, extra_y = (max(factor * side, 0.5 * factor * max(width, height)) - side for side in (width, height))
    left = box[0] - extra_x * rng.uniform(0.3, 0.7)
    top = box[1] - extra_y * rng.uniform(0.3, 0.7)
    larger = (math.floor(left), math.floor(top), math.ceil(left + width + extra_x), math.ceil(top + height + extra_y))
    fitted = inside(larger, size)
    return fitted if fitted is not None and area(fitted) >= 1.5 * area(box) else None


def elsewhere(box: Box, size: tuple[int, int], rng: random.Random, avoid: Iterable[Box]) -> Box | None:
    """A box of the same size that shows nothing of those to be avoided; None where no such place was found."""
    width, height = box[2] - box[0], box[3] - box[1]
    avoided = tuple(avoid)
    for _ in range(TRIES):
        left, top = rng.randint(0, size[0] - width), rng.randint(0, size[1] - height)
        found = (left, top, left + width, top + height)
        if not any(shared(found, other) for other in avoided):
            return found
    return None
