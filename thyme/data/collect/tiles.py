"""Tiles to zoom in: those of Deep Zoom images without overlap, `thyme.data.collect.records.TILE` pixels wide.

Pillow makes them from the decoded picture that everything else needs too; `docs/rl_data_collect.md` has the figures of
libvips beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from thyme.data.collect.folder import top_level
from thyme.data.collect.records import TILE

QUALITY: Final = 90
"""Of the tiles, which are for the eyes of people; the picture itself is kept without loss."""


def write_tiles(image: Image.Image, folder: Path) -> int:
    """Write the tiles of all levels as ``LEVEL/X_Y.jpg``.

    Args:
        image: RGB, loaded.
        folder: New; whoever calls puts it in place when it is whole.

    Returns:
        How many there are.
    """
    count = 0
    for level in range(top_level(image.size), -1, -1):
        count += _write_level(image, folder / str(level))
        if level:
            image = image.reduce(2)
    return count


def _write_level(image: Image.Image, folder: Path) -> int:
    folder.mkdir(parents=True)
    places = [(x, y) for y in range(0, image.height, TILE) for x in range(0, image.width, TILE)]
    for x, y in places:
        part = image.crop((x, y, min(x + TILE, image.width), min(y + TILE, image.height)))
        part.save(folder / f"{x // TILE}_{y // TILE}.jpg", "JPEG", quality=QUALITY)
    return len(places)
