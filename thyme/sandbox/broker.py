"""Hands out sessions and keeps them honest: the trusted side of the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import secrets
import select
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, SandboxDiedError, SandboxError
from thyme.sandbox import wire
from thyme.sandbox.files import Usage, remove_tree
from thyme.sandbox.inputs import InputFiles
from thyme.sandbox.levels import LEVELS, advice
from thyme.sandbox.zygote import ZygoteProcess, new_name
from thyme.types import Execution, ExecutionError, ImageRecord

LOST = "variables and files of earlier blocks are gone"
_WATCH_S = 0.02
"""Seconds between two looks at what a session wrote, where no mount limits it."""


@contextlib.asynccontextmanager
async def open_sandbox(config: SandboxConfig = SandboxConfig()) -> AsyncIterator[Broker]:  # noqa: B008  # frozen
    """Start a sandbox; every process of it is gone when the context ends.

    Raises:
        IsolationError: The level asked for is not to be had here; the message says what is missing.
    """
    broker = await Broker.start(config)
    try:
        yield broker
    finally:
        await broker.aclose()


@dataclass
class _Jail:
    """One living session process."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: int
    memory: mmap.mmap
    usage: Usage | None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    @property
    def ended(self) -> bool:
        return bool(select.select([self.process], [], [], 0)[0])

    async def kill(self) -> None:
        """End the process and everything that belonged to it."""
        self.signal(signal.SIGKILL)
        self.writer.transport.abort()
        poll = select.poll()
        poll.register(self.process, select.POLLIN)
        while not poll.poll(0):
            await asyncio.sleep(0.001)
        os.close(self.process)
        self.memory.close()
        if self.usage:
            remove_tree(self.usage.folder)


