"""Where a batch gets its images from: processed anew, kept as pixels, or kept as features of a frozen tower.

The three stand for each other: a model sees the same in all of them (features rounded to bfloat16 excepted).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
import torch

from thyme.families import Family
from thyme.families.tensors import pixels
from thyme.types import ImageRecord

PIXELS: Final = "pixel_values"
FEATURES: Final = "image_features"
"""Key of kept features in a batch; `model_inputs` turns it into what the model's forward takes."""

_CLIP_MEAN = 0.48145466, 0.4578275, 0.40821073
_CLIP_STD = 0.26862954, 0.26130258, 0.27577711
"""What the families' image processors take where a checkpoint names no mean and deviation."""
_BATCH = 32
"""Images that go through the tower together when features are made."""


class ImageSource(Protocol):
    """Gives the tensor that a batch needs for its images."""

    @property
    def key(self) -> str:
        """Name of the tensor in the batch."""
        ...

    def add(self, images: Iterable[ImageRecord]) -> None:
        """Take notice of images that will be asked for; afterwards a keeping source needs their pixels no more."""
        ...

    def __call__(self, images: Sequence[ImageRecord]) -> torch.Tensor:
        """The images' rows, concatenated in order."""
        ...


class FreshPixels:
    """Processes the images of each batch. Keeps nothing."""

    key = PIXELS

    def __init__(self, family: Family) -> None:
        self._family = family

    def add(self, images: Iterable[ImageRecord]) -> None:
        """Nothing is kept."""

    def __call__(self, images: Sequence[ImageRecord]) -> torch.Tensor:
        """Patches (N, D), float32."""
        return pixels(self._family, images)[0]


class KeptPixels:
    """Processes each image once and keeps its patches, as the 8-bit values they were made from where that is exact.

    A patch vector of these families repeats each still image over two time steps and holds (value / 255 - mean) / std:
    one byte for each eight of float32 brings it back.
    """

    key = PIXELS

    def __init__(self, family: Family) -> None:
        self._family = family
        self._kept: dict[str, torch.Tensor] = {}
        self._table: torch.Tensor | None = None

    def add(self, images: Iterable[ImageRecord]) -> None:
        """Process the images that are new."""
        for image in images:
            if image.id not in self._kept:
                patches = pixels(self._family, [image])[0]
                self._kept[image.id] = self._packed(patches)

    def __call__(self, images: Sequence[ImageRecord]) -> torch.Tensor:
        """Patches (N, D), float32."""
        return torch.cat([self._unpacked(self._kept[image.id]) for image in images])

    def _packed(self, patches: torch.Tensor) -> torch.Tensor:
        """Levels (N, 3, P), uint8, if they give the patches back; else the patches themselves."""
        values = patches.view(len(patches), 3, 2, -1)[:, :, 0]
        table = self._levels()
        nearest = torch.searchsorted((table[:, 1:] + table[:, :-1]) / 2, values.transpose(0, 1).flatten(1).contiguous())
        levels = nearest.view(3, len(patches), -1).transpose(0, 1).to(torch.uint8).contiguous()
        exact = torch.allclose(self._unpacked(levels), patches, rtol=0, atol=2e-6)
        return levels if exact else patches

    def _unpacked(self, kept: torch.Tensor) -> torch.Tensor:
        if kept.dtype != torch.uint8:
            return kept
        table = self._levels()
        values = torch.stack([table[c][kept[:, c].long()] for c in range(3)], dim=1)
        return values.unsqueeze(2).expand(-1, -1, 2, -1).reshape(len(kept), -1)

    def _levels(self) -> torch.Tensor:
        """(3, 256) value of each 8-bit level of each channel after rescaling and normalising."""
        if self._table is None:
            config = self._family.image_config
            mean = np.asarray(config.get("image_mean", _CLIP_MEAN), dtype=np.float64)[:, None]
            std = np.asarray(config.get("image_std", _CLIP_STD), dtype=np.float64)[:, None]
            scale = float(config.get("rescale_factor", 1 / 255))
            table = (np.arange(256)[None] * scale - mean) / std
            self._table = torch.from_numpy(table.astype(np.float32))
        return self._table


class KeptFeatures:
    """Sends each image once through a frozen vision tower and keeps what the language model gets of it.

    Where a family feeds features into several layers (deepstack), those lie behind the main ones in each row.
    """

    key = FEATURES

    def __init__(self, model: Any, family: Family, *, dtype: torch.dtype = torch.float32) -> None:
        """Use `model`'s tower, on its device, in evaluation mode.

        Args:
            model: The model with its language head.
            family: Processes the images.
            dtype: Of the kept features.
        """
        self._model, self._family, self._dtype = model, family, dtype
        self._kept: dict[str, torch.Tensor] = {}

    def add(self, images: Iterable[ImageRecord]) -> None:
        """See the images that are new."""
        new = {image.id: image for image in images if image.id not in self._kept}
        for batch in _batched(new.values(), _BATCH):
            self._kept.update(zip((image.id for image in batch), self._see(batch), strict=True))

    def __call__(self, images: Sequence[ImageRecord]) -> torch.Tensor:
        """Features (image tokens, (1 + deepstack layers) * H)."""
        return torch.cat([self._kept[image.id] for image in images])

    @torch.no_grad()
    def _see(self, images: Sequence[ImageRecord]) -> list[torch.Tensor]:
        patches, grids = pixels(self._family, images)
        device = self._model.device
        seen = self._model.get_image_features(patches.to(device), grids.to(device))
        layers = [seen.pooler_output, *(getattr(seen, "deepstack_features", None) or ())]
        return [torch.cat(parts, dim=-1).to("cpu", self._dtype) for parts in zip(*layers, strict=True)]


def _batched(images: Iterable[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def model_inputs(inputs: dict[str, Any], hidden: int) -> dict[str, Any]:
    """Replace kept features in a batch by the tower's output that the model's forward takes in place of pixels.

    Args:
        inputs: The batch; not changed.
        hidden: Width H of the language model.
    """
    if FEATURES not in inputs:
        return inputs
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

    rest = {name: value for name, value in inputs.items() if name != FEATURES}
    first, *deep = inputs[FEATURES].split(hidden, dim=-1)
    # The models read tuples with a tensor an image here, whatever the annotations of the class say.
    tower_output: Any = BaseModelOutputWithDeepstackFeatures
    seen = tower_output(pooler_output=(first,), deepstack_features=[(part,) for part in deep])
    return rest | {"mm_encoder_outputs": {"image": seen}}
