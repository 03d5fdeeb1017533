"""How the trainer gets its batches: by place, in an order that a resumed run repeats, or from a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from thyme.config.sft import SFTSettings
from thyme.errors import ThymeError
from thyme.families import Family
from thyme.train.batches.collate import Batch, collate, collate_packed
from thyme.train.batches.dummy_vision import with_unseen_image
from thyme.train.batches.vision import ImageSource
from thyme.train.data.packing import pack, pack_stream
from thyme.train.data.samples import Batches, Samples, Stream
from thyme.train.data.sampling import EpochBatches, Row
from thyme.train.distributed import gather, rank, world_size
from thyme.train.encode import Encoded
from thyme.train.run.records import SourceReport, summed

NUMBERS: Final = "sample_numbers"
"""In a batch: the numbers of its samples, for messages; no tensor, and not for the model."""
TOKENS: Final = "token_count"
"""In a batch: tokens of its samples, padding and stand-ins not counted; not for the model."""

Numbered = list[tuple[int, Encoded]]
"""The samples of a row with their numbers."""


@dataclass(frozen=True)
class Collator:
    """Makes a batch of rows of numbered samples; runs in the data loader's workers."""

    images: ImageSource
    family: Family
    pad_to_multiple: int = 1
    packed: bool = False
    always_an_image: bool = False
    """See `thyme.train.batches.dummy_vision`."""

    def __call__(self, rows: Sequence[Numbered]) -> Batch:
        """The batch; where it is not packed each row holds one sample."""
        options: dict[str, Any] = {"pad_to_multiple": self.pad_to_multiple}
        samples = [[sample for _, sample in row] for row in rows]
        if self.always_an_image:
            samples = with_unseen_image(samples, self.family)
        if self.packed:
            batch = collate_packed(samples, self.images, self.family, **options)
        else:
            batch = collate([row[0] for row in samples], self.images, self.family, **options)
        batch[NUMBERS] = [number for row in rows for number, _ in row if number >= 0]
        batch[TOKENS] = sum(len(sample) for row in rows for number, sample in row if number >= 0)
        return batch


class _Rows(Dataset[Numbered]):
    """Samples by row. A row that stands in for nothing left is trained on nowhere."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, row: Row) -> Numbered:
        return [(number, self._sample(number)) for number in row]

    def _sample(self, number: int) -> Encoded:
        if number >= 0:
            return self._samples[number]
        sample = self._samples[~number]
        mask = np.zeros_like(sample.loss_mask)
        return Encoded(ids=sample.ids, loss_mask=mask, images=sample.images, grids=sample.grids, spans=sample.spans)


class EpochLoader(DataLoader[Any]):
    """torch's loader over `EpochBatches`. Draws no random number that training would miss."""

    def __init__(self, samples: Samples, batches: EpochBatches, collator: Collator, settings: SFTSettings) -> None:
        super().__init__(
            _Rows(samples),
            batch_sampler=batches,
            collate_fn=collator,
            num_workers=settings.workers,
            pin_memory=torch.cuda.is_available() and settings.device != "cpu",
            generator=torch.Generator(),
        )
        self._batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Go on with the order of this epoch."""
        self._batches.set_epoch(epoch)


@contextmanager
def errors_of_workers() -> Iterator[None]:
    """Raise our own errors from a data loader's workers in their own words: torch puts a traceback around them."""
    try:
        yield
    except ThymeError as error:
        before, _, own = str(error).rpartition(f"{type(error).__name__}: ")
        if not before.startswith("Caught "):
            raise
        raise type(error)(own.strip()) from error


