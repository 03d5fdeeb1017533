"""Rule about turned pictures: does an image that the code made stand as the original did?

Rings around the middle of both pictures are compared at every angle. What was cut out of the upright picture is
searched for in it, which finds only what stands upright.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thyme.data.drafts import Draft
from thyme.data.scenarios.base import Refusal
from thyme.data.scenarios.pictures import expanded
from thyme.data.scenarios.places import where
from thyme.data.scenarios.written import executions

TOLERANCE: Final = 5
"""Degrees by which a picture may still be off."""
ALIKE: Final = 0.75
"""Least correlation of the rings at the best angle, for both to be the same picture."""
SLACK: Final = 0.03
"""What another angle may correlate better: pictures that look the same from several sides."""
SIDE: Final = 128
"""Of the squares that the rings are taken from, pixels."""
_RADIUS: Final = SIDE // 2


def upright(draft: Draft) -> Refusal | None:
    """An image that came back stands within `TOLERANCE` degrees of the original."""
    original = draft.origin.images[0].image
    images = [record.image for execution in executions(draft) for record in execution.images]
    if not images:
        return Refusal("no_image", "the code gave no image back")
    seen = draft.problem.images[0].size
    off = [tilt(image, original, (seen, expanded(seen, draft.hints["angle"]))) for image in images]
    if any(angle is not None and abs(angle) <= TOLERANCE for angle in off):
        return None
    # A whole picture is not searched for in itself: much reduced, it is like some even part of it.
    parts = (image for image, angle in zip(images, off, strict=True) if angle is None)
    if any(where(image, original, ()) is not None for image in parts):
        return None
    return Refusal("not_upright", f"images stand off by {', '.join(map(_said, off))}")


def _said(angle: int | None) -> str:
    return "an unknown angle" if angle is None else f"{angle} degrees"


def tilt(shown: Image.Image, original: Image.Image, sizes: Sequence[tuple[float, float]] = ()) -> int | None:
    """How far a picture is turned against the original, both taken around their middle.

    Args:
        shown: The whole picture, turned, with corners cut off or added, resized or not.
        original: Upright.
        sizes: What `shown` measures where it was not resized, pixels; its own size and the original's are tried anyway.

    Returns:
        Degrees counter-clockwise, -180 to 179, nearest to 0 where several fit as well; None if it is another picture.
    """
    side = min(original.size)
    upright_rings = _rings(_middle(original, side))
    best: tuple[float, int] | None = None
    for scale in _scales(shown, original, sizes):
        found = _turn(_rings(_middle(shown, side * scale)), upright_rings)
        best = max(best or found, found)
    return None if best is None or best[0] < ALIKE else best[1]


def _scales(shown: Image.Image, original: Image.Image, sizes: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Pixels of `shown` that a pixel of the original may have become."""
    side, least = min(original.size), min(shown.size)
    tried = {1.0, least / side, shown.width / original.width, *(shown.width / width for width, _ in sizes)}
    yield from sorted(round(scale, 4) for scale in tried if scale * side <= least * 1.001)


def _middle(image: Image.Image, side: float) -> NDArray[Any]:
    """The square in the middle, grey, `SIDE` pixels wide."""
    x, y = image.width / 2, image.height / 2
    box = (max(x - side / 2, 0), max(y - side / 2, 0), min(x + side / 2, image.width), min(y + side / 2, image.height))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box).convert("L"), np.float32)


def _rings(square: NDArray[Any]) -> NDArray[Any]:
    """(360, radii): levels along rings, counter-clockwise; every ring weighs as much as it is long."""
    import cv2  # here: half of a second, and few scenarios need it

    polar = cv2.warpPolar(square, (_RADIUS, 360), (_RADIUS - 0.5, _RADIUS - 0.5), _RADIUS - 1, cv2.INTER_LINEAR)
    weighed = (polar - polar.mean()) * np.sqrt(np.arange(_RADIUS))
    return np.asarray(weighed[::-1])


def _turn(shown: NDArray[Any], original: NDArray[Any]) -> tuple[float, int]:
    """Correlation at the best angle, and that angle."""
    product = np.fft.rfft(shown, axis=0) * np.conj(np.fft.rfft(original, axis=0))
    by_angle = np.fft.irfft(product, 360, axis=0).sum(axis=1)
    by_angle /= max(float(np.linalg.norm(shown) * np.linalg.norm(original)), 1e-9)
    angles = (np.arange(360) + 180) % 360 - 180
    good = by_angle >= by_angle.max() - SLACK
    nearest = min((int(angle) for angle in angles[good]), key=abs)
    return float(by_angle.max()), nearest
