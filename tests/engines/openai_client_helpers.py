"""The engine over a server of the tests, and what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from engine_helpers import picture
from openai_server import Fake, serving

from thyme.config import EngineConfig, OpenAIConfig
from thyme.engines import open_engine
from thyme.engines.base import Chunk, Engine, Request
from thyme.engines.openai import OpenAIEngine
from thyme.types import Generated, Observation

IMAGE = picture(0, 50, 40)


@asynccontextmanager
async def engine_over(fake: Fake, **settings: Any) -> AsyncIterator[OpenAIEngine]:
    """The engine; its probe's requests are forgotten, so that a test sees its own."""
    openai = {"backoff_s": 0.01, "connect_timeout_s": 2} | settings.pop("openai", {})
    with serving(fake) as url:
        engine = await asyncio.to_thread(
            open_engine, f"{url}#toy", EngineConfig(openai=OpenAIConfig(**openai), **settings)
        )
        assert isinstance(engine, OpenAIEngine)
        fake.requests.clear()
        try:
            yield engine
        finally:
            await engine.aclose()


def request(engine: Engine, *segments: Generated | Observation, **fields: Any) -> Request:
    prompt = engine.prompt("Look.", "<image> What?", [IMAGE])
    return Request("t", prompt, segments, **({"stop": ("<code>", "</answer>"), "max_tokens": 50} | fields))


async def collect(engine: Engine, request: Request) -> list[Chunk]:
    chunks = [chunk async for chunk in engine.stream(request)]
    assert [chunk.stop is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return chunks


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)
