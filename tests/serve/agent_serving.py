"""A real server on a free port, in the test's own event loop, so that a test sees engine and sandbox from inside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from thyme.config.serve import ServeConfig
from thyme.engines.base import Chunk, Engine, Request
from thyme.engines.scripted import ScriptedEngine
from thyme.hosting import Address, listening, uvicorn_for
from thyme.sandbox.base import Sandbox
from thyme.serve.app import create_app
from thyme.serve.runtime import AgentRuntime

ANSWER = "<think>I see it.</think>\n<answer>forty two</answer>"
CODE = "<think>I compute.<code>\n```python\nprint(6 * 7)\n```\n</code>"


class NoSandbox:
    """For scripts without code: opening a session is a failure of the test."""

    isolation = "scripted"

    def session(self, images: object, seed: int = 0) -> Any:
        raise AssertionError("no code was to run")

    async def aclose(self) -> None:
        """Nothing to end."""


class GatedEngine(ScriptedEngine):
    """Writes nothing before its gate is opened, so that a test decides how long requests take."""

    def __init__(self, script: Sequence[str]) -> None:
        super().__init__(script)
        self.gate = asyncio.Event()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        await self.gate.wait()
        async with contextlib.aclosing(super().stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk


@dataclass(frozen=True)
class Served:
    """A server that takes requests."""

    url: str
    runtime: AgentRuntime
    client: httpx.AsyncClient

    async def chat(self, messages: Any, **fields: Any) -> httpx.Response:
        """Post a chat completion; a string is the only user turn."""
        if isinstance(messages, str):
            messages = user(messages)
        return await self.client.post("/v1/chat/completions", json={"messages": messages, **fields})

    async def metric(self, name: str) -> float:
        """Value of one line of /metrics, labels included in the name; 0 where it is not there yet."""
        text = (await self.client.get("/metrics")).text
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


@contextlib.asynccontextmanager
async def served(engine: Engine, sandbox: Sandbox | None = None, **settings: Any) -> AsyncIterator[Served]:
    """Serve until the context ends."""
    app = create_app(engine, sandbox or NoSandbox(), ServeConfig.model_validate(settings))
    with listening(Address("127.0.0.1", 0)) as (opened, url):
        server = uvicorn_for(app)
        serving = asyncio.create_task(server.serve(sockets=[opened]))
        while not server.started:
            await asyncio.sleep(0.002)
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=30) as client:
                yield Served(url, app.state.runtime, client)
        finally:
            server.should_exit = True
            await serving


async def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object of a reply, which must have OpenAI's shape."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    return error


def user(*parts: Any) -> list[dict[str, Any]]:
    """A conversation of one user turn: texts and pictures."""
    if len(parts) == 1 and isinstance(parts[0], str):
        return [{"role": "user", "content": parts[0]}]
    return [{"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}]


def picture(
    format: str = "PNG", size: tuple[int, int] = (40, 30), color: str = "red", **options: Any
) -> dict[str, Any]:
    """An image part with a data URL."""
    return {
        "type": "image_url",
        "image_url": {"url": data_url(encoded(format, size, color, **options)), "detail": "low"},
    }


def encoded(format: str = "PNG", size: tuple[int, int] = (40, 30), color: str = "red", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format, **options)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def events_of(text: str) -> list[Any]:
    """The data of a stream's events, in order; `[DONE]` as the string it is."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