class Broker:
    """A sandbox: implements `thyme.sandbox.base.Sandbox`. Use `open_sandbox`."""

    def __init__(self, config: SandboxConfig, zygote: ZygoteProcess) -> None:
        """Take over a running zygote; use `open_sandbox`."""
        self.config = config
        self.inputs = InputFiles()
        self._zygote = zygote
        self._level = zygote.level
        self._restart = asyncio.Lock()
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
                missing.append(f"isolation level {level!r} is not to be had here: {error}. {advice(level)}")
        raise IsolationError(" ".join(missing))

    @property
    def isolation(self) -> str:
        """Level in force: ``namespaces`` or ``landlock``."""
        return self._level

    @property
    def zygote_pid(self) -> int:
        """Process id of the zygote."""
        return self._zygote.pid

    def session(self, images: Sequence[ImageRecord] = (), seed: int = 0) -> AbstractAsyncContextManager[BrokerSession]:
        """Open a session; see `thyme.sandbox.base.Sandbox.session`."""
        return self._session(tuple(images), seed)

    @contextlib.asynccontextmanager
    async def _session(self, images: tuple[ImageRecord, ...], seed: int) -> AsyncIterator[BrokerSession]:
        async with self._places:
            session = BrokerSession(self, images, seed)
            self._sessions.add(session)
            try:
                await session.open()
                yield session
            finally:
                self._sessions.discard(session)
                await asyncio.shield(session.aclose())

    async def fork(self, inputs: Sequence[tuple[str, int]], seed: int) -> _Jail:
        """Start a session process; a zygote that died is replaced once."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        zygote = self._zygote
        try:
            return await self._fork_from(zygote, inputs, seed)
        except SandboxDiedError:
            await self._replace(zygote)
            return await self._fork_from(self._zygote, inputs, seed)

    async def _replace(self, dead: ZygoteProcess) -> None:
        async with self._restart:
            if self._zygote is dead and not self._closed:
                await dead.aclose()
                self._zygote = await ZygoteProcess.start(self.config, self._level)

    async def _fork_from(self, zygote: ZygoteProcess, inputs: Sequence[tuple[str, int]], seed: int) -> _Jail:
        name = new_name()
        request = {
            "name": name,
            "seed": seed,
            "inputs": [path for path, _ in inputs],
            "repairs": list(self.config.repairs),
            "limits": self.config.model_dump(exclude={"isolation", "repairs", "importable"}),
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pixels = wire.shared_memory(wire.shared_bytes(self.config))
        try:
            memory = mmap.mmap(pixels, 0)
            descriptors = [theirs.fileno(), pixels, *(descriptor for _, descriptor in inputs)]
            process = await zygote.fork(request, descriptors, self.config.start_timeout_s)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(pixels)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        usage = Usage(zygote.folder / "sessions" / name, self.config) if zygote.folder else None
        jail = _Jail(reader, writer, process, memory, usage)
        try:
            await self._await_ready(jail)
        except BaseException:
            await jail.kill()
            raise
        return jail

    async def _await_ready(self, jail: _Jail) -> None:
        try:
            async with asyncio.timeout(self.config.start_timeout_s):
                message = await wire.receive(jail.reader, 1 << 16)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise SandboxDiedError(f"a session did not start: {type(error).__name__}") from None
        if message != b'{"ready": true}':
            raise SandboxError(f"a session could not be set up: {message[:500].decode(errors='replace')}")

    async def aclose(self) -> None:
        """End every session and the zygote."""
        self._closed = True
        for session in list(self._sessions):
            await session.aclose()
        await self._zygote.aclose()


class BrokerSession:
    """One trajectory's interpreter; implements `thyme.sandbox.base.Session`."""

    def __init__(self, broker: Broker, images: tuple[ImageRecord, ...], seed: int) -> None:
        """Prepare; nothing is started before `open`."""
        self._broker, self._images, self._seed = broker, images, seed
        self._inputs: list[tuple[str, int]] = []
        self._jail: _Jail | None = None
        self._fresh_after_loss = False
        self._turn = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Encode the inputs and start the process."""
        for index, image in enumerate(self._images):
            path, data = self._broker.inputs.file(index, image)
            self._inputs.append((path, wire.sealed_file(data)))
        self._jail = await self._broker.fork(self._inputs, self._seed)
        self._jail.signal(signal.SIGSTOP)

    async def run(self, code: str) -> Execution:
        """Run one code block; see `thyme.sandbox.base.Session.run`."""
        async with self._turn:
            if self._closed:
                raise SandboxError("the session is closed")
            config = self._broker.config
            if len(code) > config.code_chars:
                error = ExecutionError(
                    type="CodeTooLong", message=f"{len(code)} characters of code; at most {config.code_chars} may run"
                )
                return Execution(code=code[: config.code_chars], error=error, isolation=self._broker.isolation)
            jail, lost_before = await self._living_jail()
            started = time.perf_counter()
            try:
                reply, error = await self._exchange(jail, code)
            except BaseException:
                await self._lose()
                raise
            if reply is None:
                await self._lose()
                return self._failed(code, error, time.perf_counter() - started)
            jail.signal(signal.SIGSTOP)
            return self._finished(code, jail, reply, lost_before, started)

    async def _living_jail(self) -> tuple[_Jail, bool]:
        """The process to run in, and whether it had to be replaced without anybody having been told."""
        lost = False
        if self._jail is not None and self._jail.ended:
            await self._lose()
            lost = True
        if self._jail is None:
            self._jail = await self._broker.fork(self._inputs, self._seed)
            self._fresh_after_loss = True
        return self._jail, lost

    async def _exchange(self, jail: _Jail, code: str) -> tuple[wire.Reply | None, ExecutionError | None]:
        """Send the code and wait for the answer, or for what ends the session instead."""
        config = self._broker.config
        request_id = secrets.token_hex(16)
        jail.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(config.timeout_s):
                jail.writer.write(wire.pack({"id": request_id, "code": code}))
                await jail.writer.drain()
                data = await self._receive_watching(jail)
            return wire.read_reply(data, request_id, config), None
        except TimeoutError:
            message = f"the code ran longer than {config.timeout_s:g} s and was stopped"
            return None, ExecutionError(type="Timeout", message=message)
        except _OverQuotaError as excess:
            return None, ExecutionError(type="DiskLimit", message=str(excess))
        except wire.ProtocolError as fault:
            return None, ExecutionError(type="Killed", message=f"the session was stopped: {fault}")
        except (asyncio.IncompleteReadError, OSError):
            return None, ExecutionError(type="Killed", message="the code ended its own process, or ran out of memory")

    async def _receive_watching(self, jail: _Jail) -> bytes:
        """Wait for a message, and meanwhile watch what the session writes where no mount limits it."""
        most = self._broker.config.message_bytes
        if jail.usage is None:
            return await wire.receive(jail.reader, most)
        task = asyncio.ensure_future(wire.receive(jail.reader, most))
        try:
            while not (await asyncio.wait({task}, timeout=_WATCH_S))[0]:
                _check_usage(jail.usage)
            _check_usage(jail.usage)
            return task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def _finished(self, code: str, jail: _Jail, reply: wire.Reply, lost: bool, started: float) -> Execution:
        error = reply.execution_error()
        if error is not None and self._fresh_after_loss:
            error = error.model_copy(update={"message": f"{error.message} ({LOST})".strip()})
        if error is None:
            self._fresh_after_loss = False
        return Execution(
            code=code,
            ran=code if reply.ran is None else reply.ran,
            stdout=reply.stdout,
            images=wire.take_images(jail.memory, reply.images),
            error=error,
            repairs=reply.repair_records(),
            duration_s=time.perf_counter() - started,
            truncated=reply.truncated,
            session_lost=lost,
            isolation=self._broker.isolation,
        )

    def _failed(self, code: str, error: ExecutionError | None, duration_s: float) -> Execution:
        assert error is not None
        return Execution(
            code=code,
            ran=code,
            error=error.model_copy(update={"message": f"{error.message}; {LOST}"}),
            duration_s=duration_s,
            session_lost=True,
            isolation=self._broker.isolation,
        )

    async def _lose(self) -> None:
        jail, self._jail = self._jail, None
        if jail is not None:
            await asyncio.shield(jail.kill())

    async def aclose(self) -> None:
        """End the process and forget the inputs."""
        self._closed = True
        await self._lose()
        inputs, self._inputs = self._inputs, []
        for _, descriptor in inputs:
            os.close(descriptor)


class _OverQuotaError(Exception):
    """The session wrote more than it may."""


def _check_usage(usage: Usage) -> None:
    excess = usage.excess()
    if excess:
        raise _OverQuotaError(excess)
