"""A real server, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

_COMMAND = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", "serve"]


@dataclass(frozen=True)
class Serving:
    """A server that takes requests."""

    process: subprocess.Popen[str]
    url: str
    announced: str

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@contextlib.contextmanager
def serving(*arguments: object, token: str | None = None) -> Iterator[Serving]:
    """Run ``thyme sandbox serve`` until the context ends."""
    environment = {name: value for name, value in os.environ.items() if name != "THYME_SANDBOX_TOKEN"}
    if token is not None:
        environment["THYME_SANDBOX_TOKEN"] = token
    command = [*_COMMAND, *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        announced = process.stderr.readline()
        if "sandbox server at " not in announced:
            raise AssertionError(f"the server did not start: {announced}{process.stderr.read()}")
        url = announced.split("sandbox server at ")[1].split(",")[0]
        yield Serving(process, url, announced)
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()


def client_of(url: str, **options: Any) -> httpx.AsyncClient:
    """Speaks plain HTTP, as curl does."""
    if url.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix:"))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", **options)
    return httpx.AsyncClient(base_url=url, trust_env=False, **options)


def code_of(response: httpx.Response) -> str:
    code = response.json()["error"]["code"]
    assert isinstance(code, str)
    return code
