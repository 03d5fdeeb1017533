"""Where a batch gets its images from: processed anew, kept as pixels, or kept as features of a frozen tower.

The three stand for each other: a model sees the same in all of them (features rounded to bfloat16 excepted).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
import torch

from thyme.families import Family
from thyme.families.tensors import features, pixels, tower_output
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
        """Rows (N, ...), float32."""
        return pixels(self._family, images)[0]


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Rows of one image as they are kept."""

    values: torch.Tensor
    """(N, 3, P) levels, uint8, of rows that have 3 * `repeats` * P values; or the rows themselves, float32."""
    shape: torch.Size
    """Of the rows."""
    repeats: int = 1


class KeptPixels:
    """Processes each image once and keeps its rows, as the 8-bit values they were made from where that is exact.

    A row holds (value / 255 - mean) / std, one channel behind the other. A patch vector of Qwen-VL repeats each channel
    of a still image over two time steps: one byte for each eight of float32 brings it back. A tile of InternVL holds
    each once: one byte for four.
    """

    key = PIXELS

    def __init__(self, family: Family) -> None:
        self._family = family
        self._kept: dict[str, _Pixels] = {}
        self._table: torch.Tensor | None = None

    def add(self, images: Iterable[ImageRecord]) -> None:
        """Process the images that are new."""
        for image in images:
            if image.id not in self._kept:
                self._kept[image.id] = self._packed(pixels(self._family, [image])[0])

    def __call__(self, images: Sequence[ImageRecord]) -> torch.Tensor:
        """Rows (N, ...), float32."""
        return torch.cat([self._unpacked(self._kept[image.id]) for image in images])

    def _packed(self, rows: torch.Tensor) -> _Pixels:
        """Levels if they give the rows back; else the rows themselves."""
        values = rows.reshape(len(rows), 3, -1)
        half = values.shape[-1] // 2
        repeats = 2 if torch.equal(values[..., :half], values[..., half:]) else 1
        values = values[..., : values.shape[-1] // repeats]
        table = self._levels()
        nearest = torch.searchsorted((table[:, 1:] + table[:, :-1]) / 2, values.transpose(0, 1).flatten(1).contiguous())
        levels = nearest.view(3, len(rows), -1).transpose(0, 1).to(torch.uint8).contiguous()
        packed = _Pixels(levels, rows.shape, repeats)
        exact = torch.allclose(self._unpacked(packed), rows, rtol=0, atol=2e-6)
        return packed if exact else _Pixels(rows, rows.shape)

    def _unpacked(self, kept: _Pixels) -> torch.Tensor:
        if kept.values.dtype != torch.uint8:
            return kept.values
        table = self._levels()
        values = torch.stack([table[c][kept.values[:, c].long()] for c in range(3)], dim=1)
        return values.unsqueeze(2).expand(-1, -1, kept.repeats, -1).reshape(kept.shape)

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
        rows, grids = pixels(self._family, images)
        device = self._model.device
        return [seen.to("cpu", self._dtype) for seen in features(self._model, rows.to(device), grids.to(device))]


def _batched(images: Iterable[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def model_inputs(inputs: dict[str, Any], hidden: int, model_type: str) -> dict[str, Any]:
    """Replace kept features in a batch by the tower's output that the model's forward takes in place of pixels.

    Args:
        inputs: The batch; not changed.
        hidden: Width H of the language model.
        model_type: ``model_type`` of the model's config.json, the family's name.
    """
    if FEATURES not in inputs:
        return inputs
    rest = {name: value for name, value in inputs.items() if name != FEATURES}
    return rest | {"mm_encoder_outputs": {"image": tower_output(model_type, inputs[FEATURES], hidden)}}
