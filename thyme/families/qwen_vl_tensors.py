"""Pixels of images for Qwen-VL models, as tensors. Works without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image

from thyme.families.pictures import opaque
from thyme.families.qwen_vl import QwenVLFamily
from thyme.families.sizes import widened
from thyme.types import ImageRecord

_OWN_SETTINGS = (
    "do_resize",
    "resample",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
)
"""Settings taken over from the checkpoint; the pixel limits come from the family, which may override them."""


def pixels(family: QwenVLFamily, images: Sequence[ImageRecord]) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of images, as the vision tower takes them.

    Args:
        family: The checkpoint's family.
        images: At least one image, of any mode; transparent parts are shown on white.

    Returns:
        Patches of shape (sum of t*h*w, channels * 2 * patch * patch), float32, and grids of shape (images, 3), int64.
    """
    processor = _processor(family)
    patches, grids = [], []
    for record in images:
        # One by one: images of unlike sizes share nothing, and the caller may want them apart.
        made = processor(images=[rgb(record.image)], return_tensors="np")
        patches.append(torch.from_numpy(made["pixel_values"]))
        grids.append(torch.from_numpy(made["image_grid_thw"]))
        expected = family.grid(record.width, record.height)
        if tuple(grids[-1][0].tolist()) != expected:
            raise ValueError(f"image {record.id}: grid {grids[-1][0].tolist()} where {expected} was foreseen")
    return torch.cat(patches), torch.cat(grids)


def rgb(image: Image.Image) -> Image.Image:
    """An image as these models are shown it: opaque RGB, no thinner than 1:200."""
    image = opaque(image)
    size = widened(image.width, image.height)
    return image if size == image.size else image.resize(size)


def features(model: Any, rows: torch.Tensor, grids: torch.Tensor) -> list[torch.Tensor]:
    """See `thyme.families.tensors.features`."""
    seen = model.get_image_features(rows, grids)
    layers = [seen.pooler_output, *(getattr(seen, "deepstack_features", None) or ())]
    return [torch.cat(parts, dim=-1) for parts in zip(*layers, strict=True)]


def tower_output(features: torch.Tensor, hidden: int) -> Any:
    """See `thyme.families.tensors.tower_output`."""
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

    first, *deep = torch.split(features, hidden, dim=-1)
    # The models read tuples with a tensor an image here, whatever the annotations of the class say.
    output: Any = BaseModelOutputWithDeepstackFeatures
    return output(pooler_output=(first,), deepstack_features=[(part,) for part in deep])


@lru_cache(maxsize=8)
def _processor(family: QwenVLFamily) -> Any:
    """The image processor that needs no torchvision, with the family's pixel limits."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    settings = {name: family.image_config[name] for name in _OWN_SETTINGS if name in family.image_config}
    size = {"shortest_edge": family.min_pixels, "longest_edge": family.max_pixels}
    return Qwen2VLImageProcessorPil(size=size, **settings)
