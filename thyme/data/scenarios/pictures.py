"""What preparation does to pictures: turns them, pales them, and says where boxes lie afterwards."""

from __future__ import annotations

import math

from PIL import Image

from thyme.data.scenarios.boxes import Box, inside
from thyme.types import ImageRecord, Problem

GREY = 128
"""Level to which contrast is lowered."""


def turned(image: Image.Image, angle: int, fill: tuple[int, int, int]) -> Image.Image:
    """A picture turned counter-clockwise, made so large that nothing is cut off.

    Args:
        image: RGB.
        angle: Degrees; quarter turns are exact.
        fill: Colour of the corners that come into view.
    """
    return image.rotate(angle, resample=Image.Resampling.BILINEAR, expand=True, fillcolor=fill)


def expanded(size: tuple[int, int], angle: float) -> tuple[float, float]:
    """Width and height of what holds a picture of this size, turned by `angle` degrees."""
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return size[0] * cos + size[1] * sin, size[0] * sin + size[1] * cos


def turned_box(box: Box, size: tuple[int, int], angle: int, new_size: tuple[int, int]) -> Box | None:
    """The upright box around a box that was turned with its picture.

    Args:
        box: In the picture before.
        size: Of the picture before.
        angle: Degrees counter-clockwise.
        new_size: Of the picture that `turned` gave.
    """
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    width, height = new_size
    corners = [(x - size[0] / 2, y - size[1] / 2) for x in (box[0], box[2]) for y in (box[1], box[3])]
    # The y axis points down, so that a counter-clockwise turn has the sines of a clockwise one.
    xs = [x * cos + y * sin + width / 2 for x, y in corners]
    ys = [-x * sin + y * cos + height / 2 for x, y in corners]
    rounded = (_down(min(xs)), _down(min(ys)), -_down(-max(xs)), -_down(-max(ys)))
    return inside(rounded, (width, height))


def _down(value: float) -> int:
    """The whole number below, where sines of quarter turns are not exact either."""
    return math.floor(value + 1e-6)


def paled(image: Image.Image, contrast: float) -> Image.Image:
    """A picture with only a share of its contrast left, around middle grey."""
    return Image.blend(Image.new("RGB", image.size, (GREY, GREY, GREY)), image, contrast)


def with_image(problem: Problem, image: Image.Image, **meta: object) -> Problem:
    """A problem with another picture, and what is to be known of it added to its facts."""
    return problem.model_copy(update={"images": (ImageRecord.of(image),), "meta": {**problem.meta, **meta}})
