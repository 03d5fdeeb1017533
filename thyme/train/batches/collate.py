"""From samples to a batch of tensors.

Shapes: B rows, L tokens of the longest, N rows of pixels and K images of all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from thyme.families import Family
from thyme.train.batches.vision import ImageSource
from thyme.train.encode import IGNORED, Encoded

Batch = dict[str, Any]


def collate(samples: Sequence[Encoded], images: ImageSource, family: Family, *, pad_to_multiple: int = 1) -> Batch:
    """Pad samples on the right and put their images together.

    Args:
        samples: B samples.
        images: Where the pixels, or the features, of the images come from.
        family: Says which of the tensors its models take.
        pad_to_multiple: L is a multiple of this.

    Returns:
        ``input_ids``, ``labels``, ``attention_mask`` and, where the family needs them, ``mm_token_type_ids`` of shape
        (B, L), int64; where there are images also their grids (K, 3) and the tensor of `images` (``pixel_values``
        (N, D), for example). A batch without images has neither, so that the vision tower is not called at all.
    """
    ids, labels = _blank(len(samples), max(map(len, samples)), family, pad_to_multiple)
    attended = np.zeros_like(ids)
    for row, sample in enumerate(samples):
        ids[row, : len(sample)] = sample.ids
        labels[row, : len(sample)] = sample.labels
        attended[row, : len(sample)] = 1
    batch = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "attention_mask": torch.from_numpy(attended),
    }
    if family.token_types:
        # Without these the model silently falls back to one-dimensional positions.
        batch["mm_token_type_ids"] = torch.from_numpy((ids == family.image_token_id) * attended)
    return batch | _shown(samples, images, family)


def collate_packed(
    rows: Sequence[Sequence[Encoded]], images: ImageSource, family: Family, *, pad_to_multiple: int = 1
) -> Batch:
    """Put the samples of each row one behind the other; each begins at position 0 and sees no other.

    Args:
        rows: B rows of samples.
        images: Where the pixels, or the features, of the images come from.
        family: Gives the positions.
        pad_to_multiple: L is a multiple of this.

    Returns:
        As `collate`, but ``position_ids`` instead of a mask: (B, L), or (4, B, L) where positions have three axes, with
        those of the text first, from which transformers tells samples apart. Padding counts as one sample more. And
        ``use_cache``, False, without which they would not be told apart.
    """
    ids, labels = _blank(len(rows), max(sum(map(len, row)) for row in rows), family, pad_to_multiple)
    axes = family.position_axes
    positions = np.zeros((1 + axes, *ids.shape), dtype=np.int64)
    for i, row in enumerate(rows):
        end = 0
        for sample in row:
            start, end = end, end + len(sample)
            ids[i, start:end] = sample.ids
            labels[i, start + 1 : end] = sample.labels[1:]  # its first token would be a target of the one before
            positions[0, i, start:end] = np.arange(end - start)
            positions[1:, i, start:end] = family.positions(sample.ids, sample.grids, 0)[0]
        positions[:, i, end:] = np.arange(ids.shape[1] - end)
    batch = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "position_ids": torch.from_numpy(positions if axes > 1 else positions[0]),
        "use_cache": False,  # with a cache the library would not look for packed samples, and they would see each other
    }
    if family.token_types:
        batch["mm_token_type_ids"] = torch.from_numpy((ids == family.image_token_id).astype(np.int64))
    return batch | _shown([sample for row in rows for sample in row], images, family)


def _blank(rows: int, longest: int, family: Family, multiple: int) -> tuple[Any, Any]:
    """Ids full of padding and labels full of nothing, (rows, L)."""
    pad = family.tokenizer.pad_token_id
    ids = np.full((rows, -(-longest // multiple) * multiple), 0 if pad is None else pad, dtype=np.int64)
    return ids, np.full_like(ids, IGNORED)


def _shown(samples: Sequence[Encoded], images: ImageSource, family: Family) -> Batch:
    """The images' own tensors, where there are images."""
    shown = [image for sample in samples for image in sample.images]
    if not shown:
        return {}
    tensors: Batch = {images.key: images(shown)}
    if family.grid_key is not None:
        grids = [grid for sample in samples for grid in sample.grids]
        tensors[family.grid_key] = torch.tensor(grids, dtype=torch.int64)
    return tensors
