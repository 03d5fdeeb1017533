"""``thyme sandbox serve`` as a process: signals, restarts, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import psutil
import pytest
from sandbox_serving import client_of, code_of, serving

from thyme.errors import SandboxDiedError
from thyme.sandbox.remote import open_remote


async def test_sigterm_lets_sessions_finish(tmp_path: Path) -> None:
    with serving("--unix", tmp_path / "s", "--drain-s", 30, "--pool", 0) as server:
        assert "isolation" in server.announced
        async with contextlib.AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(open_remote(server.url))
            client = await stack.enter_async_context(client_of(server.url))
            async with sandbox.session() as session:
                running = asyncio.create_task(session.run("import time\ntime.sleep(0.5)\nx = 5"))
                await asyncio.sleep(0.2)
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.1)
                ready = await client.get("/readyz")
                assert (ready.status_code, ready.json()["status"]) == (503, "draining")
                assert (await client.get("/healthz")).status_code == 200
                refused = await client.post("/v1/sessions", json={})
                assert (refused.status_code, code_of(refused)) == (503, "draining")
                assert "retry-after" in refused.headers
                assert (await running).error is None
                assert (await session.run("print(x)")).stdout == "5\n"
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("signals", [1, 2])
async def test_drain_ends_what_takes_too_long(tmp_path: Path, signals: int) -> None:
    """After ``--drain-s``, or at once at the second signal."""
    with serving("--unix", tmp_path / "s", "--drain-s", 0.3 if signals == 1 else 60, "--pool", 0) as server:
        async with open_remote(server.url) as sandbox, sandbox.session() as session:
            running = asyncio.create_task(session.run("import time\ntime.sleep(9)"))
            await asyncio.sleep(0.3)
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.2)
            with pytest.raises(SandboxDiedError):
                await running
        assert await asyncio.to_thread(server.process.wait, 30) == 0


async def test_killed_server_leaves_no_process_and_a_restarted_one_has_lost_its_sessions(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 's'}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving("--unix", tmp_path / "s", "--pool", 0))
        async with open_remote(url, connect_s=0.3) as sandbox, sandbox.session(seed=2) as session:
            await session.run("x = 1")
            children = _descendants(server.process.pid)
            assert children
            server.process.kill()  # which leaves its socket behind
            server.process.wait(30)
            async with asyncio.timeout(20):
                while any(Path(f"/proc/{child}").exists() for child in children):
                    await asyncio.sleep(0.02)
            with pytest.raises(SandboxDiedError, match=rf"at {url} cannot be reached"):
                await session.run("x = 2")
            stack.enter_context(serving("--unix", tmp_path / "s", "--pool", 0))
            execution = await session.run("print('x' in globals())")
            assert (execution.stdout, execution.session_lost) == ("False\n", True)
            assert not (await session.run("print(1)")).session_lost


async def test_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxDiedError, match=rf"unix:{tmp_path}/none cannot be reached .*thyme sandbox serve"):
        async with open_remote(f"unix:{tmp_path}/none", connect_s=0):
            pass


def _descendants(pid: int) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}
