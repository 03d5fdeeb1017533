"""End to end: the embedded model answers over HTTP, for many clients at once, as it answers alone."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio
from agent_serving import Served, data_url, events_of, served, user
from waiting import until

from thyme.config import SandboxConfig
from thyme.models import open_model
from thyme.nano.world import problem
from thyme.rewards.answer import score_answer
from thyme.sandbox import open_sandbox
from thyme.types import Problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

ZOOM = [problem("test", 7, index, "zoom") for index in range(4)]
MIXED = [*ZOOM, *(problem("test", 7, index, kind) for kind in ("easy", "arithmetic") for index in range(2))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Served]:
    async with (
        open_sandbox(SandboxConfig()) as sandbox,
        aclosing(open_model("nano")) as engine,
        served(engine, sandbox, max_concurrent=8) as serving,
    ):
        yield serving


def messages(asked: Problem) -> list[dict[str, Any]]:
    parts: list[Any] = []
    for record in asked.images:
        buffer = io.BytesIO()
        record.image.save(buffer, "PNG")
        parts.append({"type": "image_url", "image_url": {"url": data_url(buffer.getvalue())}})
    return user(*parts, asked.question)


async def trajectory(server: Served, asked: Problem) -> dict[str, Any]:
    reply = await server.chat(messages(asked), thyme={"trajectory": True})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["thyme"]["trajectory"]
    return found


async def test_zoom_questions_are_answered_right(server: Served) -> None:
    """Path, sizes and prompt are the server's: the client sends a question and a picture, as any other does."""
    right, ran = 0, 0
    for asked in ZOOM:
        reply = (await server.chat(messages(asked), model="nano", thyme={}, temperature=0)).json()
        right += score_answer(asked, reply["choices"][0]["message"]["content"]).value == 1
        ran += reply["thyme"]["rounds"] > 0
        assert reply["usage"]["completion_tokens"] > 10
    assert ran == len(ZOOM)
    assert right >= 3


async def test_stream_says_what_the_whole_reply_says(server: Served) -> None:
    whole = (await server.chat(messages(ZOOM[0]), include_reasoning=True)).json()["choices"][0]["message"]
    stream = await server.chat(messages(ZOOM[0]), include_reasoning=True, stream=True)
    deltas = [event["choices"][0]["delta"] for event in events_of(stream.text)[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["content"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == whole["reasoning_content"]
    assert "crop" in whole["reasoning_content"]
    assert "<sandbox_output>" in whole["reasoning_content"]


async def test_many_at_once_get_the_answers_they_get_alone(server: Served) -> None:
    alone = [await trajectory(server, asked) for asked in MIXED]
    together = await asyncio.gather(*(trajectory(server, asked) for asked in MIXED))
    for one, other in zip(alone, together, strict=True):
        assert [segment["text"] for segment in one["segments"]] == [segment["text"] for segment in other["segments"]]
        assert one["stop"] == other["stop"] == "answer"


async def test_a_client_that_goes_away_frees_its_row(server: Served) -> None:
    """The others are not disturbed, and nothing of it is left."""
    expected = await trajectory(server, ZOOM[1])
    leaving = asyncio.create_task(server.chat(messages(ZOOM[0]), stream=True))
    staying = asyncio.create_task(trajectory(server, ZOOM[1]))
    await until(lambda: server.runtime.running == 2)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert [segment["text"] for segment in (await staying)["segments"]] == [s["text"] for s in expected["segments"]]
    await until(lambda: server.runtime.running == 0)


async def test_the_picture_arrives_as_it_was_sent(server: Served) -> None:
    reply = (await server.chat(messages(ZOOM[0]), thyme={"trajectory": "images"}, max_tokens=1)).json()["thyme"]
    (record,) = reply["trajectory"]["problem"]["images"]
    assert record["id"] == ZOOM[0].images[0].id
    assert base64.b64decode(reply["images"][record["id"]].partition(",")[2])[1:4] == b"PNG"
