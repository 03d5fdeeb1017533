"""What a family's models take and make as tensors, whatever the family."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, cast

import torch

from thyme.families import FAMILIES, Family
from thyme.types import ImageRecord


class _Half(Protocol):
    """A family's module of tensors: the functions below, without the first argument of those that name a type."""

    def pixels(self, family: Any, images: Sequence[ImageRecord]) -> tuple[torch.Tensor, torch.Tensor]:
        """See `pixels`."""
        ...

    def features(self, model: Any, rows: torch.Tensor, grids: torch.Tensor) -> list[torch.Tensor]:
        """See `features`."""
        ...

    def tower_output(self, features: torch.Tensor, hidden: int) -> Any:
        """See `tower_output`."""
        ...


def pixels(family: Family, images: Sequence[ImageRecord]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of pixels of some images, as the model's forward takes them in ``pixel_values``.

    Args:
        family: The checkpoint's family.
        images: At least one image, of any mode; transparent parts are shown on white.

    Returns:
        Rows, float32 (Qwen-VL: patches (N, D); InternVL: tiles (N, 3, S, S)), and grids (images, 3), int64.
    """
    return _half(family.name).pixels(family, images)


def features(model: Any, rows: torch.Tensor, grids: torch.Tensor) -> list[torch.Tensor]:
    """What the language model gets of each image: the vision part's output, gradients and all.

    Args:
        model: The model with its language head.
        rows: From `pixels`, on the model's device.
        grids: From `pixels`.

    Returns:
        For each image (image tokens, (1 + deepstack layers) * H); features for deeper layers lie behind the main ones.
    """
    return _half(model.config.model_type).features(model, rows, grids)


def tower_output(model_type: str, features: torch.Tensor, hidden: int) -> Any:
    """What a model's forward takes as ``mm_encoder_outputs["image"]`` in place of pixels.

    Args:
        model_type: ``model_type`` of config.json.
        features: (image tokens of the batch, (1 + deepstack layers) * H), as `features` makes them.
        hidden: Width H of the language model.
    """
    return _half(model_type).tower_output(features, hidden)


def _half(model_type: str) -> _Half:
    return cast(_Half, import_module(f"{FAMILIES[model_type]}_tensors"))
