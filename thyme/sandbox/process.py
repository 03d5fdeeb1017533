"""One session's process, seen from the trusted side: start it, talk to it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxDiedError, SandboxError
from thyme.sandbox import wire
from thyme.sandbox.channel import Channel
from thyme.sandbox.files import Usage, remove_tree
from thyme.sandbox.jail.confine import OUTPUT, SCRATCH
from thyme.sandbox.zygote import ZygoteProcess, ended, has_ended, new_name

_READY = json.dumps({"ready": True}).encode()
_WATCH_S = 0.02
"""Seconds between two looks at what a session wrote, where no mount limits it."""
_UNLOOKED_S = 0.005
"""Seconds that code may run, over any number of blocks, before files without names are looked for."""
_PAUSE_AFTER_S = 0.005
"""Seconds after an answer in which a session is not yet stopped: the next block may come at once."""


class OverQuotaError(Exception):
    """The session took more than it may."""

    def __init__(self, limit: str, message: str) -> None:
        """Name the limit, and say what was over it."""
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True)
class InputFile:
    """An input image of a session."""

    path: str
    """Virtual."""
    data: bytes
    """The file's."""
    description: dict[str, Any]
    """For `thyme.sandbox.jail.pictures.Input`."""


class Pixels:
    """Descriptors of the decoded pixels of some inputs."""

    def __init__(self) -> None:
        """Start without any."""
        self.positions: list[int] = []
        """Of the inputs, among all of the session."""
        self.descriptors: list[int] = []

    def add(self, position: int, descriptor: int) -> None:
        """Own one more."""
        self.positions.append(position)
        self.descriptors.append(descriptor)

    def close(self) -> None:
        """Close them."""
        while self.descriptors:
            os.close(self.descriptors.pop())
        self.positions.clear()


@dataclass(frozen=True)
class Order:
    """What a session is made of."""

    inputs: tuple[InputFile, ...]
    seed: int
    config: SandboxConfig
    pixels: Callable[[], Awaitable[Pixels]]
    """Gives the decoded pixels of the inputs, for the caller to close."""


