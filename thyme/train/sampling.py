"""The order of samples: a function of seed and epoch alone, so that a resumed run goes on as the first would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_POOL = 50
"""Batches that are drawn at random and then sorted among themselves; larger pads less and mixes less."""


def epoch_order(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, group_by_length: bool = True
) -> list[int]:
    """Order in which the samples of one epoch are visited, to be cut into batches of `batch_size`.

    Args:
        lengths: Tokens of each sample.
        batch_size: Samples that go through the model together.
        seed: Of the run.
        epoch: From 0; each has an order of its own.
        group_by_length: Whether samples of like length stand together. The batches themselves stay in random order,
            but for the last one, which may be a smaller one.
    """
    draw = np.random.default_rng((seed, epoch))
    order = draw.permutation(len(lengths))
    if not group_by_length:
        return [int(index) for index in order]
    size = np.asarray(lengths)
    pools = [order[start : start + batch_size * _POOL] for start in range(0, len(order), batch_size * _POOL)]
    pooled = np.concatenate([pool[np.argsort(-size[pool], kind="stable")] for pool in pools])
    full = len(pooled) // batch_size * batch_size
    batches = draw.permutation(pooled[:full].reshape(-1, batch_size))
    return [int(index) for index in np.concatenate([batches.reshape(-1), pooled[full:]])]


class EpochSampler(Sampler[int]):
    """`epoch_order` for torch's data loader. Whoever loops over epochs calls `set_epoch`."""

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, group_by_length: bool) -> None:
        self._lengths, self._batch_size = lengths, batch_size
        self._seed, self._group, self._epoch = seed, group_by_length, 0

    def set_epoch(self, epoch: int) -> None:
        """Go on with this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """The samples' indices in this epoch's order."""
        return iter(
            epoch_order(
                self._lengths, self._batch_size, seed=self._seed, epoch=self._epoch, group_by_length=self._group
            )
        )
