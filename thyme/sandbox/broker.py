"""Hands out sessions: the trusted side of the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, SandboxDiedError, SandboxError
from thyme.sandbox import wire
from thyme.sandbox.inputs import InputFiles
from thyme.sandbox.levels import LEVELS, advice
from thyme.sandbox.process import Order, SessionProcess
from thyme.sandbox.session import BrokerSession
from thyme.sandbox.zygote import ZygoteProcess
from thyme.types import ImageRecord

_DEFAULT = SandboxConfig()
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
        self._config, self._zygote, self._level = config, zygote, zygote.level
        self._inputs = InputFiles()
        self._replacing = asyncio.Lock()
        self._places = asyncio.Semaphore(config.max_sessions)
        self._sessions: set[BrokerSession] = set()
        self._closed = False

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
    def zygote_pid(self) -> int:
        """Process id of the zygote that is alive now."""
        return self._zygote.pid

    def session(self, images: Sequence[ImageRecord] = (), seed: int = 0) -> AbstractAsyncContextManager[BrokerSession]:
        """Open a session; see `thyme.sandbox.base.Sandbox.session`."""
        return self._session(tuple(images), seed)

    @contextlib.asynccontextmanager
    async def _session(self, images: tuple[ImageRecord, ...], seed: int) -> AsyncIterator[BrokerSession]:
        async with self._places:
            session = BrokerSession(self._order(images, seed), self._level, self._fork)
            self._sessions.add(session)
            try:
                await session.open()
                yield session
            finally:
                self._sessions.discard(session)
                await asyncio.shield(session.aclose())

    def _order(self, images: tuple[ImageRecord, ...], seed: int) -> Order:
        if len(images) > MOST_INPUTS:
            raise SandboxError(f"{len(images)} input images; a session takes at most {MOST_INPUTS}")
        inputs: list[tuple[str, int]] = []
        try:
            for index, image in enumerate(images):
                path, data = self._inputs.file(index, image)
                inputs.append((path, wire.sealed_file(data)))
        except BaseException:
            for _, descriptor in inputs:
                os.close(descriptor)
            raise
        return Order(tuple(inputs), seed, self._config)

    async def _fork(self, order: Order) -> SessionProcess:
        """Start a session process; a zygote that died is replaced once."""
        zygote = self._zygote
        try:
            self._require_open()
            return await SessionProcess.start(zygote, order)
        except SandboxDiedError:
            await self._replace(zygote)
            return await SessionProcess.start(self._zygote, order)

    async def _replace(self, dead: ZygoteProcess) -> None:
        async with self._replacing:
            self._require_open()
            if self._zygote is dead:
                await dead.aclose()
                self._zygote = await ZygoteProcess.start(self._config, self._level)

    def _require_open(self) -> None:
        if self._closed:
            raise SandboxError("the sandbox is closed")

    async def aclose(self) -> None:
        """End every session and the zygote."""
        self._closed = True
        async with self._replacing:
            for session in list(self._sessions):
                await session.aclose()
            await self._zygote.aclose()
