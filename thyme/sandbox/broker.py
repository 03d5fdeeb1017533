"""Hands out sessions: the trusted side of the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, SandboxDiedError, SandboxError
from thyme.sandbox.inputs import InputFiles
from thyme.sandbox.levels import LEVELS, advice
from thyme.sandbox.pool import Pool
from thyme.sandbox.process import InputFile, Order, Pixels, SessionProcess
from thyme.sandbox.session import BrokerSession
from thyme.sandbox.zygote import ZygoteProcess
from thyme.types import ImageRecord

_DEFAULT = SandboxConfig()
_ATTEMPTS = 5
"""Sessions that may die one after the other at their start before that is an error."""
MOST_INPUTS = 200
"""Input images of a session; the kernel passes on at most 253 descriptors at once."""


@contextlib.asynccontextmanager
async def open_sandbox(config: SandboxConfig = _DEFAULT) -> AsyncIterator[Broker]:
    """Start a sandbox; every process of it is gone when the context ends.

    Raises:
        IsolationError: The level asked for is not to be had here; the message says what is missing.
    """
    broker = await Broker.start(config)
    try:
        yield broker
    finally:
        await asyncio.shield(broker.aclose())


class Broker:
    """A sandbox: implements `thyme.sandbox.base.Sandbox`. Use `open_sandbox`."""

    def __init__(self, config: SandboxConfig, zygote: ZygoteProcess) -> None:
        """Take over a running zygote; use `open_sandbox`."""
        self._config, self._level = config, zygote.level
        self._inputs = InputFiles(3 * (config.inputs_mb << 20) // 4)
        self._replacing = asyncio.Lock()
        self._places = asyncio.Semaphore(config.max_sessions)
        self._sessions: set[BrokerSession] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._repair: asyncio.Task[None] | None = None
        self._closed = False
        self.deaths = 0
        """Zygotes that went away by themselves, each with all of its sessions."""
        self._take_over(zygote)

    def _take_over(self, zygote: ZygoteProcess) -> None:
        self._pool = Pool(zygote, self._config)
        zygote.on_death = self._repair_soon
        self._pool.fill()

    @classmethod
    async def start(cls, config: SandboxConfig) -> Broker:
        """Start at the level that is asked for; `best` is the strongest there is.

        Raises:
            IsolationError: It is not to be had here.
        """
        levels = LEVELS if config.isolation == "best" else (config.isolation,)
        missing: list[str] = []
        for level in levels:
            try:
                return cls(config, await ZygoteProcess.start(config, level))
            except IsolationError as error:
                missing.append(f"isolation level '{level}' is not to be had here: {error}. {advice(level)}")
        raise IsolationError(" ".join(missing))

    @property
    def isolation(self) -> str:
        """Level in force: ``namespaces`` or ``landlock``."""
        return self._level

    @property
    def pooled(self) -> int:
        """Sessions that wait, started and locked down, for the next trajectory."""
        return len(self._pool)

    @property
    def zygote_pid(self) -> int:
        """Process id of the zygote that is alive now."""
        return self._pool.zygote.pid

    def session(self, images: Sequence[ImageRecord] = (), seed: int = 0) -> AbstractAsyncContextManager[BrokerSession]:
        """Open a session; see `thyme.sandbox.base.Sandbox.session`."""
        return self._session(tuple(images), seed)

    @contextlib.asynccontextmanager
    async def _session(self, images: tuple[ImageRecord, ...], seed: int) -> AsyncIterator[BrokerSession]:
        await self._places.acquire()
        try:
            session = BrokerSession(await self._order(images, seed), self._level, self._start_session)
        except BaseException:
            self._places.release()
            raise
        self._sessions.add(session)
        try:
            await session.open()
            yield session
        finally:
            self._end_soon(session)

    def _end_soon(self, session: BrokerSession) -> None:
        """End a session without anybody waiting for it; its place is free when nothing of it is left."""
        session.refuse()  # at once, and not when the task comes to it
        ending = asyncio.ensure_future(session.aclose())
        self._ending.add(ending)
        self._sessions.discard(session)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        self._places.release()

    async def settle(self) -> None:
        """Wait until nothing is left of sessions that have ended, and the pool is full."""
        while self._ending:
            await asyncio.wait(self._ending)
        if self._repair:
            await asyncio.wait({self._repair})
        await self._pool.settle()

    async def _order(self, images: tuple[ImageRecord, ...], seed: int) -> Order:
        if len(images) > MOST_INPUTS:
            raise SandboxError(f"{len(images)} input images; a session takes at most {MOST_INPUTS}")
        inputs = [await self._input(index, image) for index, image in enumerate(images)]
        return Order(tuple(inputs), seed, self._config, lambda: self._pixels(images))

    async def _input(self, index: int, image: ImageRecord) -> InputFile:
        path, data = await self._inputs.file(index, image)
        kind = "PNG" if path.endswith(".png") else image.format
        description = {"path": path, "format": kind, "mode": image.mode, "width": image.width, "height": image.height}
        return InputFile(path, data, description)

    async def _pixels(self, images: tuple[ImageRecord, ...]) -> Pixels:
        """The pixels of as many images as a session has room for; it decodes the others by itself."""
        pixels, room = Pixels(), (self._config.memory_mb << 20) // 4
        try:
            for index, image in enumerate(images[: self._config.open_files // 4]):
                room -= image.width * image.height * 4
                descriptor = await self._inputs.pixels(image) if room >= 0 else None
                if descriptor is not None:
                    pixels.add(index, descriptor)
        except OSError:  # no memory, or no descriptors, for more
            return pixels
        except BaseException:
            pixels.close()
            raise
        return pixels

    async def _start_session(self, order: Order) -> SessionProcess:
        """Take a session from the pool; one that died there is forgotten, and a zygote that died is replaced."""
        for _ in range(_ATTEMPTS):
            self._require_open()
            pool = self._pool
            try:
                return await pool.take(order)
            except SandboxDiedError as error:
                failure = error
                if pool.zygote.dead:
                    await self._replace(pool)
        raise failure

    def _repair_soon(self) -> None:
        """Replace a zygote that was found dead, before anybody asks for a session."""
        self.deaths += 1
        if not self._closed:
            self._repair = asyncio.ensure_future(self._replace(self._pool))
            self._repair.add_done_callback(_forget_failure)  # whoever asks next tries again, and is told

    async def _replace(self, dead: Pool) -> None:
        async with self._replacing:
            self._require_open()
            if self._pool is dead:
                await dead.aclose()
                self._take_over(await ZygoteProcess.start(self._config, self._level))

    def _require_open(self) -> None:
        if self._closed:
            raise SandboxError("the sandbox is closed")

    async def aclose(self) -> None:
        """End every session and the zygote."""
        self._closed = True
        async with self._replacing:
            await asyncio.gather(*(session.aclose() for session in self._sessions), *self._ending)
            await self._pool.aclose()


def _forget_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
