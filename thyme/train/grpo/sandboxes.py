"""The sandbox that rollouts of training share: what dies in it is told apart from what code did, and replaced."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from thyme.errors import SandboxDiedError
from thyme.sandbox.base import Sandbox, Session
from thyme.types import Execution, ImageRecord

logger = logging.getLogger(__name__)

_GRACE_S = 1.0
"""Seconds until the end of a zygote is noticed for certain, after that of its sessions."""
_LOOK_S = 0.01

OpenSandbox = Callable[[], AbstractAsyncContextManager[Sandbox]]


class Sandboxes:
    """One sandbox after the other; lives in one event loop."""

    def __init__(self, open_one: OpenSandbox) -> None:
        """Prepare; nothing is opened yet.

        Args:
            open_one: Opens a sandbox.
        """
        self._open_one = open_one
        self._current: WatchedSandbox | None = None
        self._held: dict[WatchedSandbox, AsyncExitStack] = {}
        self._users = Counter[WatchedSandbox]()
        self._closing: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self.reopened = 0
        """Sandboxes that took the place of one that was given up."""

    @asynccontextmanager
    async def using(self) -> AsyncIterator[WatchedSandbox]:
        """The one in use, which stays open as long as the context.

        Raises:
            SandboxError: There can be none.
        """
        async with self._opening:
            if self._current is None:
                held = AsyncExitStack()
                self._current = WatchedSandbox(await held.enter_async_context(self._open_one()))
                self._held[self._current] = held
            sandbox = self._current
            self._users[sandbox] += 1
        try:
            yield sandbox
        finally:
            self._users[sandbox] -= 1
            self._close_unused(sandbox)

    def give_up(self, sandbox: Sandbox | None) -> None:
        """Take another one from now on. Rollouts that still use this one go on; it is closed with the last."""
        if self._current is not None and sandbox is self._current:
            given_up, self._current = self._current, None
            self.reopened += 1
            self._close_unused(given_up)

    def _close_unused(self, sandbox: WatchedSandbox) -> None:
        """Close one that was given up, once nobody uses it: a run of days may give up many."""
        if sandbox is not self._current and not self._users[sandbox] and (held := self._held.pop(sandbox, None)):
            del self._users[sandbox]
            task = asyncio.create_task(_closed(held))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all of them."""
        self._current = None
        await asyncio.gather(*self._closing)
        while self._held:
            await self._held.popitem()[1].aclose()


async def _closed(held: AsyncExitStack) -> None:
    try:
        await held.aclose()
    except Exception:  # it was given up because it failed
        logger.warning("a sandbox that failed could not be closed cleanly", exc_info=True)


class WatchedSandbox:
    """A sandbox whose sessions raise where it was the sandbox that ended them.

    A session that ends is a result for a user, who is told that variables are gone. For training it is a result only
    where the code itself did it; where the zygote died, nobody may be paid, or not paid, for what follows.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        """Watch a sandbox, which stays the caller's to close."""
        self._sandbox = sandbox

    @property
    def isolation(self) -> str:
        """Level in force."""
        return self._sandbox.isolation

    @property
    def deaths(self) -> int:
        """Zygotes that died; 0 where the sandbox does not say."""
        found: int = getattr(self._sandbox, "deaths", 0)
        return found

    def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AbstractAsyncContextManager[Session]:
        """Open a session; see `thyme.sandbox.base.Sandbox.session`."""
        return self._session(images, seed)

    @asynccontextmanager
    async def _session(self, images: Sequence[ImageRecord], seed: int) -> AsyncIterator[Session]:
        async with self._sandbox.session(images, seed) as session:
            yield _WatchedSession(self, session)

    async def aclose(self) -> None:
        """Nothing: whoever opened the sandbox closes it."""


class _WatchedSession:
    def __init__(self, sandbox: WatchedSandbox, session: Session) -> None:
        self._sandbox, self._session = sandbox, session
        self._deaths = sandbox.deaths

    async def run(self, code: str) -> Execution:
        """Run one block; see `thyme.sandbox.base.Session.run`."""
        execution = await self._session.run(code)
        suspicious = execution.session_lost and (execution.error is None or execution.error.type == "Killed")
        if (suspicious and await self._died()) or (execution.session_lost and self._sandbox.deaths > self._deaths):
            raise SandboxDiedError("the sandbox died with this session in it; what the code did is not known")
        return execution

    async def _died(self) -> bool:
        """Whether a zygote died since the session was opened: its sessions end a little before it does."""
        for _ in range(round(_GRACE_S / _LOOK_S)):
            if self._sandbox.deaths > self._deaths:
                return True
            await asyncio.sleep(_LOOK_S)
        return False
