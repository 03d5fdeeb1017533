"""Other ways to run code: a plain interpreter, bubblewrap around it, a Jupyter kernel, smolagents' interpreter."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox_peers.base import Peer, Session, read_picture
from sandbox_peers.work import Picture, Result, Snippet


class ScriptSession(Session):
    """A folder, and a new interpreter for each execution."""

    def __init__(self, picture: Picture, command: Callable[[Path, Path], list[str]], shown: tuple[str, str] | None):
        """Prepare.

        Args:
            picture: The input.
            command: What starts the interpreter on ``script.py``, given the folder and the input's file.
            shown: Paths of input and folder as the code sees them, where they are others.
        """
        self._picture, self._command, self._shown = picture, command, shown
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))

    async def run(self, snippet: Snippet) -> Result:
        image, folder = self._shown or (str(self._picture.file), str(self._folder))
        (self._folder / "script.py").write_text(snippet.code(image, folder))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command(self._folder, self._picture.file), cwd=self._folder, stdout=pipe, stderr=pipe
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{snippet.name}: {errors.decode()}")
        return Result(output.decode(), read_picture(snippet, str(self._folder)))

    async def close(self) -> None:
        shutil.rmtree(self._folder)


class PlainPython(Peer):
    """What most evaluation code does: write the block to a file and run it."""

    name, label, isolates, keeps_state = "python", "python script.py", "nothing", False

    async def start(self, picture: Picture) -> Session:
        return ScriptSession(picture, lambda folder, _: [sys.executable, str(folder / "script.py")], None)


_SEEN_FOLDER, _SEEN_INPUT = "/mnt/data/temp_processed_images", "/mnt/data/input/image_1.jpg"


class Bubblewrap(Peer):
    """Namespaces of its own for each process; system and interpreter read-only."""

    name, label, keeps_state = "bubblewrap", "bubblewrap + python", False
    isolates = "files, network, processes; no limits, no system call filter"

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("bwrap") else "apt-get install bubblewrap"

    async def start(self, picture: Picture) -> Session:
        return ScriptSession(picture, self._command, (_SEEN_INPUT, _SEEN_FOLDER))

    @staticmethod
    def _command(folder: Path, image: Path) -> list[str]:
        command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
        command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # first: the environment may lie in /tmp
        for path in dict.fromkeys(["/usr", "/lib", "/lib64", "/bin", sys.base_prefix, sys.prefix]):
            command += ["--ro-bind-try", path, path]
        command += ["--bind", str(folder), _SEEN_FOLDER, "--ro-bind", str(image), _SEEN_INPUT]
        return [*command, "--chdir", _SEEN_FOLDER, sys.executable, f"{_SEEN_FOLDER}/script.py"]


class JupyterSession(Session):
    """A kernel."""

    def __init__(self, peer: Jupyter, manager: Any, client: Any, picture: Picture, folder: Path) -> None:
        self._peer, self._manager, self._client, self._picture = peer, manager, client, picture
        self._folder = folder

    async def run(self, snippet: Snippet) -> Result:
        printed: list[str] = []

        def heard(message: dict[str, Any]) -> None:
            if message["header"]["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        code = snippet.code(str(self._picture.file), str(self._folder))
        reply = await self._client.execute_interactive(code, store_history=False, output_hook=heard, timeout=60)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{snippet.name}: {reply['content']}")
        return Result("".join(printed), read_picture(snippet, str(self._folder)))

    async def close(self) -> None:
        self._peer.kernels.discard(self._manager.provisioner.pid)
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)
        shutil.rmtree(self._folder)


class Jupyter(Peer):
    """A kernel a session, over its usual sockets."""

    name, label, isolates = "jupyter", "Jupyter kernel", "nothing (a process of its own)"

    def __init__(self) -> None:
        self.kernels: set[int] = set()

    @classmethod
    def missing(cls) -> str:
        found = all(importlib.util.find_spec(name) for name in ("jupyter_client", "ipykernel"))
        return "" if found else "pip install 'thyme-vl[bench]'"

    async def start(self, picture: Picture) -> Session:
        """A new kernel; once more where two processes gave theirs the same ports, and it died of that."""
        try:
            return await self._started(picture)
        except RuntimeError:
            return await self._started(picture)

    async def _started(self, picture: Picture) -> Session:
        from jupyter_client.manager import AsyncKernelManager

        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        manager = AsyncKernelManager(kernel_name="python3")
        await manager.start_kernel(cwd=str(folder), stderr=asyncio.subprocess.DEVNULL)  # it warns about TCP
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        self.kernels.add(manager.provisioner.pid)  # type: ignore[union-attr]
        return JupyterSession(self, manager, client, picture, folder)

    def processes(self) -> set[int]:
        return set(self.kernels)


class SmolagentsSession(Session):
    """An interpreter of Python's syntax tree, in this process."""

    def __init__(self, picture: Picture) -> None:
        from smolagents.local_python_executor import LocalPythonExecutor

        self._picture = picture
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._executor = LocalPythonExecutor(additional_authorized_imports=["PIL.*", "numpy.*", "cv2.*"])
        self._executor.send_tools({})

    async def run(self, snippet: Snippet) -> Result:
        output = self._executor(snippet.code(str(self._picture.file), str(self._folder)))
        return Result(output.logs, read_picture(snippet, str(self._folder)))

    async def close(self) -> None:
        shutil.rmtree(self._folder)


class Smolagents(Peer):
    """smolagents' LocalPythonExecutor, as its CodeAgent uses it by default."""

    name, label = "smolagents", "smolagents, in-process"
    isolates = "nothing of the kernel's; imports and builtins by name"

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("smolagents") else "pip install 'thyme-vl[bench]'"

    async def __aenter__(self) -> Peer:
        import smolagents.local_python_executor  # noqa: F401  its import is not a session's to pay

        return await super().__aenter__()

    async def start(self, picture: Picture) -> Session:
        return SmolagentsSession(picture)
