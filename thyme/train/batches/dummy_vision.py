"""An image that nobody looks at, for batches without one, where every process must go through the vision tower.

A tower that is spread over processes (FSDP, ZeRO-3) is put together layer by layer by all of them, and the gradients of
one that is trained are averaged over all of them: a process whose batch shows no image would leave the others waiting.
So one sample of such a batch gets a small grey image behind its last token. Attention looks back only and nothing
behind that token is trained on, so no loss changes, and the gradient that reaches the tower is exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image

from thyme.families import Family
from thyme.train.encode import Encoded
from thyme.types import ImageRecord

_SIDE, _GREY = 56, (128, 128, 128)


@lru_cache
def unseen_image() -> ImageRecord:
    """The image."""
    return ImageRecord.of(Image.new("RGB", (_SIDE, _SIDE), _GREY))


def with_unseen_image(rows: Sequence[list[Encoded]], family: Family) -> list[list[Encoded]]:
    """Make sure that a batch shows an image.

    Args:
        rows: Of the batch, at least one, each with one sample or, packed, with several.
        family: Says how an image is written.

    Returns:
        The rows themselves where one of them shows an image. Else the shortest one has `unseen_image` behind it.
    """
    made = list(rows)
    if not any(sample.images for row in rows for sample in row):
        shortest = min(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
        made[shortest] = [*rows[shortest][:-1], _extended(rows[shortest][-1], family)]
    return made


def _extended(sample: Encoded, family: Family) -> Encoded:
    span = family.encode_parts([unseen_image()])
    return replace(
        sample,
        ids=np.concatenate([sample.ids, np.asarray(span.ids, dtype=sample.ids.dtype)]),
        loss_mask=np.concatenate([sample.loss_mask, np.zeros(len(span.ids), dtype=sample.loss_mask.dtype)]),
        images=span.images,
        grids=span.grids,
    )
