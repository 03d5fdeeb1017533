"""Where the problems of a benchmark come from, one at a time, whatever process asks which."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from thyme.errors import UsageError
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.benchmarks.files import count_problems, digest, read_numbered
from thyme.types import Problem

Wanted = Callable[[int], bool]
"""Says of a place, from 0, whether its problem is wanted. What is not is never decoded, where the source can tell."""


LARGEST_IMAGE = 400_000_000
"""Of a benchmark, width times height; that of collections of large images (`thyme rl-data collect`)."""


@dataclass(frozen=True)
class Source:
    """A benchmark, and its problems."""

    benchmark: Benchmark
    file: str
    """Name of the file or data set, without its folder."""
    digest: str
    """Hash of its content."""
    count: int
    """Problems that are asked, by all processes together."""
    read: Callable[[Wanted], Iterator[tuple[int, Problem]]]
    """Place and problem of those that are wanted, in order; the same at every call."""
    limit: int | None = None
    """What `count` was cut to, if it was."""


def file_source(benchmark: Benchmark, path: Path, *, limit: int | None = None, seed: int = 0) -> Source:
    """The problems of a file; it is read through here, for its hash and for the number of its problems.

    Args:
        benchmark: Says what a row means.
        path: A file, or a folder of them.
        limit: Ask a part of so many, drawn with `seed`, in the order of the file.
        seed: Of that draw.

    Raises:
        StoreError: It cannot be read.
        UsageError: It holds no problem.
    """
    rows = count_problems(path)
    count = rows if limit is None else min(limit, rows)
    if not count:
        raise UsageError(f"{path} holds no problem")

    def read(wanted: Wanted) -> Iterator[tuple[int, Problem]]:
        drawn = None if limit is None else seed
        return read_numbered(benchmark, path, wanted=wanted, limit=limit, shuffle_seed=drawn, max_pixels=LARGEST_IMAGE)

    return Source(benchmark, path.name, digest(path), count, read, limit=limit)


def drawn_source(benchmark: Benchmark, name: str, problems: Callable[[], Iterator[Problem]], count: int) -> Source:
    """Problems that no file holds: they are made each time, and always the same.

    Args:
        benchmark: Theirs.
        name: Of the set and its version; stands for the hash of a file, too.
        problems: Makes them, in order.
        count: How many are asked; the first ones.
    """

    def read(wanted: Wanted) -> Iterator[tuple[int, Problem]]:
        return ((place, one) for place, one in enumerate(islice(problems(), count)) if wanted(place))

    limit = count if benchmark.rows is not None and count < benchmark.rows else None
    return Source(benchmark, name, name, count, read, limit=limit)


@dataclass(frozen=True)
class Shard:
    """The part of every benchmark that one process asks: each `of`-th problem, from `number` on."""

    number: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``I/N``, I from 0.

        Raises:
            UsageError: It is not of that form.
        """
        with suppress(ValueError):
            number, of = (int(part) for part in text.split("/"))
            if 0 <= number < of:
                return cls(number, of)
        raise UsageError(f"'{text}' is no part of a run; write I/N with I from 0 to N-1, e.g. 0/4")

    def holds(self, place: int) -> bool:
        """Whether a problem is one of this part."""
        return place % self.of == self.number


async def each(
    problems: Iterator[tuple[int, Problem]], ask: Callable[[int, Problem], Awaitable[None]], concurrency: int
) -> None:
    """Ask problems while they are read, so many at once; no more than these, and the next, are in memory.

    Args:
        problems: Place and problem; read in a thread, as pictures of 8000 pixels a side take their time.
        ask: Settles one.
        concurrency: How many at once.

    Raises:
        Exception: The first that reading or `ask` raised; what else was under way is cancelled.
    """
    places = asyncio.Semaphore(concurrency)

    async def settle(place: int, problem: Problem) -> None:
        try:
            await ask(place, problem)
        finally:
            places.release()

    try:
        async with asyncio.TaskGroup() as group:
            while True:
                await places.acquire()
                found = await asyncio.to_thread(next, problems, None)
                if found is None:
                    break
                group.create_task(settle(*found))
                del found
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
