"""The trusted side of the zygote: starts it, asks it for sessions, and sees to it that it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, SandboxDiedError, SandboxError
from thyme.sandbox.files import remove_tree
from thyme.sandbox.runtime import Runtime, require_importable, runtime_for

# What modules want done after a fork costs each session a millisecond of page faults, and is not needed: the zygote has
# one thread, holds no lock, and a session is seeded.
# The package is reached through a descriptor, so that no module and no traceback shows where it lies on the host.
_START = (
    "import os, sys; os.register_at_fork = lambda **hooks: None; folder = sys.argv.pop(2); "
    "sys.path.insert(0, f'/proc/self/fd/{folder}'); from jail.zygote import main; del sys.path[0]; "
    "os.close(int(folder)); main()"
)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/mnt/data/tmp",
    "TMPDIR": "/mnt/data/tmp",
    "MPLCONFIGDIR": "/mnt/data/tmp",
    "MPLBACKEND": "Agg",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "OPENCV_LOG_LEVEL": "SILENT",
    # Huge pages where they are to be had: page faults are most of what a session's first steps cost.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2",
}
_NONE = -1
"""In the place of a descriptor, in an answer that brings none."""


class ZygoteProcess:
    """A running zygote. Requests go out at once and are answered in their order."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, level: str, folder: Path | None
    ) -> None:
        """Take over a process that was started; use `start`."""
        self._process, self._control, self.level, self.folder = process, control, level, folder
        self._number = control.fileno()
        self._loop = asyncio.get_running_loop()
        self._handles: list[int] = []
        """Descriptor of the process that forks, once it is ready."""
        self._waiting: deque[tuple[asyncio.Future[int], str]] = deque()
        """Answers to come, each with the name of the session that it brings, if it brings one."""
        self._unwanted: set[asyncio.Task[None]] = set()
        self.dead = False
        self.on_death: Callable[[], None] = _nothing
        """Called once, when it is found dead before `aclose`."""

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    @classmethod
    async def start(cls, config: SandboxConfig, level: str) -> ZygoteProcess:
        """Start a zygote at one level.

        Raises:
            IsolationError: This machine does not offer the level; the message is the zygote's own.
            ConfigError: What is to be imported beforehand is not importable.
        """
        runtime = runtime_for(config.visible)
        require_importable(config.preload, runtime)
        folder = _private_folder() if level == "landlock" else None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            process = _spawn(runtime, theirs)
        except OSError as error:
            ours.close()
            if folder:
                remove_tree(folder)
            raise IsolationError(f"the interpreter could not be started: {error}") from None
        finally:
            theirs.close()
        ours.setblocking(False)
        zygote = cls(process, ours, level, folder)
        try:
            await zygote._order(runtime, config)
        except BaseException:
            await asyncio.shield(zygote.aclose())
            raise
        zygote._loop.add_reader(zygote._number, zygote._answered)
        return zygote

    async def _order(self, runtime: Runtime, config: SandboxConfig) -> None:
        order = {
            "level": self.level,
            "runtime": runtime.to_json(),
            "folder": str(self.folder or ""),
            "repairs": list(config.repairs),
            "limits": config.model_dump(exclude={"isolation", "repairs", "importable"}),
        }
        self._control.send(json.dumps(order).encode())
        try:
            async with asyncio.timeout(config.start_timeout_s):
                await _readable(self._control)
            answer, handles, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
            self._handles += handles
        except TimeoutError:
            raise IsolationError(f"the zygote did not start within {config.start_timeout_s:g} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise IsolationError("the zygote ended while it started")
        failed = json.loads(answer).get("failed")
        if failed:
            raise IsolationError(str(failed))

    async def fork(self, name: str, descriptors: Sequence[int], rehearse: bool, timeout_s: float) -> int:
        """Fork a session.

        Args:
            name: Of its folder.
            descriptors: Its end of the stream, and the pixel memory; the caller keeps its own copies.
            rehearse: Whether the session is to use the time until it is bound; see `Interpreter.rehearse`.
            timeout_s: Seconds it may take.

        Returns:
            Descriptor of the session's process, owned by the caller.

        Raises:
            SandboxDiedError: The zygote went away.
            SandboxError: It could not fork, or no descriptor is left here.
        """
        return await self._request({"fork": name, "rehearse": rehearse}, descriptors, timeout_s, name)

    async def link(
        self,
        name: str,
        files: Sequence[tuple[int, str]],
        new: Sequence[tuple[int, int]],
        old: Sequence[int],
        timeout_s: float,
    ) -> None:
        """Show a session its input files; only at the level ``namespaces``.

        Args:
            name: Of the session.
            files: Number in the store, and name in the session's input folder.
            new: Number and descriptor of files that are to be put into the store before.
            old: Numbers of files that are to be removed from the store.
            timeout_s: Seconds it may take.

        Raises:
            SandboxDiedError: The zygote went away.
            SandboxError: There is no room for the files.
        """
        request = {"link": name, "files": files, "new": [number for number, _ in new], "old": old}
        await self._request(request, [descriptor for _, descriptor in new], timeout_s)

    async def _request(
        self, request: dict[str, Any], descriptors: Sequence[int], timeout_s: float, name: str = ""
    ) -> int:
        await self._send(json.dumps(request).encode(), descriptors)
        answer: asyncio.Future[int] = self._loop.create_future()
        self._waiting.append((answer, name))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            self._let_go(answer, name)
            self._die(f"no answer within {timeout_s:g} s")
            raise SandboxDiedError(f"the zygote does not answer: no answer within {timeout_s:g} s") from None
        except BaseException:
            self._let_go(answer, name)  # it still comes, and is not taken for that to the next request
            raise

    async def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        while not self.dead:
            try:
                socket.send_fds(self._control, [message], list(descriptors))
                return
            except BlockingIOError:
                await _writable(self._control)
            except OSError as error:
                self._die(str(error))
        raise SandboxDiedError("the zygote has ended")

    def _answered(self) -> None:
        try:
            message, handles, _, _ = socket.recv_fds(self._control, 1 << 12, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._die(str(error))
            return
        if not message or not self._waiting:
            self._die("it has ended")
            return
        (answer, name), handle = self._waiting.popleft(), handles[0] if handles else _NONE
        if answer.done():
            self._end_unwanted(handle, name)
        elif failed := json.loads(message).get("failed"):
            answer.set_exception(SandboxError(f"a session could not be set up: {failed}"))
        elif name and handle == _NONE:  # it was sent, and there was no room for it here
            answer.set_exception(SandboxError(f"a session could not be taken over: {os.strerror(errno.EMFILE)}"))
        else:
            answer.set_result(handle)

    def _let_go(self, answer: asyncio.Future[int], name: str) -> None:
        """Nobody waits for this answer any more."""
        if not answer.cancel() and not answer.cancelled() and answer.exception() is None:
            self._end_unwanted(answer.result(), name)

    def _end_unwanted(self, handle: int, name: str) -> None:
        """End a session that was made for nobody."""
        if handle != _NONE:
            ending = asyncio.ensure_future(self._end(handle, name))
            self._unwanted.add(ending)
            ending.add_done_callback(self._unwanted.discard)

    async def _end(self, handle: int, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        await ended(handle)
        os.close(handle)
        if self.folder:
            await asyncio.to_thread(remove_tree, self.folder / "sessions" / name)

    def _die(self, reason: str) -> None:
        """Nothing more comes from it: tell everybody who waits."""
        if self.dead:
            return
        self.dead = True
        self._loop.remove_reader(self._number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        for answer, _ in self._waiting:
            if not answer.done():
                answer.set_exception(SandboxDiedError(f"the zygote does not answer: {reason}"))
        self._waiting.clear()
        self.on_death()

    async def aclose(self) -> None:
        """End the zygote and every session forked from it, and remove their files."""
        self.on_death = _nothing
        self._die("it was ended")
        await asyncio.shield(self._loop.run_in_executor(None, self._process.wait))
        self._control.close()
        while self._unwanted:
            await asyncio.wait(self._unwanted)
        for handle in self._handles:
            await ended(handle)
            os.close(handle)
        self._handles.clear()
        if self.folder:
            await asyncio.to_thread(remove_tree, self.folder)


def _nothing() -> None:
    pass


def _spawn(runtime: Runtime, control: socket.socket) -> subprocess.Popen[bytes]:
    # Not -I: it would ignore PYTHONHASHSEED, and sets would be ordered otherwise in each zygote. The environment is
    # ours entirely, -S keeps site folders and their .pth files out, -P the folder of the script.
    options = ["-S", "-s", "-P", "-B"]
    package = os.open(Path(__file__).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return subprocess.Popen(
            [runtime.python, *options, "-c", _START, str(control.fileno()), str(package)],
            pass_fds=[control.fileno(), package],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(package)


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="thyme-"))
    (folder / "sessions").mkdir()
    return folder


def new_name() -> str:
    """Name of a session's folder."""
    return secrets.token_hex(8)


def has_ended(handle: int) -> bool:
    """Whether the process behind a descriptor is gone."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


async def ended(handle: int) -> None:
    """Wait until the process behind a descriptor, that was killed, is gone: a matter of milliseconds."""
    if not has_ended(handle):
        await _ready(handle, asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await _ready(connection.fileno(), loop.add_reader, loop.remove_reader)


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await _ready(connection.fileno(), loop.add_writer, loop.remove_writer)


async def _ready(descriptor: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)
