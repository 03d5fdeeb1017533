"""What the trainer reads: encoded samples by place, or a stream of them that never ends.

`ListSamples` are in memory, `thyme.train.data.index.IndexedSamples` on disk, and
`thyme.train.data.stream.StreamedSamples` anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from thyme.train.encode import Encoded
from thyme.train.run.records import SourceReport

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)

Collate = Callable[[Sequence[Encoded]], Batch]
"""Makes a batch of some samples; it runs in the data loader's workers, so it must be picklable where there are any."""


class Samples(Protocol):
    """Samples by place: an epoch visits each once. May be sent to data loader workers."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each sample."""
        ...

    @property
    def trained(self) -> Sequence[int]:
        """Tokens of each sample that are trained on."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of what these samples are: equal prints mean equal samples in equal order."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int) -> Encoded:
        """A sample whose images have their pixels.

        Raises:
            StoreError: Its file, or one of its images, is not what it was when the samples were counted.
        """
        ...


class ListSamples:
    """Samples in memory, images and all."""

    def __init__(self, samples: Sequence[Encoded]) -> None:
        self._samples = list(samples)
        self.lengths = [len(sample) for sample in self._samples]
        self.trained = [sample.trained for sample in self._samples]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, masks and the images' names."""
        digest = hashlib.blake2b(digest_size=16)
        for sample in self._samples:
            digest.update(b"%d " % len(sample) + sample.ids.tobytes() + sample.loss_mask.tobytes())
            digest.update(" ".join(image.id for image in sample.images).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Encoded:
        """A sample."""
        return self._samples[index]


def is_stream(samples: object) -> TypeIs[Stream]:
    """Whether these are a `Stream`."""
    return hasattr(samples, "loader")


def is_by_place(samples: object) -> TypeIs[Samples]:
    """Whether these are `Samples`, not merely a list of samples."""
    return hasattr(samples, "lengths")


class Batches(Protocol[Batch_co]):
    """Batches of one process from a stream; see `Stream.loader`."""

    def __iter__(self) -> Iterator[Batch_co]:
        """Batches without end: pass follows pass. The trainer stops after its steps."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """Where this process stands after the last batch that `__iter__` gave, whatever workers prepared beyond it.

        JSON; each process has its own, and a resumed run needs as many processes and workers as the first one had.
        """
        ...

    def resume(self, state: dict[str, Any]) -> None:
        """Go on behind a state, before iterating.

        Raises:
            ConfigError: The state is one of other data, of another number of processes or workers, or batch size.
        """
        ...

    def reports(self) -> tuple[SourceReport, ...]:
        """What became of the rows that this process has read so far, a source each."""
        ...


class Stream(Protocol):
    """Samples that are read in order, mixed in a buffer, without end; `thyme.train.data.stream.StreamedSamples`.

    It is sharded by itself: whoever loads batches must not let accelerate shard or dispatch them once more.
    """

    @property
    def rows(self) -> int | None:
        """Rows of one pass over all processes, repeats included and drops not known; None where nobody knows."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of sources and settings."""
        ...

    def loader(self, batch_size: int, collate: Collate[Batch], *, workers: int = 0) -> Batches[Batch]:
        """Batches of this process (`thyme.train.distributed.rank`); every batch has `batch_size` samples.

        No process runs dry before another, because none ever does: steps are counted by the trainer.
        """
        ...

    def first(self, count: int) -> list[Encoded]:
        """Some samples from the start, for a look at them."""
        ...
