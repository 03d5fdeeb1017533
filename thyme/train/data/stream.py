"""Samples that are read in order, mixed in a buffer, for data that does not fit on the disk or is not to be counted.

One pass over the sources is cut into as many streams as there are processes times data loader workers; each row is in
exactly one. A stream mixes its rows in a buffer (rows that can be had by place wait there as numbers, others as they
were read), drops what cannot be used, and begins its next pass when one is done, in another order. So no process ever
runs dry before another: all batches are full, and the trainer counts steps. Streams differ by at most one row in size
and by what they drop, so over many passes some rows are seen a little more often than others.

A state says how many rows each stream of a process has drawn. A resumed run draws the same numbers again and goes on
behind them: for rows by place that costs nothing; rows of parquet files (a hub dataset's are downloaded) that the pass
under way has drawn already are read once more, but neither decoded nor encoded.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count, islice
from typing import Any, Generic

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from thyme.data.sources.lines import digest
from thyme.errors import ConfigError, EncodeError, UsageError
from thyme.families import Family
from thyme.train.data.index import rounds_of, settings_print
from thyme.train.data.rows import Draw, Parts
from thyme.train.data.samples import Batch, Collate
from thyme.train.distributed import rank, world_size
from thyme.train.encode import Encoded, MaskPolicy, encode_item
from thyme.train.run.records import SourceReport, summed

logger = logging.getLogger(__name__)

_LOOK = 4
"""Rows that are read for each sample of a first look."""


@dataclass(frozen=True)
class StreamSource:
    """Rows in order, and how they are to be encoded."""

    name: str
    format: str
    parts: Parts
    policy: MaskPolicy
    repeat: int = 1


@dataclass
class Tally:
    """What became of the rows of one source."""

    rows: int = 0
    samples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    images: int = 0
    rounds: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)

    def add(self, sample: Encoded) -> None:
        """Count a sample."""
        self.samples += 1
        self.tokens += len(sample)
        self.trained_tokens += sample.trained
        self.images += len(sample.images)
        _count(self.rounds, str(rounds_of(sample)))

    def drop(self, reason: str) -> None:
        """Count a row that cannot be used."""
        _count(self.drops, reason)

    def report(self, source: StreamSource) -> SourceReport:
        """The same as a record of the source."""
        return SourceReport(
            name=source.name, format=source.format, repeat=source.repeat, mask=source.policy.value, **asdict(self)
        )


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


@dataclass
class Cursor:
    """Where a stream stands, and what became of its rows so far."""

    epoch: int = 0
    """Passes done."""
    drawn: int = 0
    """Rows drawn in this pass, dropped ones among them."""
    tallies: list[Tally] = field(default_factory=list)
    """A source each."""

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Cursor:
        """Undo `dump`."""
        return cls(values["epoch"], values["drawn"], [Tally(**tally) for tally in values["tallies"]])


class StreamedSamples:
    """The samples of some sources, in as many streams as there are readers; see `thyme.train.data.samples.Stream`."""

    def __init__(
        self, sources: Sequence[StreamSource], family: Family, *, max_tokens: int, buffer: int, seed: int = 0
    ) -> None:
        """Describe what is read; nothing is.

        Args:
            sources: Read one after the other in each pass, each `repeat` times.
            family: Tokenizer and image geometry of the model that is trained.
            max_tokens: Longer samples are dropped.
            buffer: Rows that the streams of one process mix among themselves, all streams together.
            seed: Of the order.
        """
        self.sources = tuple(sources)
        self._family, self._max_tokens, self._seed = family, max_tokens, seed
        self.buffer = buffer
        prints = [(source.parts.fingerprint, source.policy.value, source.repeat) for source in sources]
        self.fingerprint = digest([settings_print(family, max_tokens), buffer, seed, *prints])

    @property
    def rows(self) -> int | None:
        """Rows of one pass, repeats included, drops not known; None where a source does not know."""
        known = [source.parts.rows for source in self.sources]
        if None in known:
            return None
        return sum(rows * source.repeat for rows, source in zip(known, self.sources, strict=True) if rows is not None)

    def loader(self, batch_size: int, collate: Collate[Batch], *, workers: int = 0) -> StreamBatches[Batch]:
        """Batches of this process, full ones without end.

        Args:
            batch_size: Samples of a batch.
            collate: Makes one; runs in the workers.
            workers: Processes that read, decode and encode; 0: this one does.
        """
        return StreamBatches(self, batch_size, collate, workers)

    def first(self, count: int) -> list[Encoded]:
        """Some samples from the start of the first pass, at most all of it.

        They are mixed among a few times as many rows only: a whole buffer of large ones takes long to fill.

        Raises:
            UsageError: No row can be used.
        """
        return list(islice(self.one_pass(0, 1, mixed=min(self.buffer, _LOOK * count)), count))

    def one_pass(self, stream: int, streams: int, epoch: int = 0, *, mixed: int | None = None) -> Iterator[Encoded]:
        """The samples of one stream's pass; see `samples`."""
        for cursor, sample in self.samples(stream, streams, Cursor(epoch), mixed=mixed):
            if cursor.epoch != epoch:
                return
            yield sample

    def samples(
        self, stream: int, streams: int, start: Cursor, *, mixed: int | None = None
    ) -> Iterator[tuple[Cursor, Encoded]]:
        """The samples of one stream without end, each with the place behind it, which changes when one goes on.

        Args:
            stream: Which one, from 0.
            streams: How many there are.
            start: Where to go on; not changed.
            mixed: Rows of its buffer; None is the whole buffer.

        Raises:
            UsageError: A whole pass gave no sample.
        """
        here = replace(start, tallies=copy.deepcopy(start.tallies) or [Tally() for _ in self.sources])
        for epoch in count(start.epoch):
            before = sum(tally.samples for tally in here.tallies)
            skipped = start.drawn if epoch == start.epoch else 0
            for drawn, (source, draw) in enumerate(self._order(stream, streams, epoch, mixed), start=1):
                if drawn <= skipped:
                    continue
                here.epoch, here.drawn = epoch, drawn
                sample = self._encoded(source, draw, here.tallies[source])
                if sample is not None:
                    yield here, sample
            if not skipped and sum(tally.samples for tally in here.tallies) == before:
                raise UsageError(self._nothing(stream, streams, here))

    def _encoded(self, source: int, draw: Draw, tally: Tally) -> Encoded | None:
        tally.rows += 1
        try:
            sample = encode_item(draw(), self._family, self.sources[source].policy, max_tokens=self._max_tokens)
        except EncodeError as error:
            logger.debug("%s: dropped (%s): %s", self.sources[source].name, error.reason, error)
            tally.drop(error.reason)
            return None
        tally.add(sample)
        return sample

    def _order(self, stream: int, streams: int, epoch: int, mixed: int | None) -> Iterator[tuple[int, Draw]]:
        """The rows of one pass of a stream: each that is read takes the place of one drawn at random from a buffer."""
        random = np.random.default_rng((self._seed, epoch, stream))
        buffer: list[tuple[int, Draw]] = []
        size = max(1, self.buffer if mixed is None else mixed)
        for row in self._read(stream, streams):
            if len(buffer) < size:
                buffer.append(row)
                continue
            place = int(random.integers(size))
            drawn, buffer[place] = buffer[place], row
            yield drawn
        for place in random.permutation(len(buffer)):
            yield buffer[place]

    def _read(self, stream: int, streams: int) -> Iterator[tuple[int, Draw]]:
        for number, source in enumerate(self.sources):
            for _ in range(source.repeat):
                for draw in source.parts.part(stream, streams):
                    yield number, draw

    def _nothing(self, stream: int, streams: int, here: Cursor) -> str:
        drops = {source.name: tally.drops for source, tally in zip(self.sources, here.tallies, strict=True)}
        found = json.dumps({name: reasons for name, reasons in drops.items() if reasons})
        return (
            f"part {stream + 1} of {streams} of the data gave no sample in a whole pass; dropped: {found}; "
            "check the data, or use fewer processes and workers than there are rows"
        )


