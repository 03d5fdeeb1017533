"""InternVL in the layout of transformers (``-hf``): tiles of an image, their placeholders, limits.

An image is resized to a canvas of square tiles whose shape is nearest to its own, cut, and followed by a thumbnail of
the whole where there is more than one tile (InternVL 1.5, section 3.2). Each tile takes the same number of tokens. This
half holds no tensors; `thyme.families.internvl_tensors` makes the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from thyme.errors import ModelNotFoundError, UsageError
from thyme.families.base import CoordinateSystem
from thyme.families.chat import ChatFamily, chat_settings
from thyme.families.checkpoint import read_json
from thyme.families.positions import Ids, IntArray, plain_positions
from thyme.families.sizes import tiled_canvas
from thyme.families.spans import Grid

_MARKS = "<img>", "<IMG_CONTEXT>", "</img>"


@dataclass(frozen=True, eq=False, kw_only=True)
class InternVLFamily(ChatFamily):
    """Tokenizer and image settings of one checkpoint."""

    tile: int
    """Side of a tile, pixels."""
    fewest_tiles: int
    most_tiles: int
    """Of the canvas; the thumbnail comes on top."""
    patch: int
    """Side of a patch, pixels."""
    merge: int
    """Side of the square of patches that becomes one token (pixel shuffle)."""

    image_marks: ClassVar[tuple[str, str, str]] = _MARKS
    image_in_template: ClassVar[str] = _MARKS[1]
    vision_tokens: ClassVar[tuple[str, ...]] = (*_MARKS, "<video>")
    coordinates: ClassVar[CoordinateSystem] = "per_mille"
    grid_key: ClassVar[str | None] = None
    token_types: ClassVar[bool] = False
    position_axes: ClassVar[int] = 1

    def canvas(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles of an image of this size."""
        return tiled_canvas(width, height, tile=self.tile, fewest=self.fewest_tiles, most=self.most_tiles)

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels of the canvas to which an image of this size is resized."""
        columns, rows = self.canvas(width, height)
        return columns * self.tile, rows * self.tile

    def grid(self, width: int, height: int) -> Grid:
        """Tiles with the thumbnail, and the patches of a tile along its height and width."""
        tiles = math.prod(self.canvas(width, height))
        side = self.tile // self.patch
        return tiles + (tiles > 1), side, side

    def image_tokens(self, grid: Grid) -> int:
        """Placeholders that an image of this grid takes."""
        return math.prod(grid) // self.merge**2

    def positions(self, ids: Ids, grids: Sequence[Grid], start: int) -> tuple[IntArray, int]:
        """Positions of a chunk, (1, L); see `thyme.families.positions.plain_positions`."""
        tokens = [self.image_tokens(grid) for grid in grids]
        return plain_positions(ids, tokens, start, image_token_id=self.image_token_id)


def load(folder: Path, *, min_pixels: int | None = None, max_pixels: int | None = None) -> InternVLFamily:
    """Load the family of a checkpoint folder.

    Args:
        folder: The checkpoint.
        min_pixels: Least area of the canvas in place of the checkpoint's least number of tiles: it gets as many tiles
            as reach it.
        max_pixels: Greatest area of the canvas, without the thumbnail, in place of the checkpoint's greatest number of
            tiles: it gets as many tiles as fit.

    Raises:
        ModelNotFoundError: It has no tokenizer or chat template, or its files contradict each other.
        UsageError: Less than one tile is allowed, or the limits contradict each other.
        MissingExtraError: transformers is not installed.
    """
    settings = chat_settings(folder)
    config = read_json(folder / "config.json")
    vision = config.get("vision_config") or {}
    tile = _side(settings["image_config"].get("size") or vision.get("image_size", 448), "size", folder)
    patch = _side(vision.get("patch_size", 14), "patch_size", folder)
    merge = round(1 / float(config.get("downsample_ratio", 0.5)))
    tokens = (tile // patch // merge) ** 2
    told = read_json(folder / "processor_config.json").get("image_seq_length", config.get("image_seq_length", tokens))
    if tile % (patch * merge) or tokens != told:
        raise ModelNotFoundError(
            f"'{folder.name}' has tiles of {tile} pixels, patches of {patch} and {merge} x {merge} of them a token, "
            f"which do not make the {told} tokens a tile that image_seq_length says; download the checkpoint again"
        )
    fewest, most = _tile_limits(settings["image_config"], tile * tile, min_pixels, max_pixels)
    return InternVLFamily(**settings, tile=tile, fewest_tiles=fewest, most_tiles=most, patch=patch, merge=merge)


def _side(size: Any, name: str, folder: Path) -> int:
    """Side of a square, from any spelling: a number, a pair, or height and width by name."""
    sides = set(size.values() if isinstance(size, dict) else size if isinstance(size, list) else [size])
    if len(sides) != 1:
        raise ModelNotFoundError(f"'{folder.name}' has a {name} of {size}; only squares are supported")
    return int(sides.pop())


def _tile_limits(images: dict[str, Any], area: int, min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    fewest = math.ceil(min_pixels / area) if min_pixels else int(images.get("min_patches", 1))
    most = max_pixels // area if max_pixels else int(images.get("max_patches", 12))
    if most < 1:
        raise UsageError(f"max_pixels {max_pixels} is less than one tile, and this model sees no less than {area}")
    if fewest > most:
        raise UsageError(
            f"min_pixels and max_pixels ask for at least {fewest} and at most {most} tiles of {area} pixels; "
            "lower min_pixels or raise max_pixels"
        )
    return fewest, most
