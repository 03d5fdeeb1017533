"""Whether a picture is a given box of another one, resized in one of the ways that code has."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thyme.images import to_rgb

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom; pixels, right and bottom outside."""
Pixels: TypeAlias = NDArray[np.uint8]
"""(height, width, 3), RGB."""

PLAIN: Final = ""
"""Not resized."""
_PILLOW: Final = {
    "pillow bicubic": Image.Resampling.BICUBIC,
    "pillow lanczos": Image.Resampling.LANCZOS,
    "pillow bilinear": Image.Resampling.BILINEAR,
    "pillow nearest": Image.Resampling.NEAREST,
    "pillow box": Image.Resampling.BOX,
    "pillow hamming": Image.Resampling.HAMMING,
}
_OPENCV: Final = {
    "opencv linear": "INTER_LINEAR",
    "opencv cubic": "INTER_CUBIC",
    "opencv lanczos4": "INTER_LANCZOS4",
    "opencv area": "INTER_AREA",
    "opencv nearest": "INTER_NEAREST",
    "opencv linear_exact": "INTER_LINEAR_EXACT",
    "opencv nearest_exact": "INTER_NEAREST_EXACT",
}
RESAMPLERS: Final = (*_PILLOW, *_OPENCV)
"""Ways to resize, the usual ones first."""

SLACK: Final = 0.08
"""Largest root mean square of the difference, as a share of the picture's own contrast: less than what a contrast that
is raised by a tenth changes."""
FLOOR: Final = 0.5
"""What rounding may add to it, levels of 255."""
SAME: Final = 0.75
"""Difference at which no better filter is looked for, levels of 255."""
FLAT: Final = 2.0
"""Contrast below which a picture has no place, levels of 255."""
DRAWN: Final = 30.0
"""Mean difference of a few neighbouring pixels that is too much whatever the rest is like, levels of 255: somebody drew
there. The edges of what was resized twice differ by less, as they are too bright on one side and too dark on the
other."""
_NEIGHBOURS: Final = 5
"""Side of the square of such pixels."""
_STRIP: Final = 256
"""Rows that are compared at once."""
_GLIMPSE: Final = 32
"""Side of the small copies that are compared first, pixels."""
_COMPARED: Final = 1 << 20
"""Pixels that are compared at most."""


class Picture:
    """A picture that may be a crop, and what is asked of it often."""

    def __init__(self, image: Image.Image) -> None:
        """Take over a picture of any mode; transparency is put on white."""
        self.image = rgb(image)
        self.pixels: Pixels = np.asarray(self.image)
        self.contrast = contrast(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.image.size

    @property
    def flat(self) -> bool:
        """Whether it is of one colour, so that it fits anywhere."""
        return self.contrast < FLAT

    @property
    def tolerance(self) -> float:
        """Root mean square of a difference that is still the same picture, levels of 255."""
        return FLOOR + SLACK * self.contrast


def contrast(pixels: Pixels) -> float:
    """Standard deviation around the mean colour, levels of 255."""
    thinned = _thinned(pixels).astype(np.float32).reshape(-1, 3)
    return float(np.sqrt(((thinned - thinned.mean(axis=0)) ** 2).mean()))


def difference(one: Pixels, other: Pixels) -> float:
    """Root mean square of the difference of two pictures of the same shape, levels of 255."""
    apart = _thinned(one).astype(np.float32) - _thinned(other)
    return float(np.sqrt((apart * apart).mean()))


def drawn_on(one: Pixels, other: Pixels) -> bool:
    """Whether two pictures of the same shape differ in one place, as by a word too small to change the whole."""
    import cv2

    for top in range(0, one.shape[0], _STRIP):
        rows = slice(top, top + _STRIP)
        apart = cv2.blur(cv2.subtract(one[rows], other[rows], dtype=cv2.CV_16S), (_NEIGHBOURS, _NEIGHBOURS))
        if max(apart.max(), -apart.min()) > DRAWN:
            return True
    return False


def _thinned(pixels: Pixels) -> Pixels:
    """Every n-th row of a large picture."""
    return pixels[:: max(1, pixels.shape[0] * pixels.shape[1] // _COMPARED)]


def fits(picture: Picture, original: Image.Image, box: Box) -> str | None:
    """Whether a picture shows a box of the original.

    Args:
        picture: What may be a crop.
        original: Of any mode.
        box: Pixels of the original; beyond its edges nothing fits.

    Returns:
        How it was resized (`RESAMPLERS`, `PLAIN`), or None where it does not fit.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= original.width and 0 <= top < bottom <= original.height):
        return None
    if picture.size == (right - left, bottom - top):
        part: Pixels = np.asarray(rgb(original.crop(box)))
        alike = difference(part, picture.pixels) <= picture.tolerance
        return PLAIN if alike and not drawn_on(part, picture.pixels) else None
    if picture.flat or not _alike(picture, original, box):
        return None
    return _filter(picture, rgb(original.crop(box)))


def _alike(picture: Picture, original: Image.Image, box: Box) -> bool:
    """Whether small copies are so similar that it is worth to look closely."""
    size = (min(_GLIMPSE, box[2] - box[0], picture.size[0]), min(_GLIMPSE, box[3] - box[1], picture.size[1]))
    part = rgb(original.resize(size, Image.Resampling.BOX, box)) if original.mode != "P" else None
    if part is None:
        return True
    small = picture.image.resize(size, Image.Resampling.BOX)
    one, other = np.asarray(part, np.float32).ravel(), np.asarray(small, np.float32).ravel()
    return abs(float(one.mean() - other.mean())) < 6 + picture.tolerance and _correlation(one, other) > 0.6


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale else 1.0


def _filter(picture: Picture, part: Image.Image) -> str | None:
    """The filter that makes the picture out of the part of the original, if any does."""
    best, least, closest = "", picture.tolerance, picture.pixels
    for name in RESAMPLERS:
        pixels: Pixels = np.asarray(resampled(part, picture.size, name))
        apart = difference(pixels, picture.pixels)
        if apart <= least:
            best, least, closest = name, apart, pixels
        if least <= min(SAME, picture.tolerance / 4):
            break
    return best if best and not drawn_on(closest, picture.pixels) else None


def resampled(part: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """An RGB picture, resized.

    Args:
        part: What to resize.
        size: Width and height, pixels.
        name: One of `RESAMPLERS`, or `PLAIN` for whatever needs no resizing.
    """
    if name in _OPENCV:
        import cv2

        return Image.fromarray(cv2.resize(np.asarray(part), size, interpolation=getattr(cv2, _OPENCV[name])))
    return part if part.size == size else part.resize(size, _PILLOW.get(name, Image.Resampling.BICUBIC))


def rgb(image: Image.Image) -> Image.Image:
    """A picture as RGB, transparency on white; itself where it is that already."""
    return image if image.mode == "RGB" else to_rgb(image)


def grey(pixels: Pixels) -> NDArray[Any]:
    """(height, width) uint8."""
    import cv2

    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
