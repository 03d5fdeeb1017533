"""Pixels of images for InternVL models, as tensors. Works without torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from thyme.families.internvl import InternVLFamily
from thyme.families.pictures import opaque
from thyme.types import ImageRecord

_OWN_SETTINGS = "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"
"""Settings taken over from the checkpoint; size and number of tiles come from the family, which may override them."""


def pixels(family: InternVLFamily, images: Sequence[ImageRecord]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tiles of images, as the vision tower takes them.

    Args:
        family: The checkpoint's family.
        images: At least one image, of any mode; transparent parts are shown on white.

    Returns:
        Tiles of shape (N, 3, S, S), float32, each image's row by row with its thumbnail last, and grids of shape
        (images, 3), int64.
    """
    processor = _processor(family)
    tiles, grids = [], []
    for record in images:
        # One by one: images of unlike sizes share nothing, and the caller may want them apart.
        made = torch.from_numpy(processor(images=[opaque(record.image)], return_tensors="np")["pixel_values"])
        grids.append(family.grid(record.width, record.height))
        if len(made) != grids[-1][0]:
            raise ValueError(f"image {record.id}: {len(made)} tiles where {grids[-1][0]} were foreseen")
        tiles.append(made)
    return torch.cat(tiles), torch.tensor(grids, dtype=torch.int64)


def features(model: Any, rows: torch.Tensor, grids: torch.Tensor) -> list[torch.Tensor]:
    """See `thyme.families.tensors.features`."""
    seen = model.get_image_features(rows).pooler_output
    return [tiles.flatten(0, 1) for tiles in seen.split(grids[:, 0].tolist())]


def tower_output(features: torch.Tensor, hidden: int) -> Any:
    """See `thyme.families.tensors.tower_output`."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    output: Any = BaseModelOutputWithPooling
    return output(pooler_output=features)


@lru_cache(maxsize=8)
def _processor(family: InternVLFamily) -> Any:
    """The image processor that needs no torchvision, with the family's tiles."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    settings = {name: family.image_config[name] for name in _OWN_SETTINGS if name in family.image_config}
    return GotOcr2ImageProcessorPil(
        **settings,
        size={"height": family.tile, "width": family.tile},
        # The processor of a checkpoint cuts images whatever its image settings say.
        crop_to_patches=True,
        min_patches=family.fewest_tiles,
        max_patches=family.most_tiles,
    )