class StreamBatches(Generic[Batch]):
    """The batches of one process; see `thyme.train.data.samples.Batches`."""

    def __init__(self, samples: StreamedSamples, batch_size: int, collate: Collate[Batch], workers: int) -> None:
        self._samples, self._batch_size, self._collate = samples, batch_size, collate
        self._workers = workers
        self._streams = max(1, workers)
        self._rank, self._world = rank(), world_size()
        self._batches = 0
        self._cursors = [Cursor() for _ in range(self._streams)]

    def __iter__(self) -> Iterator[Batch]:
        """Batches without end. A second call goes on behind the last batch that was given."""
        loader = DataLoader(
            _Streams(self._samples, self._batch_size, self._first_stream, self._places(), list(self._cursors)),
            batch_size=self._batch_size,
            collate_fn=_Together(self._collate),
            num_workers=self._workers,
            generator=torch.Generator().manual_seed(0),  # else it would draw from the generator of the training
        )
        for stream, cursor, batch in loader:
            self._batches += 1
            self._cursors[stream] = Cursor.of(json.loads(cursor))
            yield batch

    @property
    def _first_stream(self) -> int:
        """Whose turn it is: the streams of a process give one batch each in turn."""
        return self._batches % self._streams

    def _places(self) -> tuple[int, int]:
        """The first of this process's streams, and how many there are of all processes."""
        return self._rank * self._streams, self._world * self._streams

    @property
    def state(self) -> dict[str, Any]:
        """Where this process stands behind the last batch that was given; JSON."""
        return {**self._description(), "batches": self._batches, "cursors": [one.dump() for one in self._cursors]}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on behind a state, before iterating.

        Raises:
            ConfigError: It is of other data, or of another number of processes, workers or samples a batch.
        """
        for name, mine in self._description().items():
            if state.get(name) != mine:
                raise ConfigError(
                    f"the stream cannot go on: its {name} was {state.get(name)} and is {mine} now; start it as before, "
                    "or begin anew in another folder (--out)"
                )
        self._batches = state["batches"]
        self._cursors = [Cursor.of(values) for values in state["cursors"]]

    def reports(self) -> tuple[SourceReport, ...]:
        """What became of the rows that this process has read for the batches given so far, a source each."""
        begun = [cursor.tallies for cursor in self._cursors if cursor.tallies]
        return tuple(
            summed([Tally().report(source), *(tallies[i].report(source) for tallies in begun)])
            for i, source in enumerate(self._samples.sources)
        )

    def _description(self) -> dict[str, Any]:
        return {
            "data": self._samples.fingerprint,
            "process": self._rank,
            "processes": self._world,
            "workers": self._workers,
            "batch size": self._batch_size,
        }


class _Streams(IterableDataset[tuple[int, str, Encoded]]):
    """What a data loader's worker iterates: the stream that is its own."""

    def __init__(
        self,
        samples: StreamedSamples,
        batch_size: int,
        first: int,
        places: tuple[int, int],
        cursors: Sequence[Cursor],
    ) -> None:
        self._samples, self._first, self._places, self._cursors = samples, first, places, cursors
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[int, str, Encoded]]:
        """Samples with their stream, and the place behind each that may end a batch."""
        worker = get_worker_info()
        # The loader begins with its worker 0, whoever's turn it is.
        mine = ((worker.id if worker else 0) + self._first) % len(self._cursors)
        begin, streams = self._places
        mixed = self._samples.buffer // len(self._cursors)
        samples = self._samples.samples(begin + mine, streams, self._cursors[mine], mixed=mixed)
        for number, (cursor, sample) in enumerate(samples, start=1):
            ends = number % self._batch_size == 0
            yield mine, json.dumps(cursor.dump()) if ends else "", sample


@dataclass(frozen=True)
class _Together(Generic[Batch]):
    """A batch with its stream and the place behind it."""

    collate: Collate[Batch]

    def __call__(self, rows: Sequence[tuple[int, str, Encoded]]) -> tuple[int, str, Batch]:
        stream, cursor, _ = rows[-1]
        return stream, cursor, self.collate([sample for _, _, sample in rows])
