"""The server's sessions: places, lines, runs that never happen twice, and the end of those that stand idle."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from thyme.config.sandbox import SandboxConfig
from thyme.config.sandbox_server import SandboxServerConfig
from thyme.sandbox.base import Session
from thyme.sandbox.lru import ByteLru
from thyme.sandbox.server.brokers import Brokers
from thyme.sandbox.server.metrics import Metrics
from thyme.sandbox.server.refusal import Refusal
from thyme.types import Execution, ImageRecord

_RETRY_AFTER_S = 1.0
_REMEMBERED = 1000
"""Runs of a session that are known by name, so that none is begun again."""


@dataclass
class OpenSession:
    """A session that is open."""

    key: str
    session: Session
    config: SandboxConfig
    ending: contextlib.AsyncExitStack
    """What its end takes."""
    used: float = field(default_factory=time.monotonic)
    request: str = ""
    """The last run that was asked for."""
    earlier: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Runs before it."""
    task: asyncio.Task[Execution] | None = None
    """That run, while it goes on."""


class Sessions:
    """All sessions of one server. Not thread-safe: one event loop."""

    def __init__(self, brokers: Brokers, limits: SandboxServerConfig, metrics: Metrics) -> None:
        """Open sessions at `brokers`, `max_sessions` of its settings at once."""
        self._brokers, self._limits, self._metrics = brokers, limits, metrics
        self.instance = limits.instance or secrets.token_hex(4)
        self._open: dict[str, OpenSession] = {}
        self._places = asyncio.Semaphore(brokers.config.max_sessions)
        self._unwanted: deque[str] = deque(maxlen=_REMEMBERED)
        """Keys of sessions that clients ended before they were open, most likely."""
        self._waiting = 0
        self._answers: ByteLru[Execution] = ByteLru(limits.answers_mb << 20)
        self.draining = False
        metrics.watch(lambda: len(self._open), lambda: self._waiting, self._pooled)

    def _pooled(self) -> int:
        return sum(broker.pooled for broker in self._brokers.all())

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[contextlib.AsyncExitStack]:
        """Wait in line for a place; a session that takes over the stack keeps it.

        Raises:
            Refusal: There is none, or no new sessions are taken.
        """
        self._refuse_if_draining()
        if self._places.locked() and self._waiting >= self._limits.max_waiting:
            raise self._no_place()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.queue_s):
                await self._places.acquire()
        except TimeoutError:
            raise self._no_place() from None
        finally:
            self._waiting -= 1
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._places.release)
            self._refuse_if_draining()
            yield stack

    def _no_place(self) -> Refusal:
        count = self._brokers.config.max_sessions
        return Refusal(429, "no_place", f"all {count} sessions are taken; ask again", retry_after_s=_RETRY_AFTER_S)

    def _refuse_if_draining(self) -> None:
        if self.draining:
            message = "this server is shutting down and takes no new sessions"
            raise Refusal(503, "draining", message, retry_after_s=_RETRY_AFTER_S)

    async def open(
        self,
        place: contextlib.AsyncExitStack,
        key: str | None,
        images: tuple[ImageRecord, ...],
        seed: int,
        settings: dict[str, Any],
    ) -> OpenSession:
        """Open a session, or find the one that was opened with the same key.

        Args:
            place: From `place`.
            key: Made up by the client.
            images: Its inputs.
            seed: Its seed.
            settings: What it wants otherwise than the server.
        """
        key = key or secrets.token_hex(16)
        if key in self._open:
            return self._open[key]
        self._refuse_if_unwanted(key)
        broker, config = await self._brokers.take(settings)
        place.callback(self._brokers.give_back, config)
        session = await place.enter_async_context(broker.session(images, seed))
        if key in self._open:  # asked for twice at the same time
            return self._open[key]
        self._refuse_if_draining()
        self._refuse_if_unwanted(key)
        opened = self._open[key] = OpenSession(key, session, config, place.pop_all())
        self._metrics.opened.inc()
        return opened

    def _refuse_if_unwanted(self, key: str) -> None:
        if key in self._unwanted:
            raise Refusal(404, "session_ended", "the session was ended before it was open")

    def id_of(self, session: OpenSession) -> str:
        """What the client calls it."""
        return f"{self.instance}-{session.key}"

    def find(self, name: str) -> OpenSession:
        """The session a client means.

        Raises:
            Refusal: It is on another server, or nowhere.
        """
        instance, _, key = name.rpartition("-")
        if instance and instance != self.instance:
            message = (
                f"session {name[:100]} belongs to instance {instance[:64]}, and this is {self.instance}: let the load "
                "balancer send all requests with one x-thyme-affinity header to one server"
            )
            raise Refusal(421, "wrong_instance", message)
        if key not in self._open:
            message = f"there is no session {name[:100]}: it expired, was ended, or the server was restarted"
            raise Refusal(404, "unknown_session", message)
        return self._open[key]

    async def run(self, session: OpenSession, request: str, code: str) -> Execution:
        """Run code, or find what it came to when it was asked for with the same `request` before.

        It goes on when the client goes away; whoever asks for it again hears how it ended.

        Raises:
            Refusal: Another run goes on, the answer is gone, or the session was ended meanwhile.
            SandboxError: The sandbox failed.
        """
        if request == session.request and session.task is None:
            return self._answer(session)
        task = session.task if request == session.request else self._begin(session, request, code)
        assert task is not None
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Refusal(404, "session_ended", "the session was ended while the code ran") from None
            raise

    def _answer(self, session: OpenSession) -> Execution:
        answer = self._answers.get(session.key)
        if answer is None:
            raise Refusal(409, "answer_gone", "that code has run, and its answer is no longer kept")
        return answer

    def _begin(self, session: OpenSession, request: str, code: str) -> asyncio.Task[Execution]:
        if session.task is not None:
            raise Refusal(409, "busy", "the session runs other code; wait for it, or end the session")
        if request in session.earlier:
            raise Refusal(409, "answer_gone", "that code has run before, and its answer is no longer kept")
        session.earlier.append(session.request)
        session.request, session.task = request, asyncio.create_task(self._run(session, code))
        return session.task

    async def _run(self, session: OpenSession, code: str) -> Execution:
        self._answers.drop(session.key)
        try:
            execution = await session.session.run(code)
            self._metrics.ran(execution)
            self._answers.put(session.key, execution, _size(execution))
            return execution
        finally:
            session.used, session.task = time.monotonic(), None

    async def end(self, name: str) -> None:
        """End the session that a client means, also one that is still being opened.

        Raises:
            Refusal: It is on another server, or not open.
        """
        try:
            session = self.find(name)
        except Refusal:
            self._unwanted.append(name.rpartition("-")[2][:64])
            raise
        await self.close(session)

    async def close(self, session: OpenSession) -> None:
        """End a session, whatever it is doing."""
        if self._open.pop(session.key, None) is None:
            return
        self._answers.drop(session.key)
        if session.task is not None:
            session.task.cancel()
            await asyncio.wait({session.task})
        await session.ending.aclose()

    async def expire(self) -> None:
        """End those that stand idle, for ever."""
        while True:
            await asyncio.sleep(min(5.0, self._limits.session_ttl_s / 4))
            oldest = time.monotonic() - self._limits.session_ttl_s
            for session in [s for s in self._open.values() if s.task is None and s.used < oldest]:
                self._metrics.expired.inc()
                await self.close(session)

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, and wait until the last one has ended, at most so long."""
        self.draining = True
        self._metrics.draining.set(1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    await asyncio.sleep(0.02)

    async def aclose(self) -> None:
        """End all of them."""
        self.draining = True
        await asyncio.gather(*(self.close(session) for session in list(self._open.values())))


def _size(execution: Execution) -> int:
    """Bytes an answer takes in memory, about."""
    pixels = sum(image.width * image.height * 4 for image in execution.images)
    return pixels + 4 * (len(execution.stdout) + len(execution.code)) + 10_000
