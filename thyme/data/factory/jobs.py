"""What is left to do of a build, and in which order. Executors take jobs from here and bring back what came of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from thyme.data.factory import folder
from thyme.data.factory.build import Build
from thyme.data.factory.draw import Plan
from thyme.data.factory.duplicates import Duplicates
from thyme.data.factory.survey import Surveyed, read_survey
from thyme.errors import SandboxError

_ATTEMPTS = 3
"""Times a job is given out whose process goes away."""


@dataclass(frozen=True)
class Job:
    """A chunk to survey or to make."""

    kind: Literal["survey", "make"]
    chunk: int
    duplicates: dict[int, int] = field(default_factory=dict)
    """Of a chunk to make: items that are dropped, and the earlier ones that they are like."""


class Jobs:
    """Jobs of a build, given out in order; chunks are surveyed a little ahead of those that are made.

    Whether an item is a duplicate is decided in the order of the draw, whoever surveyed it when.
    """

    def __init__(self, build: Build, plan: Plan, *, ahead: int) -> None:
        """See what is finished.

        Args:
            build: What is built.
            plan: Its draw.
            ahead: Chunks that are surveyed, or just being surveyed, before they are made.
        """
        self._build, self._plan = build, plan
        self.ahead = ahead
        """Chunks that are surveyed before they are made; an executor may widen it before it takes the first job."""
        self._duplicates = None if build.recipe.duplicates is None else Duplicates(build.recipe.duplicates)
        self._finished = set(folder.finished_chunks(build.out))
        self._last = max((chunk for chunk in range(plan.chunks) if chunk not in self._finished), default=-1)
        self._next = self._decided = 0
        self._surveyed: dict[int, list[Surveyed]] = {}
        self._ready: deque[Job] = deque()
        self._again: deque[Job] = deque()
        self._out: Counter[str] = Counter()
        self._attempts: Counter[tuple[str, int]] = Counter()

    @property
    def finished(self) -> bool:
        """Whether nothing is left, neither to be given out nor to come back."""
        return not (self._out.total() or self._again or self._ready or self._next <= self._last or self._surveyed)

    def next(self) -> Job | None:
        """A job to do now; None where there is none, or one has to come back first.

        Raises:
            SandboxError: The process of one went away time and again.
        """
        job = self._taken()
        if job is not None:
            self._out[job.kind] += 1
        return job

    def _taken(self) -> Job | None:
        if self._again:
            return self._again.popleft()
        while self._next <= self._last and self._room():
            chunk, self._next = self._next, self._next + 1
            known = [] if self._duplicates is None else read_survey(self._build.out, chunk)
            if known is None:
                return Job("survey", chunk)
            self._surveyed[chunk] = known
            self._decide()
        return self._ready.popleft() if self._ready else None

    def _room(self) -> bool:
        return self._out["survey"] + len(self._surveyed) + len(self._ready) < self.ahead

    def _decide(self) -> None:
        """Say of surveyed chunks, in order, which items are duplicates, and make them ready."""
        while (surveyed := self._surveyed.pop(self._decided, None)) is not None:
            chunk, self._decided = self._decided, self._decided + 1
            found = dict(self._seen(surveyed))
            if chunk not in self._finished:
                self._ready.append(Job("make", chunk, found))

    def _seen(self, surveyed: list[Surveyed]) -> Iterator[tuple[int, int]]:
        """Items that are duplicates, with the earlier ones; the others are remembered."""
        if self._duplicates is None:
            return
        for one in surveyed:
            other = self._duplicates.add(one.index, one.scenario, one.question, one.hashes)
            if other is not None:
                yield one.index, other

    def done(self, job: Job, surveyed: list[Surveyed] | None = None) -> None:
        """Take a job back that is done, with what a survey found."""
        self._out[job.kind] -= 1
        if job.kind == "survey":
            self._surveyed[job.chunk] = surveyed or []
            self._decide()

    def lost(self, job: Job) -> None:
        """Take a job back whose process went away; it is given out again.

        Raises:
            SandboxError: That has happened too often.
        """
        self._out[job.kind] -= 1
        self._attempts[job.kind, job.chunk] += 1
        if self._attempts[job.kind, job.chunk] >= _ATTEMPTS:
            raise SandboxError(
                f"chunk {job.chunk} has ended {_ATTEMPTS} processes, perhaps for want of memory; lower concurrency or "
                "processes, and start the same command again"
            )
        self._again.append(job)

    def close(self) -> None:
        """Forget what was seen."""
        if self._duplicates is not None:
            self._duplicates.close()
