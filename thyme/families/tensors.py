"""What a family's models take and make as tensors, whatever the family."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from thyme.families import Family
from thyme.families import qwen_vl_tensors as qwen_vl
from thyme.families.qwen_vl import QwenVLFamily
from thyme.types import ImageRecord


def pixels(family: Family, images: Sequence[ImageRecord]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of pixels of some images, as the model's forward takes them in ``pixel_values``.

    Args:
        family: The checkpoint's family.
        images: At least one image, of any mode; transparent parts are shown on white.

    Returns:
        Rows, float32 (Qwen-VL: patches (N, D); InternVL: tiles (N, 3, S, S)), and grids (images, 3), int64.
    """
    if isinstance(family, QwenVLFamily):
        return qwen_vl.pixels(family, images)
    raise TypeError(f"no pixels for models of type {family.name}")
