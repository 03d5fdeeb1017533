"""Qwen2.5-VL and Qwen3-VL: image placeholders, grids, positions, pixel limits.

The two families differ here in constants only. This half holds no tensors; `thyme.families.qwen_vl_tensors` makes the
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from thyme.errors import UsageError
from thyme.families.base import CoordinateSystem
from thyme.families.chat import ChatFamily, chat_settings
from thyme.families.positions import Ids, IntArray, mrope_positions
from thyme.families.sizes import smart_resize
from thyme.families.spans import Grid

MODEL_TYPES: dict[str, CoordinateSystem] = {"qwen2_5_vl": "pixels", "qwen3_vl": "per_mille"}
"""Checkpoint type (``model_type`` of config.json) to how such models name places in an image."""
_VISION = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"


@dataclass(frozen=True, eq=False, kw_only=True)
class QwenVLFamily(ChatFamily):
    """Tokenizer and image settings of one checkpoint: ``qwen2_5_vl`` or ``qwen3_vl``."""

    min_pixels: int
    max_pixels: int
    patch: int
    """Side of a patch, pixels."""
    merge: int
    """Side of the square of patches that becomes one token."""

    image_marks: ClassVar[tuple[str, str, str]] = _VISION
    image_in_template: ClassVar[str] = "".join(_VISION)
    vision_tokens: ClassVar[tuple[str, ...]] = (*_VISION, "<|video_pad|>", "<|vision_pad|>")
    grid_key: ClassVar[str | None] = "image_grid_thw"
    token_types: ClassVar[bool] = True
    position_axes: ClassVar[int] = 3

    @property
    def coordinates(self) -> CoordinateSystem:
        """How models of this family name places in an image."""
        return MODEL_TYPES[self.name]

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels at which the model sees an image of this size."""
        limits = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        return smart_resize(width, height, factor=self.patch * self.merge, **limits)

    def grid(self, width: int, height: int) -> Grid:
        """Patch grid of an image of this size."""
        seen_width, seen_height = self.seen_size(width, height)
        return 1, seen_height // self.patch, seen_width // self.patch

    def image_tokens(self, grid: Grid) -> int:
        """Placeholders that an image of this grid takes."""
        return grid[0] * grid[1] * grid[2] // self.merge**2

    def positions(self, ids: Ids, grids: Sequence[Grid], start: int) -> tuple[IntArray, int]:
        """M-RoPE positions of a chunk; see `thyme.families.positions.mrope_positions`.

        Args:
            ids: Token ids of the chunk, L of them.
            grids: Grids of the chunk's own images.
            start: Position of its first token.

        Returns:
            Positions of shape (3, L), and where the next chunk starts.

        Raises:
            ValueError: Placeholders and grids do not match.
        """
        return mrope_positions(ids, grids, start, image_token_id=self.image_token_id, merge=self.merge)


def load(folder: Path, *, min_pixels: int | None = None, max_pixels: int | None = None) -> QwenVLFamily:
    """Load the family of a checkpoint folder.

    Args:
        folder: The checkpoint.
        min_pixels: Overrides the checkpoint's own limit.
        max_pixels: Overrides the checkpoint's own limit.

    Raises:
        ModelNotFoundError: It has no tokenizer or chat template.
        UsageError: The limits contradict each other.
        MissingExtraError: transformers is not installed.
    """
    settings = chat_settings(folder)
    images = settings["image_config"]
    lowest, highest = _pixel_limits(images)
    lowest, highest = min_pixels or lowest, max_pixels or highest
    if lowest > highest:
        raise UsageError(f"min_pixels {lowest} is above max_pixels {highest}; lower min_pixels or raise max_pixels")
    return QwenVLFamily(
        **settings,
        min_pixels=lowest,
        max_pixels=highest,
        patch=int(images.get("patch_size", 14)),
        merge=int(images.get("merge_size", 2)),
    )


def _pixel_limits(images: dict[str, Any]) -> tuple[int, int]:
    """Limits from either spelling; where both stand, min_pixels and max_pixels win, as in transformers."""
    size = images.get("size") or {}
    lowest = images.get("min_pixels") or size.get("shortest_edge") or 56 * 56
    highest = images.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280
    return int(lowest), int(highest)
