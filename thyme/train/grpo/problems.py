"""Problems to train on: several sources mixed, pixels loaded when a problem is asked for.

A source reads one problem at a time and has a fingerprint. `READERS` opens those that come with the trainer; ``nano``
is handed in by whoever knows the embedded world.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Protocol

from thyme.config.training import DataSource
from thyme.data.published_problems import PROBLEM_COLUMNS, RECORD, to_problem
from thyme.data.sources.lines import Lines, digest
from thyme.errors import ConfigError, EncodeError, StoreError, UsageError
from thyme.train.data.problems import problem_of_line
from thyme.train.data.published import Layout, open_layout
from thyme.train.data.rows import need_files
from thyme.types import Problem

logger = logging.getLogger(__name__)

ENDLESS = 1 << 20
"""Problems that a drawn source without a limit has: more than any run asks for."""
RL = Layout(PROBLEM_COLUMNS, "images", to_problem, (RECORD,))
"""Kwai-Keye/Thyme-RL, and what this package writes of that kind: with options, category and box."""
_TRIES = 64
"""Rows in a row that cannot be used, after which the data are held for broken."""


class ProblemRows(Protocol):
    """Problems by place, read when they are asked for."""

    @property
    def fingerprint(self) -> str:
        """Hash of what decides about them."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Problem:
        """One of them; raises `EncodeError` where its row cannot be used."""
        ...


Reader = Callable[[DataSource], ProblemRows]
"""Opens a source."""


class ProblemLines:
    """Problems of JSON lines as ``thyme nano problems`` writes them; see `thyme.train.data.problems.read_problems`."""

    def __init__(self, source: DataSource) -> None:
        """Find the lines.

        Raises:
            ConfigError: There is no such file.
            StoreError: A file cannot be read.
        """
        self._lines, self._max_pixels = Lines(need_files(source, (".jsonl",))), source.max_pixels
        self.fingerprint = self._lines.fingerprint

    def __len__(self) -> int:
        """Number of problems."""
        return len(self._lines)

    def __getitem__(self, index: int) -> Problem:
        """A problem with its pixels.

        Raises:
            StoreError: The line is none.
        """
        path, number, line = self._lines.read(index)
        return problem_of_line(path, number, line.decode("utf-8", "replace"), max_pixels=self._max_pixels)


def published(source: DataSource) -> ProblemRows:
    """Problems of Thyme-RL's layout by place; see `thyme.train.data.published.open_layout`."""
    return open_layout(source, replace(RL, convert=partial(to_problem, max_pixels=source.max_pixels)))


READERS: dict[str, Reader] = {"problems": ProblemLines, "thyme-rl": published}
"""What opens problems to train on, by format."""


@dataclass(frozen=True)
class ProblemSource:
    """A source, opened."""

    name: str
    format: str
    rows: ProblemRows
    size: int
    """Problems of it, its limit applied."""
    repeat: int

    @property
    def fingerprint(self) -> str:
        """Hash of what decides about its problems."""
        return digest([self.format, self.rows.fingerprint, self.size, self.repeat])

    def __getitem__(self, index: int) -> Problem:
        """A problem; where its row cannot be used, the next that can, so that a damaged row ends no run.

        Raises:
            StoreError: There is none among the next ones.
        """
        trouble = ""
        for place in range(index, index + min(_TRIES, self.size)):
            row = place % self.size
            try:
                return self.rows[row]
            except EncodeError as error:
                trouble = trouble or str(error)
                logger.warning("%s: %s; the next problem takes its place", self.name, error)
        raise StoreError(f"source '{self.name}': no problem can be read from its place {index} on ({trouble})")


class MixedProblems:
    """The problems of several sources, one behind the other, each as often as its source is repeated.

    The order in which they are asked is not theirs; see `thyme.train.grpo.draws`.
    """

    def __init__(self, sources: Sequence[ProblemSource]) -> None:
        """Put sources together."""
        self.sources = tuple(sources)
        self._ends = list(accumulate(source.size * source.repeat for source in self.sources))
        self.fingerprint = digest(source.fingerprint for source in self.sources)

    def __len__(self) -> int:
        """Problems of an epoch, repeats counted."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Problem:
        """A problem with its pixels.

        Raises:
            StoreError: It cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} problems, none with the index {index}")
        place = bisect_right(self._ends, index)
        source = self.sources[place]
        return source[(index - (self._ends[place] - source.size * source.repeat)) % source.size]

    @property
    def endless(self) -> bool:
        """Whether a source is drawn without end, so that there are no epochs."""
        return any(source.size >= ENDLESS for source in self.sources)


def open_problems(data: Mapping[str, DataSource], more: Mapping[str, Reader] | None = None) -> MixedProblems:
    """Open the sources of a recipe.

    Args:
        data: Sources by name.
        more: Readers of further formats.

    Raises:
        ConfigError: A format is unknown, a path leads nowhere, or a source without end is mixed with others.
        StoreError: A file is damaged.
        UsageError: A source has no problem.
    """
    mixed = MixedProblems([_opened(name, source, {**READERS, **(more or {})}) for name, source in data.items()])
    if mixed.endless and len(mixed.sources) > 1:
        name = next(source.name for source in mixed.sources if source.size >= ENDLESS)
        raise ConfigError(f"source '{name}' is drawn without end, and others stand beside it: give it a limit")
    return mixed


def _opened(name: str, source: DataSource, readers: Mapping[str, Reader]) -> ProblemSource:
    if source.format not in readers:
        raise ConfigError(
            f"data.{name}.format '{source.format}' is none of {', '.join(readers)}; problems are not demonstrations"
        )
    rows = readers[source.format](source)
    size = min(len(rows), source.limit or len(rows))
    if not size:
        raise UsageError(f"data.{name} holds no problem; check its path, its subset and its split")
    opened = ProblemSource(name, source.format, rows, size, source.repeat)
    if opened[0].answer is None:
        raise UsageError(f"data.{name}: its first problem has no answer, so nothing can be paid for it")
    return opened
