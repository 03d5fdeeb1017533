"""The trusted side of the zygote: starts it, asks it for sessions, and sees to it that it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, SandboxDiedError
from thyme.sandbox.files import remove_tree
from thyme.sandbox.runtime import Runtime, runtime_for

_START = (
    "import sys; folder = sys.argv.pop(2); sys.path.insert(0, folder); "
    "from jail.zygote import main; sys.path.remove(folder); main()"
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


class ZygoteProcess:
    """A running zygote. Requests are answered in order."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, level: str, folder: Path | None
    ) -> None:
        """Take over a process that said it is ready; use `start`."""
        self._process, self._control, self.level, self.folder = process, control, level, folder
        self._handles: list[int] = []
        """Descriptor of the process that forks, once it is ready."""
        self._turn = asyncio.Lock()
        self.dead = False

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    @classmethod
    async def start(cls, config: SandboxConfig, level: str) -> ZygoteProcess:
        """Start a zygote at one level.

        Raises:
            IsolationError: This machine does not offer the level; the message is the zygote's own.
        """
        runtime = runtime_for(config.importable)
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
            await zygote._order(runtime, config.start_timeout_s)
        except BaseException:
            await zygote.aclose()
            raise
        return zygote

    async def _order(self, runtime: Runtime, timeout_s: float) -> None:
        order = {"level": self.level, "runtime": runtime.to_json(), "folder": str(self.folder or "")}
        self._control.send(json.dumps(order).encode())
        try:
            async with asyncio.timeout(timeout_s):
                await _readable(self._control)
            answer, handles, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
            self._handles += handles
        except TimeoutError:
            raise IsolationError(f"the zygote did not start within {timeout_s:g} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise IsolationError("the zygote ended while it started")
        failed = json.loads(answer).get("failed")
        if failed:
            raise IsolationError(str(failed))

    async def fork(self, request: dict[str, Any], descriptors: Sequence[int], timeout_s: float) -> int:
        """Fork a session.

        Args:
            request: For `thyme.sandbox.jail.session.serve`.
            descriptors: Its end of the stream, the pixel memory, the inputs; the caller keeps its own copies.
            timeout_s: Seconds it may take.

        Returns:
            Descriptor of the session's process, owned by the caller.

        Raises:
            SandboxDiedError: The zygote went away.
        """
        await self._turn.acquire()
        try:
            if self.dead:
                raise SandboxDiedError("the zygote has ended")
            socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
        except BaseException as error:
            self._turn.release()
            if isinstance(error, OSError):
                self.dead = True
                raise SandboxDiedError(f"the zygote does not answer: {error}") from None
            raise
        answer = asyncio.ensure_future(self._answer(timeout_s))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:  # the answer still comes, and must not be taken for that to the next request
            answer.add_done_callback(_close_unwanted)
            raise

    async def _answer(self, timeout_s: float) -> int:
        """The answer to the request that was just sent; then it is the next one's turn."""
        try:
            async with asyncio.timeout(timeout_s):
                await _readable(self._control)
            message, handles, _, _ = socket.recv_fds(self._control, 64, 1)
            if not message or not handles:
                raise ConnectionResetError("it has ended")
            return handles[0]
        except (OSError, TimeoutError) as error:
            self.dead = True
            raise SandboxDiedError(f"the zygote does not answer: {error or type(error).__name__}") from None
        finally:
            self._turn.release()

    async def aclose(self) -> None:
        """End the zygote and every session forked from it, and remove their files."""
        self.dead = True
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        await asyncio.shield(loop.run_in_executor(None, self._process.wait))
        self._control.close()
        for handle in self._handles:
            await ended(handle)
            os.close(handle)
        self._handles.clear()
        if self.folder:
            remove_tree(self.folder)


def _spawn(runtime: Runtime, control: socket.socket) -> subprocess.Popen[bytes]:
    # Not -I: it would ignore PYTHONHASHSEED, and sets would be ordered otherwise in each zygote. The environment is
    # ours entirely, -S keeps site folders and their .pth files out, -P the folder of the script.
    options = ["-S", "-s", "-P", "-B"]
    package = str(Path(__file__).parent)
    return subprocess.Popen(
        [runtime.python, *options, "-c", _START, str(control.fileno()), package],
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


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
    while not has_ended(handle):
        await asyncio.sleep(0.0005)


def _close_unwanted(answer: asyncio.Future[int]) -> None:
    """Let go of a session that nobody waits for any more; without its stream it ends by itself."""
    if not answer.cancelled() and answer.exception() is None:
        os.close(answer.result())


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    descriptor = connection.fileno()  # asked once: it may be closed meanwhile
    loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
