"""The order of samples: a function of seed and epoch alone, so that a resumed run goes on as the first would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Row = tuple[int, ...]
"""Samples, by number, that share a row of a batch: one, or several that are packed. Negative: see `stand_in`."""

_POOL = 50
"""Batches that are drawn at random and then sorted among themselves; larger pads less and mixes less."""


def epoch_order(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, group_by_length: bool = True
) -> list[int]:
    """Order in which the samples of one epoch are visited, to be cut into batches of `batch_size`.

    Args:
        lengths: Tokens of each sample.
        batch_size: Samples that go through the model together, in all processes.
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


def stand_in(row: Row) -> Row:
    """The row with its numbers inverted: the same samples, trained on nowhere.

    What a process gets that has nothing left in the last batch of an epoch: all processes must go through the model
    equally often, and no sample may count twice.
    """
    return tuple(~number for number in row)


class EpochBatches(Sampler[list[Row]]):
    """Batches of one process, an epoch at a time; whoever loops over epochs calls `set_epoch`.

    All processes' batches of one forward pass are cut from `epoch_order` together, so they are of like length, and
    every row is in exactly one of them.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        lengths: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        group_by_length: bool = False,
        in_order: bool = False,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Plan the batches.

        Args:
            rows: What is visited.
            lengths: Tokens of each row.
            batch_size: Rows in a batch of this process.
            seed: Of the order.
            group_by_length: See `epoch_order`.
            in_order: Visit the rows as they are given, in every epoch.
            rank: Number of this process.
            processes: How many there are.
        """
        self._rows, self._lengths, self._size = rows, lengths, batch_size * processes
        self._seed, self._group, self._in_order, self._epoch = seed, group_by_length, in_order, 0
        self._rank, self._processes = rank, processes

    def set_epoch(self, epoch: int) -> None:
        """Go on with this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch; the same in every process."""
        return -(-len(self._rows) // self._size)

    def __iter__(self) -> Iterator[list[Row]]:
        """The batches of this epoch."""
        order = self._order()
        for start in range(0, len(order), self._size):
            together = order[start : start + self._size]
            own = together[self._rank :: self._processes]
            yield [self._rows[i] for i in own] or [stand_in(self._rows[together[0]])]

    def _order(self) -> list[int]:
        if self._in_order:
            return list(range(len(self._rows)))
        return epoch_order(self._lengths, self._size, seed=self._seed, epoch=self._epoch, group_by_length=self._group)
