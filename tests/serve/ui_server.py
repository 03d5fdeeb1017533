"""A real server of the playground in a thread, for tests that drive it from outside."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import web_server
from fastapi import FastAPI
from PIL import Image

from thyme.config import SandboxConfig
from thyme.config.serve import ServeConfig
from thyme.engines.base import Chunk, Engine, Request
from thyme.engines.scripted import ScriptedEngine
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.serve.app import create_app

CODE = """<code>
```python
from PIL import Image
image = Image.open(image_path)
crop = image.crop((100, 80, 900, 180))
crop.save("sign.png")
print("sign.png")
```
</code>"""
HOSTILE = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'&lt;b&gt;{{ 7*7 }}"
"""What would act if it were not escaped; it is no tag of the markup."""
SLOWLY = " ".join(str(number * 7919) for number in range(1500))
"""Long, and without the repetition that would end it."""
SLOW_S = 0.05
"""Seconds between two tokens of it: longer in all than any browser is slow, and no page too long for one."""

SCRIPT = {
    "What does the sign say?": [
        f"<think>It is small. I crop it.{CODE}",
        "Now I read it.</think><answer>KX 47</answer>",
    ],
    "slowly": [f"<think>{SLOWLY}</think><answer>never</answer>"],
    "sleeping": ["<think>I wait.<code>\nimport time\ntime.sleep(9)\n</code>", "</think><answer>9</answer>"],
    "hostile": [
        f"<think>{HOSTILE}<code>\nprint({HOSTILE!r})\nraise ValueError('<b>bold</b>')\n</code>",
        f"</think><answer>{HOSTILE}</answer>",
    ],
    "exhausted": [f"<think>Once.{CODE}"],
}
"""What the scripted engine says, by a part of the question."""


class Counting:
    """A sandbox that counts its open sessions."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.open = self.opened = 0

    @property
    def isolation(self) -> str:
        return self._sandbox.isolation

    @asynccontextmanager
    async def session(self, images: Any, seed: int = 0) -> AsyncIterator[Any]:
        async with self._sandbox.session(images, seed) as session:
            self.open, self.opened = self.open + 1, self.opened + 1
            try:
                yield session
            finally:
                self.open -= 1

    async def aclose(self) -> None:
        await self._sandbox.aclose()


class Unhurried(ScriptedEngine):
    """Takes its time over the question that is to be answered slowly."""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async with aclosing(super().stream(request)) as chunks:
            async for chunk in chunks:
                if "slowly" in request.prompt.user:
                    await asyncio.sleep(SLOW_S)
                yield chunk


@dataclass
class Served:
    """A server that runs."""

    url: str = ""
    engine: Any = None
    sandbox: Counting | None = None
    app: FastAPI | None = None
    stop: Callable[[], None] = field(default=lambda: None)


@contextmanager
def serving(
    make_engine: Callable[[], Engine], config: ServeConfig, *, make_app: Callable[..., FastAPI] = create_app
) -> Iterator[Served]:
    """Serve until the context ends."""
    served = Served()

    @asynccontextmanager
    async def opened() -> AsyncIterator[FastAPI]:
        async with open_sandbox(SandboxConfig(pool=1)) as sandbox, aclosing(make_engine()) as served.engine:
            served.sandbox = Counting(sandbox)
            served.app = make_app(served.engine, served.sandbox, config)
            yield served.app

    with web_server.serving(opened) as server:
        served.url, served.stop = server.url, server.stop
        yield served


def png(width: int = 640, height: int = 400, color: str = "steelblue") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()
