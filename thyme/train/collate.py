"""From samples to a batch of tensors.

Shapes: B samples, L tokens of the longest, N patches and K images of all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from thyme.train.encode import IGNORED, Encoded
from thyme.train.vision import ImageSource

Batch = dict[str, torch.Tensor]


def collate(
    samples: Sequence[Encoded], images: ImageSource, *, image_token_id: int, pad_id: int, pad_to_multiple: int = 1
) -> Batch:
    """Pad samples on the right and put their images together.

    Args:
        samples: B samples.
        images: Where the pixels, or the features, of the images come from.
        image_token_id: The placeholder.
        pad_id: Fills up the ids; it is neither attended to nor trained on.
        pad_to_multiple: L is a multiple of this.

    Returns:
        ``input_ids``, ``labels``, ``attention_mask`` and ``mm_token_type_ids`` of shape (B, L), int64; where there are
        images also ``image_grid_thw`` (K, 3) and the tensor of `images` (``pixel_values`` (N, D), for example). A batch
        without images has neither, so that the vision tower is not called at all.
    """
    longest = max(len(sample) for sample in samples)
    length = -(-longest // pad_to_multiple) * pad_to_multiple
    ids = np.full((len(samples), length), pad_id, dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    attended = np.zeros_like(ids)
    for row, sample in enumerate(samples):
        ids[row, : len(sample)] = sample.ids
        labels[row, : len(sample)] = sample.labels
        attended[row, : len(sample)] = 1
    batch = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "attention_mask": torch.from_numpy(attended),
        # Without these the model silently falls back to one-dimensional positions.
        "mm_token_type_ids": torch.from_numpy((ids == image_token_id) * attended),
    }
    shown = [image for sample in samples for image in sample.images]
    if shown:
        grids = [grid for sample in samples for grid in sample.grids]
        batch["image_grid_thw"] = torch.tensor(grids, dtype=torch.int64)
        batch[images.key] = images(shown)
    return batch