def training_loader(samples: Samples, collator: Collator, settings: SFTSettings) -> EpochLoader:
    """Batches of this process over all samples, epoch by epoch.

    Raises:
        UsageError: Packing, and a sample is longer than a row.
    """
    rows: list[Row] = [(number,) for number in range(len(samples))]
    if settings.packing:
        rows = pack(samples.lengths, settings.packed_tokens, seed=settings.seed)
    lengths = [sum(samples.lengths[number] for number in row) for row in rows]
    batches = EpochBatches(
        rows,
        lengths,
        settings.batch_size,
        seed=settings.seed,
        group_by_length=settings.group_by_length,
        rank=rank(),
        processes=world_size(),
    )
    return EpochLoader(samples, batches, collator, settings)


def validation_loader(samples: Samples, collator: Collator, settings: SFTSettings) -> EpochLoader:
    """Batches of this process over all samples, longest first, never packed."""
    order = sorted(range(len(samples)), key=lambda number: -samples.lengths[number])
    rows: list[Row] = [(number,) for number in order]
    batches = EpochBatches(rows, [], settings.batch_size, in_order=True, rank=rank(), processes=world_size())
    return EpochLoader(samples, batches, collator, settings)


class StreamLoader:
    """Batches of this process from a stream, without end.

    Packed rows are filled in the order in which samples come, and the one that did not fit any more is read again by a
    run that resumes, so that the stream's own state says all there is to remember.
    """

    def __init__(self, stream: Stream, collator: Collator, settings: SFTSettings) -> None:
        self._collator, self._settings = collator, settings
        self._packed = settings.packing
        size = 1 if self._packed else settings.batch_size
        collate_fn = _all if self._packed else _Numberless(collator)
        self._source: Batches[Any] = stream.loader(size, collate_fn, workers=settings.workers)
        self._seen = 0
        self._state: dict[str, Any] = {}

    @property
    def state(self) -> dict[str, Any]:
        """Where this process stands after the last batch; JSON."""
        return self._state

    def resume(self, state: dict[str, Any]) -> None:
        """Go on behind a state, before iterating.

        Raises:
            ConfigError: It is one of other data, or of another number of processes or workers.
        """
        self._seen = state["seen"]
        self._source.resume(state["stream"])

    def reports(self) -> tuple[SourceReport, ...]:
        """What became of the rows that all processes have read so far, a source each; all of them must ask."""
        return tuple(map(summed, zip(*gather(self._source.reports()), strict=True)))

    def __iter__(self) -> Iterator[Batch]:
        """The batches. What training draws at random is left as it was."""
        batches = self._packed_batches() if self._packed else self._plain_batches()
        while True:
            drawn = torch.get_rng_state()
            batch = next(batches, None)
            torch.set_rng_state(drawn)
            if batch is None:
                return
            yield batch

    def _plain_batches(self) -> Iterator[Batch]:
        for batch in self._source:
            count = len(batch[NUMBERS])
            batch[NUMBERS] = list(range(self._seen, self._seen + count))
            self._remember(count, self._source.state)
            yield batch

    def _packed_batches(self) -> Iterator[Batch]:
        singles = ((sample, self._source.state) for batch in self._source for sample in batch)
        rows = pack_stream(singles, lambda single: len(single[0]), self._settings.packed_tokens)
        while True:
            chosen = list(islice(rows, self._settings.batch_size))
            if not chosen:
                return
            first, taken = self._seen, [sample for row in chosen for sample, _ in row]
            numbers = iter(range(first, first + len(taken)))
            self._remember(len(taken), chosen[-1][-1][1])
            yield self._collator([[(next(numbers), sample) for sample, _ in row] for row in chosen])

    def _remember(self, count: int, state: dict[str, Any]) -> None:
        self._seen += count
        self._state = {"seen": self._seen, "stream": state}


def _all(samples: Sequence[Encoded]) -> list[Encoded]:
    return list(samples)


@dataclass(frozen=True)
class _Numberless:
    """Collates samples of a stream, which get their numbers when they arrive."""

    collator: Collator

    def __call__(self, samples: Sequence[Encoded]) -> Batch:
        return self.collator([[(0, sample)] for sample in samples])
