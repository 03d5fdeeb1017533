"""What goes wrong on the way to a server: what is tried again, how often, and what is told after the last try."""

from __future__ import annotations

import pytest
from fastapi.responses import Response
from openai_client_helpers import collect, engine_over, request, text
from openai_server import CUT, HANG, Fake, error

from thyme.config import EngineConfig, OpenAIConfig
from thyme.engines.openai import OpenAIEngine
from thyme.errors import EngineError


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 507, 520, 524, 529])
async def test_passing_failures_are_tried_again(status: int) -> None:
    fake = Fake()
    async with engine_over(fake) as engine:
        fake.failures = [error("busy", status), error("busy", status)]
        assert text(await collect(engine, request(engine))) == "Red."
    assert len(fake.requests) == 3


@pytest.mark.parametrize("status", [501, 505])
async def test_what_a_server_cannot_do_is_not_asked_again(status: int) -> None:
    fake = Fake()
    async with engine_over(fake) as engine:
        fake.failures = [error("no", status)]
        with pytest.raises(EngineError, match=f"status {status}"):
            await collect(engine, request(engine))
    assert len(fake.requests) == 1


@pytest.mark.parametrize("sent", [b"", b"data: [DONE]\n\n", b'data: {"choices": [{"delta": {"content": ""}}]}\n\n'])
async def test_an_answer_that_ends_before_its_first_token_is_asked_for_again(sent: bytes) -> None:
    fake = Fake()
    async with engine_over(fake, openai={"retries": 1}) as engine:
        fake.failures = [Response(sent, media_type="text/event-stream")]
        assert text(await collect(engine, request(engine))) == "Red."
        fake.failures = [Response(sent, media_type="text/event-stream")] * 2
        with pytest.raises(EngineError, match="broke off before its first token"):
            await collect(engine, request(engine))
    assert len(fake.requests) == 4


async def test_an_answer_without_words_is_one() -> None:
    fake = Fake([""])
    async with engine_over(fake) as engine:
        assert [chunk.stop for chunk in await collect(engine, request(engine))] == ["end"]
    assert len(fake.requests) == 1


async def test_a_server_says_how_long_to_wait() -> None:
    fake = Fake()
    async with engine_over(fake) as engine:
        fake.failures = [error("busy", 429, **{"Retry-After": "0.4"})]
        await collect(engine, request(engine))
    first, second = fake.times[-2:]
    assert second - first >= 0.4


async def test_failures_that_stay_are_told_after_the_last_try() -> None:
    fake = Fake()
    async with engine_over(fake, openai={"retries": 2}) as engine:
        fake.failures = [error("over capacity", 503)] * 9
        with pytest.raises(EngineError, match=r"status 503.*over capacity"):
            await collect(engine, request(engine))
    assert len(fake.requests) == 3


async def test_nothing_is_tried_again_after_a_token_came() -> None:
    fake = Fake(["word"])
    async with engine_over(fake) as engine:
        fake.tokenize = lambda said: ["word", CUT]
        seen: list[str] = []

        async def watch() -> None:
            async for chunk in engine.stream(request(engine)):
                seen.append(chunk.text)

        with pytest.raises(EngineError, match=r"the connection to http.* broke"):
            await watch()
        assert seen == ["word"]
        assert len(fake.requests) == 1
        fake.tokenize = lambda said: [CUT]  # before any token it may
        with pytest.raises(EngineError, match="broke"):
            await collect(engine, request(engine))
    assert len(fake.requests) == 1 + 5


@pytest.mark.parametrize("keep_alive", [False, True])
@pytest.mark.parametrize("tokens", [[HANG], ["word", HANG]])
async def test_a_server_that_falls_silent_is_given_up(tokens: list[str], keep_alive: bool) -> None:
    fake = Fake(["word"], keep_alive=keep_alive)
    limits = OpenAIConfig(first_token_timeout_s=0.3, token_timeout_s=0.3, retries=0)
    async with engine_over(fake) as engine:
        fake.tokenize = lambda said: tokens
        hasty = OpenAIEngine(engine._server, engine.facts, EngineConfig(openai=limits))
        with pytest.raises(EngineError, match=r"sent no token for 0.3 s; raise .*timeout_s"):
            await collect(hasty, request(hasty))
        await hasty.aclose()
        fake.tokenize = lambda said: ["word"]
        assert text(await collect(engine, request(engine))) == "word"


async def test_an_error_in_the_middle_of_a_stream_is_told() -> None:
    fake = Fake()
    broken = b'data: {"error": {"message": "CUDA is out of memory", "code": 500}}\n\n'
    async with engine_over(fake, openai={"retries": 1}) as engine:
        fake.failures = [Response(broken, media_type="text/event-stream")] * 2
        with pytest.raises(EngineError, match="CUDA is out of memory"):
            await collect(engine, request(engine))
        fake.failures = [Response(b'{"error": "no GPU"}', media_type="application/json")] * 2  # with status 200
        with pytest.raises(EngineError, match="no GPU"):
            await collect(engine, request(engine))
        word = b'data: {"choices": [{"delta": {"content": "Red"}}]}\n\n'
        fake.failures = [Response(word, media_type="text/event-stream")]
        with pytest.raises(EngineError, match="broke off in the middle"):
            await collect(engine, request(engine))
