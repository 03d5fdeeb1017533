"""This package's sandbox: sessions from the pool, forked when asked for, with true files, and over a unix socket."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

from sandbox_peers.base import Peer, Session
from sandbox_peers.work import Picture, Result, Snippet
from thyme.sandbox import SandboxConfig, open_sandbox
from thyme.sandbox.memory import descendants

_INPUT, _FOLDER = "/mnt/data/input/image_1.jpg", "/mnt/data/temp_processed_images"
_ISOLATES = "files, network, processes, kernel interfaces, time, memory, disk"
ISOLATION = "THYME_BENCHMARK_ISOLATION"
"""Environment variable: the level to measure."""


class OurSession(Session):
    """Wraps a session."""

    def __init__(self, context: AbstractAsyncContextManager[Any], session: Any) -> None:
        self._context, self._session = context, session

    async def run(self, snippet: Snippet) -> Result:
        execution = await self._session.run(snippet.code(_INPUT, _FOLDER))
        if execution.error is not None:
            raise RuntimeError(f"{snippet.name}: {execution.error.type}: {execution.error.message}")
        return Result(execution.stdout, execution.images[0].image if execution.images else None)

    async def close(self) -> None:
        await self._context.__aexit__(None, None, None)


class Pooled(Peer):
    """Sessions wait, started and locked down."""

    name, label, isolates = "pooled", "thyme", _ISOLATES
    settings: ClassVar[dict[str, Any]] = {}

    async def __aenter__(self) -> Peer:
        await super().__aenter__()
        config = SandboxConfig(isolation=os.environ.get(ISOLATION, "best"), **self.settings)
        self._broker = await self._open.enter_async_context(open_sandbox(config))
        return self

    @property
    def isolation(self) -> str:
        """Level in force."""
        return self._broker.isolation

    async def start(self, picture: Picture) -> Session:
        context = self._broker.session([picture.record])
        return OurSession(context, await context.__aenter__())


class Cold(Pooled):
    """Each session is forked when it is asked for."""

    name, label = "cold", "thyme, pool=0"
    settings: ClassVar[dict[str, Any]] = {"pool": 0}

    def processes(self) -> set[int]:  # here only: sessions that wait in a pool are nobody's yet
        return set(descendants(self._broker.zygote_pid))


class RoundTrip(Pooled):
    """Pictures are encoded by the code and decoded from the file."""

    name, label = "round_trip", "thyme, round_trip"
    settings: ClassVar[dict[str, Any]] = {"round_trip": True}


class Remote(Peer):
    """``thyme sandbox serve`` on a unix socket, on the same machine."""

    name, label, isolates = "remote", "thyme, remote", _ISOLATES

    @classmethod
    def missing(cls) -> str:
        found = all(importlib.util.find_spec(name) for name in ("thyme.sandbox.remote", "fastapi", "uvicorn"))
        return "" if found else "pip install 'thyme-vl[serve]'"

    async def __aenter__(self) -> Peer:
        await super().__aenter__()
        from thyme.sandbox.remote import open_remote

        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        command = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", "serve"]
        command += ["--unix", str(folder / "socket"), "--isolation", os.environ.get(ISOLATION, "best")]
        with (folder / "log").open("wb") as log:
            self._server = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        self._open.push_async_callback(self._end)
        await self._listening(folder)
        self._remote = await self._open.enter_async_context(open_remote(f"unix:{folder / 'socket'}"))
        return self

    async def _listening(self, folder: Path) -> None:
        async with asyncio.timeout(60):
            while not (folder / "socket").exists():
                if self._server.returncode is not None:
                    raise RuntimeError(f"the server did not start: {(folder / 'log').read_text()}")
                await asyncio.sleep(0.05)

    async def _end(self) -> None:
        if self._server.returncode is None:
            self._server.terminate()
        await self._server.wait()

    async def start(self, picture: Picture) -> Session:
        context = self._remote.session([picture.record])
        return OurSession(context, await context.__aenter__())
