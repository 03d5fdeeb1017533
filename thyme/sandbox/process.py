"""One session's process, seen from the trusted side: start it, talk to it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import socket
from dataclasses import dataclass

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxDiedError, SandboxError
from thyme.sandbox import wire
from thyme.sandbox.files import Usage, remove_tree
from thyme.sandbox.zygote import ZygoteProcess, ended, has_ended, new_name

_WATCH_S = 0.02
"""Seconds between two looks at what a session wrote, where no mount limits it."""
_READY = b'{"ready": true}'


class OverQuotaError(Exception):
    """The session took more than it may."""

    def __init__(self, limit: str, message: str) -> None:
        """Name the limit, and say what was over it."""
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True)
class Order:
    """What a session is made of."""

    inputs: tuple[tuple[str, int], ...]
    """Virtual path of each input, and a sealed memory file with its bytes."""
    seed: int
    config: SandboxConfig


@dataclass(frozen=True)
class SessionProcess:
    """A session that is alive, or was."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handle: int
    """Descriptor of the process."""
    memory: mmap.mmap
    usage: Usage | None
    """What it writes, where no mount limits it."""

    @classmethod
    async def start(cls, zygote: ZygoteProcess, order: Order) -> SessionProcess:
        """Fork a session and wait until it is locked down.

        Raises:
            SandboxDiedError: The zygote, or the session at its start, went away.
            SandboxError: The session could not be set up.
        """
        name, timeout_s = new_name(), order.config.start_timeout_s
        try:
            ours, handle, memory = await _fork(zygote, name, order)
        except OSError as error:
            raise SandboxError(f"a session could not be started: {error}") from error
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:  # without its stream the session ends by itself
            ours.close()
            os.close(handle)
            memory.close()
            raise
        usage = Usage(zygote.folder / "sessions" / name, handle, order.config) if zygote.folder else None
        process = cls(reader, writer, handle, memory, usage)
        try:
            await process._await_ready(timeout_s)
        except BaseException:
            await process.kill()
            raise
        process.pause()
        return process

    async def _await_ready(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                message = await wire.receive(self.reader, 1 << 16)
        except (TimeoutError, OSError, wire.ProtocolError, asyncio.IncompleteReadError) as error:
            raise SandboxDiedError(f"a session did not start: {type(error).__name__}") from None
        if message != _READY:
            raise SandboxError(f"a session could not be set up: {message[:500].decode(errors='replace')}")

    def pause(self) -> None:
        """Stop every thread of it: between two runs a session takes no CPU."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return has_ended(self.handle)

    async def ask(self, message: dict[str, str], most_bytes: int) -> bytes:
        """Send a message and wait for the answer; the caller sets the time limit.

        Raises:
            OverQuotaError: The session took more than it may.
            wire.ProtocolError: The answer is too long.
            asyncio.IncompleteReadError: The session ended.
        """
        self.writer.write(wire.pack(message))
        await self.writer.drain()
        if self.usage is None:
            return await wire.receive(self.reader, most_bytes)
        answer = asyncio.ensure_future(wire.receive(self.reader, most_bytes))
        try:
            while not (await asyncio.wait({answer}, timeout=_WATCH_S))[0]:
                _check(self.usage)
            _check(self.usage)
            return answer.result()
        finally:
            answer.cancel()
            await asyncio.wait({answer})
            if not answer.cancelled():
                answer.exception()  # so that nobody hears of it twice

    async def kill(self) -> None:
        """End the process and remove everything that belonged to it."""
        self._signal(signal.SIGKILL)
        self.writer.transport.abort()
        await ended(self.handle)
        os.close(self.handle)
        self.memory.close()
        if self.usage:
            remove_tree(self.usage.folder)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)


async def _fork(zygote: ZygoteProcess, name: str, order: Order) -> tuple[socket.socket, int, mmap.mmap]:
    """Our end of the stream, the process, and the memory that pictures come back through."""
    config = order.config
    request = {
        "name": name,
        "seed": order.seed,
        "inputs": [path for path, _ in order.inputs],
        "repairs": list(config.repairs),
        "limits": config.model_dump(exclude={"isolation", "repairs", "importable"}),
    }
    with contextlib.ExitStack() as undo:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.callback(ours.close)
        with theirs:
            pixels = wire.shared_memory(wire.shared_bytes(config))
            try:
                memory = mmap.mmap(pixels, 0)
                undo.callback(memory.close)
                descriptors = [theirs.fileno(), pixels, *(descriptor for _, descriptor in order.inputs)]
                handle = await zygote.fork(request, descriptors, config.start_timeout_s)
            finally:
                os.close(pixels)
        undo.pop_all()
    return ours, handle, memory


def _check(usage: Usage) -> None:
    if threads := usage.excess_threads():
        raise OverQuotaError("ThreadLimit", f"the code started {threads} and was stopped")
    if excess := usage.excess():
        raise OverQuotaError("DiskLimit", f"the code wrote {excess} and was stopped")
