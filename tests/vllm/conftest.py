"""Fixtures of the tests that need a real vLLM: ``make test-vllm`` makes an environment for them and runs them.

Anywhere else they are skipped. vLLM's own warnings are no failures of ours, and a server may take its time to start.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from thyme.nano import checkpoint_path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "engines"))  # engine_helpers: the same plans and the same reference
START_S = 400
"""Seconds a server is given to come up; 60 to 80 is usual on two idle cores."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip without vLLM; elsewhere, forgive it its warnings and its slowness."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        if not vllm_installed():
            item.add_marker(pytest.mark.skip(reason="needs vLLM; run make test-vllm"))
        item.add_marker(pytest.mark.filterwarnings("default"))
        item.add_marker(pytest.mark.timeout(600))


def vllm_installed() -> bool:
    spec = find_spec("vllm")
    return spec is not None and spec.origin is not None  # this very folder looks like a package without an origin


@dataclass(frozen=True)
class VllmServer:
    """A real vLLM server over the nano model."""

    url: str
    """Ends in ``/v1``."""
    model: str
    """The name it serves the model under."""


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """The server, started once; its whole process group ends with the session."""
    port, name = free_port(), "nano"
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            server_command(port, name),
            env=os.environ | server_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_until_healthy(server, port, log)
        yield VllmServer(f"http://127.0.0.1:{port}/v1", name)
    finally:
        end_group(server)


def server_command(port: int, name: str) -> list[str]:
    module = "vllm.entrypoints.openai.api_server"
    options = {
        "--model": str(checkpoint_path("final")),
        "--served-model-name": name,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--max-model-len": "4096",
        "--max-num-seqs": "8",
        "--logprobs-mode": "processed_logprobs",
        "--limit-mm-per-prompt": '{"image": 8}',
    }
    return [sys.executable, "-m", module, "--enforce-eager", *(word for pair in options.items() for word in pair)]


def server_environment() -> dict[str, str]:
    return {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


def wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(1)
    pytest.fail(f"the server did not come up in {START_S} s:\n{log.read_text(errors='replace')[-4000:]}")


def end_group(server: subprocess.Popen[bytes]) -> None:
    """End the server and the engine processes that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            continue
    server.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
