"""A session that lives elsewhere, on a server or in an actor: the contract of a local one, kept over a distance.

No block runs twice. Where the far side no longer knows the session, and so has not run the code, a fresh one takes its
place and the result says so, as it does when a local process goes away. Where the code may have run and its answer is
lost, that is an error, and the next block starts in a fresh session.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Generic, Protocol, TypeVar

from thyme.errors import SandboxDiedError, SandboxError
from thyme.sandbox.session import LOST
from thyme.types import Execution, ImageRecord

H = TypeVar("H")


class SessionGoneError(Exception):
    """The far side does not know the session; the code was not run."""


class AnswerLostError(SandboxDiedError):
    """The code may have run, and what it came to will not be known."""


class Far(Protocol[H]):
    """Where sessions live. A handle stands for one of them."""

    async def open(self, images: tuple[ImageRecord, ...], seed: int) -> H:
        """Start a session."""
        ...

    async def run(self, handle: H, code: str) -> Execution:
        """Run a block.

        Raises:
            SessionGoneError: There is no such session; nothing was run.
            AnswerLostError: It may have been run.
            SandboxError: It was not run, and the session is as it was.
        """
        ...

    async def close(self, handle: H) -> None:
        """End a session, whatever it is doing, if it is still there; never raises."""
        ...


class FarSession(Generic[H]):
    """Implements `thyme.sandbox.base.Session`."""

    def __init__(self, far: Far[H], images: Sequence[ImageRecord], seed: int) -> None:
        """Prepare; nothing is started before `open`."""
        self._far, self._images, self._seed = far, tuple(images), seed
        self._handle: H | None = None
        self._lost = False
        """Whether variables went away and nobody has been told by a result."""
        self._replaced = False
        """Whether errors of the code may come from variables that went away."""
        self._turn = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Start it."""
        self._handle = await self._far.open(self._images, self._seed)

    async def run(self, code: str) -> Execution:
        """Run one code block; see `thyme.sandbox.base.Session.run`."""
        async with self._turn:
            try:
                execution = await self._run(code)
            except AnswerLostError:
                self._lost = True
                await self._abandon()
                raise
            except asyncio.CancelledError:  # what it does now, nobody knows
                await self._abandon()
                raise
            return self._told(execution)

    async def _run(self, code: str) -> Execution:
        gone: SessionGoneError | None = None
        for _ in range(2):
            if self._closed:
                raise SandboxError("the session is closed")
            if self._handle is None:
                await self.open()
            assert self._handle is not None
            try:
                return await self._far.run(self._handle, code)
            except SessionGoneError as error:
                gone, self._handle = error, None
                self._lost = self._replaced = True
        raise SandboxError(f"a session went away as soon as it was made: {gone}")

    def _told(self, execution: Execution) -> Execution:
        """The execution with what only this side knows about it."""
        error, lost = execution.error, self._lost or execution.session_lost
        if error is not None and self._replaced and LOST not in error.message:
            error = error.model_copy(update={"message": f"{error.message} ({LOST})".strip()})
        self._lost, self._replaced = False, self._replaced and error is not None
        if error is execution.error and lost == execution.session_lost:
            return execution
        return execution.model_copy(update={"error": error, "session_lost": lost})

    async def _abandon(self) -> None:
        handle, self._handle = self._handle, None
        self._replaced = True
        if handle is not None:
            await asyncio.shield(self._far.close(handle))

    async def aclose(self) -> None:
        """End it."""
        self._closed = True
        handle, self._handle = self._handle, None
        if handle is not None:
            await asyncio.shield(self._far.close(handle))


class FarSessions(Generic[H]):
    """The sessions that one sandbox has open elsewhere."""

    def __init__(self, far: Far[H]) -> None:
        """Open them at `far`."""
        self._far = far
        self._open: set[FarSession[H]] = set()
        self.closed = False

    @contextlib.asynccontextmanager
    async def session(self, images: tuple[ImageRecord, ...], seed: int) -> AsyncIterator[FarSession[H]]:
        """Open one; it ends with the context."""
        if self.closed:
            raise SandboxError("the sandbox is closed")
        session = FarSession(self._far, images, seed)
        self._open.add(session)
        try:
            await session.open()
            yield session
        finally:
            self._open.discard(session)
            await asyncio.shield(session.aclose())

    async def aclose(self) -> None:
        """End all of them."""
        self.closed = True
        await asyncio.gather(*(session.aclose() for session in list(self._open)))
