"""The size at which a model sees an image: Qwen-VL's rule, and the tiles of InternVL."""

from __future__ import annotations

import math
from functools import lru_cache

MAX_ASPECT_RATIO = 200
"""Image processors of the family refuse thinner images."""


def widened(width: int, height: int) -> tuple[int, int]:
    """Size of an image after a strip that is too thin for the model was made just thick enough.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
    """
    return max(width, math.ceil(height / MAX_ASPECT_RATIO)), max(height, math.ceil(width / MAX_ASPECT_RATIO))


def smart_resize(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Nearest size whose sides are multiples of `factor` and whose area lies within the limits.

    The rule of the Qwen2-VL image processor, so that it is known without decoding anything. Differs from it only in
    images thinner than 1:200, which that one refuses.

    Args:
        width: Pixels of the image.
        height: Pixels of the image.
        factor: Patch side times merge side, pixels.
        min_pixels: Lower limit of the area.
        max_pixels: Upper limit of the area; sides never fall below `factor`.

    Returns:
        Width and height in pixels.
    """
    width, height = widened(width, height)
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    if new_width * new_height > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
    elif new_width * new_height < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        new_width = math.ceil(width * grow / factor) * factor
        new_height = math.ceil(height * grow / factor) * factor
    return new_width, new_height


@lru_cache(maxsize=1024)
def tiled_canvas(width: int, height: int, *, tile: int, fewest: int, most: int) -> tuple[int, int]:
    """Columns and rows of square tiles whose shape is nearest to that of an image.

    The rule of InternVL's image processor. Of arrangements of one shape (1 x 1, 2 x 2, ...) it takes the largest whose
    area is below twice the image's, and at least the smallest.

    Args:
        width: Pixels of the image.
        height: Pixels of the image.
        tile: Side of a tile, pixels.
        fewest: Least number of tiles.
        most: Greatest number of tiles, at least `fewest`.
    """
    arrangements = [
        (columns, rows)
        for columns in range(1, most + 1)
        for rows in range(1, most // columns + 1)
        if columns * rows >= fewest
    ]
    arrangements.sort(key=math.prod)  # stable: of equal areas the narrower first
    distances = [abs(width / height - columns / rows) for columns, rows in arrangements]
    least = min(distances)
    nearest = [a for a, distance in zip(arrangements, distances, strict=True) if distance == least]
    fitting = [a for a in nearest[1:] if width * height > 0.5 * tile * tile * math.prod(a)]
    return (fitting or nearest[:1])[-1]
