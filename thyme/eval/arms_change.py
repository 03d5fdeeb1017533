"""A sandbox whose results are changed before the model reads them: what most arms are made of.

The code itself runs unchanged, so variables are what they would be. What was changed is noted among the repairs of the
execution, under the arm's name; the model never reads those notes, pages and items do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from thyme.sandbox.base import Sandbox, Session
from thyme.types import Execution, ImageRecord, Problem, Repair

Change = Callable[[Execution], Execution]
"""Called with what each block of one session gave, in order."""


@dataclass(frozen=True)
class Case:
    """What an arm may know of the rollout that it changes."""

    problem: Problem
    donor: tuple[Execution, ...] = ()
    """What another problem's code gave, pixels loaded; see `thyme.eval.counterfactual`."""


Start = Callable[[Case, int], Change]
"""Begins a session's changes, given the seed of its sandbox."""


class ChangedSandbox:
    """Another sandbox, lent for one rollout; closing it closes nothing."""

    def __init__(self, sandbox: Sandbox, case: Case, start: Start) -> None:
        """Wrap a sandbox.

        Args:
            sandbox: Where the code really runs.
            case: The problem of the rollout.
            start: Begins the changes of a session.
        """
        self._sandbox, self._case, self._start = sandbox, case, start

    @property
    def isolation(self) -> str:
        """That of the real sandbox."""
        return self._sandbox.isolation

    @property
    def config(self) -> object:
        """Limits and repairs of the real sandbox, where it tells them."""
        return getattr(self._sandbox, "config", "")

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[Session]:
        """Open a session whose results are changed."""
        async with self._sandbox.session(images, seed) as session:
            yield _ChangedSession(session, self._start(self._case, seed))

    async def aclose(self) -> None:
        """It was only lent."""


@dataclass(frozen=True)
class _ChangedSession:
    session: Session
    change: Change

    async def run(self, code: str) -> Execution:
        """Run it, and change what it gave; looking for crops takes time, so not in the loop of events."""
        return await asyncio.to_thread(self.change, await self.session.run(code))


def noted(execution: Execution, arm: str, note: str, count: int = 1) -> tuple[Repair, ...]:
    """The repairs of an execution, and a note of what an arm changed about it."""
    return (*execution.repairs, Repair(name=arm, note=note, count=count))
