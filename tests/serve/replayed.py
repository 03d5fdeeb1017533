"""Recorded requests of evaluation tools, a server for them, and its replies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from agent_serving import Served, served

from thyme.background import Background
from thyme.errors import EngineError
from thyme.models import open_model
from thyme.sandbox import open_sandbox

RECORDED = Path(__file__).parents[1] / "data" / "replays"


@dataclass(frozen=True)
class Recorded:
    """One request as it was sent."""

    case: str
    path: str
    headers: dict[str, str]
    body: str

    def changed(self, **fields: Any) -> Recorded:
        """The same with other fields in its JSON."""
        return Recorded(self.case, self.path, self.headers, json.dumps({**json.loads(self.body), **fields}))

    def send(self, url: str, **headers: str) -> httpx.Response:
        """Send its bytes to another server."""
        with httpx.Client(base_url=url, trust_env=False, timeout=60, headers={}) as client:
            return client.post(self.path, headers={**self.headers, **headers}, content=self.body.encode())


def recorded(tool: str) -> dict[str, Recorded]:
    """All requests of a tool, by case."""
    stored = json.loads((RECORDED / f"{tool}.json").read_text(encoding="utf-8"))
    requests = [Recorded(r["case"], r["path"], r["headers"], r["body"]) for r in stored["requests"]]
    return {request.case: request for request in requests}


@contextlib.contextmanager
def serving_nano(**settings: Any) -> Iterator[str]:
    """The embedded model behind a real server in a thread of its own; gives its address."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Served]:
        async with (
            open_sandbox() as sandbox,
            aclosing(open_model("nano")) as engine,
            served(engine, sandbox, **settings) as found,
        ):
            yield found

    background = Background(opened(), "server", EngineError)
    try:
        yield background.value.url
    finally:
        background.end()