class SessionProcess:
    """A session that is alive, or was."""

    def __init__(self, name: str, channel: Channel, handle: int, memory: mmap.mmap, usage: Usage | None) -> None:
        """Take over a process; use `start`.

        Args:
            name: Of its folder.
            channel: The stream to it.
            handle: Descriptor of the process.
            memory: Shared with it, for the pictures that come back.
            usage: What it writes, where no mount limits it.
        """
        self.name, self.memory = name, memory
        self._channel, self._handle, self._usage = channel, handle, usage
        self._loop = asyncio.get_running_loop()
        self._pausing: asyncio.TimerHandle | None = None
        self._paused = False
        self._killed = False

    @classmethod
    async def start(cls, zygote: ZygoteProcess, config: SandboxConfig, rehearse: bool = False) -> SessionProcess:
        """Fork a session, which locks itself down and waits for `send_bind`.

        Args:
            zygote: Forks it.
            config: The limits.
            rehearse: Whether it is to use the time until then; see `thyme.sandbox.jail.interpreter`.

        Raises:
            SandboxDiedError: The zygote went away.
            SandboxError: The session could not be started.
        """
        name = new_name()
        with contextlib.ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                undo.callback(ours.close)
                with theirs:
                    pixels = wire.shared_memory(wire.shared_bytes(config))
                    try:
                        memory = mmap.mmap(pixels, 0)
                        undo.callback(memory.close)
                        handle = await zygote.fork(name, (theirs.fileno(), pixels), rehearse, config.start_timeout_s)
                        undo.callback(os.close, handle)
                    finally:
                        os.close(pixels)
                usage = None
                if zygote.folder:
                    usage = Usage(zygote.folder / "sessions" / name, handle, config, (OUTPUT, SCRATCH))
            except OSError as error:
                raise SandboxError(f"a session could not be started: {error}") from error
            process = cls(name, Channel(ours), handle, memory, usage)
            undo.pop_all()
        return process

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return has_ended(self._handle)

    async def send_bind(self, seed: int, inputs: Sequence[dict[str, Any]], timeout_s: float) -> None:
        """Tell it its seed and its inputs; `await_ready` waits for it to have understood.

        Raises:
            SandboxDiedError: It ended, or took longer than `timeout_s`.
        """
        message = wire.pack({"bind": {"seed": seed, "inputs": list(inputs)}})
        try:
            await self._channel.send(message, self._loop.time() + timeout_s)
        except OSError as error:  # TimeoutError is one
            raise SandboxDiedError(f"a session did not start: {error}") from None

    def copy_in(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Give it its input files, where no mount shows them: virtual path and bytes of each.

        Raises:
            SandboxError: There is no room for them.
        """
        assert self._usage is not None
        try:
            for path, data in files:
                _write(Path(f"{self._usage.folder}{path}"), data)
        except OSError as error:
            raise SandboxError(f"the input files could not be written: {error}") from error

    async def await_ready(self, timeout_s: float) -> None:
        """Wait until it is locked down and bound.

        Raises:
            SandboxDiedError: It ended, or took longer than `timeout_s`.
            SandboxError: It could not be set up; the message is its own.
        """
        try:
            message = await self._channel.receive(1 << 16, self._loop.time() + timeout_s)
        except (TimeoutError, OSError, wire.ProtocolError) as error:
            raise SandboxDiedError(f"a session did not start: {type(error).__name__}") from None
        if message != _READY:
            raise SandboxError(f"a session could not be set up: {message[:500].decode(errors='replace')}")

    async def ask(
        self, message: dict[str, Any], most_bytes: int, timeout_s: float, descriptors: Sequence[int] = ()
    ) -> bytes:
        """Let it run, and wait for the answer; then it is stopped until the next time.

        Args:
            message: The request.
            most_bytes: That the answer may have.
            timeout_s: Seconds it may take.
            descriptors: Go with the request; the caller keeps its own copies.

        Raises:
            TimeoutError: It took longer.
            OverQuotaError: The session took more than it may.
            SandboxError: What it took cannot be looked at.
            wire.ProtocolError: The answer is too long.
            OSError: The session ended.
        """
        self._resume()
        watch = _Watch(self._usage, self._channel) if self._usage else None
        try:
            deadline = self._loop.time() + timeout_s
            await self._channel.send(wire.pack(message), deadline, descriptors)
            answer = await self._channel.receive(most_bytes, deadline)
            if watch:
                watch.last_look()
        finally:
            if watch:
                watch.stop()
        if not self._killed:  # an answer may come in while it is being ended
            self._pausing = self._loop.call_later(_PAUSE_AFTER_S, self._pause)
        return answer

    def _pause(self) -> None:
        """Stop every thread of it: between two runs a session takes no CPU."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def _resume(self) -> None:
        if self._pausing:
            self._pausing.cancel()
        if self._paused:
            self._signal(signal.SIGCONT)
            self._paused = False

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    async def kill(self) -> None:
        """End the process and remove everything that belonged to it."""
        self._killed = True  # from here on its handle may be closed, and stand for another process
        if self._pausing:
            self._pausing.cancel()
        self._signal(signal.SIGKILL)
        self._channel.close()
        await ended(self._handle)
        os.close(self._handle)
        self.memory.close()
        if self._usage:
            with contextlib.suppress(OSError):  # no descriptor is left: it goes with the folder of the zygote
                await asyncio.to_thread(remove_tree, self._usage.folder)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # the session makes it too, at its start
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444), "wb") as file:
        file.write(data)


class _Watch:
    """Looks at what a session takes while its code runs, and lets the wait for its answer fail where it is too much."""

    def __init__(self, usage: Usage, channel: Channel) -> None:
        self._usage, self._channel = usage, channel
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer = self._loop.call_later(_WATCH_S, self._look)

    def _look(self) -> None:
        try:
            if excess := self._excess():
                self._channel.fail(excess)
        except SandboxError as error:
            self._channel.fail(error)
        self._timer = self._loop.call_later(_WATCH_S, self._look)

    def last_look(self) -> None:
        """Look once more, now that it has answered."""
        if excess := self._excess():
            raise excess

    def _excess(self) -> OverQuotaError | None:
        """What it took, files without names only where it had the time to make some since the last look at those."""
        usage, now = self._usage, self._loop.time()
        usage.unlooked_s, self._since = usage.unlooked_s + now - self._since, now
        nameless_too = usage.unlooked_s > _UNLOOKED_S
        if nameless_too:
            usage.unlooked_s = 0.0
        if threads := usage.excess_threads():
            return OverQuotaError("ThreadLimit", f"the code started {threads} and was stopped")
        if excess := usage.excess(nameless_too):
            return OverQuotaError("DiskLimit", f"the code wrote {excess} and was stopped")
        return None

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
