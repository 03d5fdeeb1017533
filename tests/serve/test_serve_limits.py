"""Places, lines, clocks, and clients that go away: nothing of theirs stays behind in engine or sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from agent_serving import ANSWER, GatedEngine, Served, error_of, events_of, picture, served, user
from waiting import until

from thyme.config import RolloutConfig, SandboxConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.sandbox import open_sandbox
from thyme.serve.refusal import Refusal
from thyme.types import Problem

SLEEP = "<think>I wait.<code>\nimport time\ntime.sleep(9)\n</code>"
WORDY = "<think>" + " ".join(str(number * number) for number in range(4000)) + "</think><answer>1</answer>"
"""Long, and no loop."""


@contextlib.asynccontextmanager
async def connected(server: Served, body: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
    """A bare socket that has sent a request; it is closed, without a word, when the context ends."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    try:
        yield reader
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnect_while_code_runs_frees_the_sandbox(stream: bool) -> None:
    engine = ScriptedEngine([SLEEP, ANSWER])
    async with open_sandbox(SandboxConfig(pool=0)) as sandbox, served(engine, sandbox, max_concurrent=1) as server:
        zygote = psutil.Process(sandbox.zygote_pid)
        idle = len(zygote.children(recursive=True))
        body = {"messages": user("wait", picture()), "stream": stream}

        def sessions() -> int:
            return len(zygote.children(recursive=True)) - idle

        async with connected(server, body) as reader:
            await until(lambda: sessions() == 1)
            if stream:
                assert b" 200 " in await reader.readline()
        await until(lambda: sessions() == 0)  # long before the code would have ended
        await until(lambda: server.runtime.running == 0)
        await until(lambda: (engine.running, len(engine.released)) == (0, 1))
        await until(lambda: server.runtime.metrics.disconnects._value.get() == 1)
        assert await server.metric('thyme_requests_total{outcome="cancelled"}') == 1
        assert await server.metric('thyme_stops_total{reason="cancelled"}') == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnect_while_the_model_writes_frees_its_row(stream: bool) -> None:
    engine = ScriptedEngine([WORDY], delay_s=0.001)
    async with served(engine) as server:
        async with connected(server, {"messages": user("go on"), "stream": stream}):
            await until(lambda: engine.running == 1)
        await until(lambda: engine.running == 0)
        await until(lambda: len(engine.released) == 1)
        await until(lambda: (server.runtime.running, server.runtime.queued) == (0, 0))


async def test_disconnect_in_line_and_while_sending() -> None:
    engine = GatedEngine([ANSWER])
    async with served(engine, max_concurrent=1) as server:
        async with connected(server, {"messages": user("one")}):
            await until(lambda: server.runtime.running == 1)
            async with connected(server, {"messages": user("two"), "stream": True}):
                await until(lambda: server.runtime.queued == 1)
            await until(lambda: server.runtime.queued == 0)
        await until(lambda: server.runtime.running == 0)
        await until(lambda: len(engine.released) == 1)  # the one in line never came so far
        address = urlsplit(server.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: 100\r\n\r\n{{".encode())
        await writer.drain()
        before = server.runtime.metrics.disconnects._value.get()
        writer.transport.abort()
        await until(lambda: server.runtime.metrics.disconnects._value.get() == before + 1)


async def test_the_line_is_bounded_and_moves_up() -> None:
    engine = GatedEngine([ANSWER])
    async with served(engine, max_concurrent=2, max_queued=2) as server:
        running = [asyncio.create_task(server.chat("go", stream=bool(i % 2))) for i in range(4)]
        await until(lambda: server.runtime.running == 2 and server.runtime.queued == 2)
        for stream in (False, True):
            refused = await server.chat("go", stream=stream)
            assert (refused.status_code, error_of(refused)["code"]) == (429, "queue_full")
            assert int(refused.headers["retry-after"]) > 0
        engine.gate.set()
        assert [reply.status_code for reply in await asyncio.gather(*running)] == [200] * 4
        await until(lambda: (server.runtime.running, server.runtime.queued) == (0, 0))
        assert await server.metric('thyme_requests_total{outcome="queue_full"}') == 2
        assert (await server.chat("go")).status_code == 200


async def test_requests_that_arrive_are_in_line_too() -> None:
    """Bodies that are being sent take memory; they are counted, and no longer when their client is gone."""
    async with served(ScriptedEngine([ANSWER]), max_concurrent=1, max_queued=1) as server:
        address = urlsplit(server.url)
        writers = []
        for _ in range(2):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: 100\r\n\r\n{{".encode())
            writers.append(writer)
        await until(lambda: server.runtime._arriving == 2)
        refused = await server.chat("go")
        assert (refused.status_code, error_of(refused)["code"]) == (429, "queue_full")
        for writer in writers:
            writer.transport.abort()
        await until(lambda: server.runtime._arriving == 0)
        assert (await server.chat("go")).status_code == 200


async def test_bound_holds_for_events_too() -> None:
    """Whoever uses the runtime itself (the page) is refused at the first step, and takes no place."""
    engine = ScriptedEngine([WORDY], delay_s=0.001)
    async with served(engine, max_concurrent=1, max_queued=0) as server:
        one = server.runtime.events(Problem(id="1", question="go"), RolloutConfig())
        await anext(one)
        with pytest.raises(Refusal) as caught:
            await anext(server.runtime.events(Problem(id="2", question="go"), RolloutConfig()))
        assert caught.value.status == 429
        await one.aclose()
        assert (server.runtime.running, engine.running, len(engine.released)) == (0, 0, 1)
        unused = server.runtime.events(Problem(id="3", question="go"), RolloutConfig())
        await unused.aclose()
        assert server.runtime.queued == 0


async def test_too_long_in_line() -> None:
    engine = GatedEngine([ANSWER])
    async with served(engine, max_concurrent=1, queue_s=0.1) as server, connected(server, {"messages": user("one")}):
        await until(lambda: server.runtime.running == 1)
        for stream in (False, True):
            refused = await server.chat("two", stream=stream)
            assert (refused.status_code, error_of(refused)["code"]) == (429, "queue_full")


async def test_too_long_at_work() -> None:
    engine = ScriptedEngine([WORDY], delay_s=0.001)
    async with served(engine, request_s=0.2, keep_alive_s=0.05) as server:
        late = await server.chat("go on")
        assert (late.status_code, error_of(late)["code"]) == (504, "timeout")
        stream = await server.chat("go on", stream=True)  # had begun: the error is its last word
        assert stream.status_code == 200
        *_, error, done = events_of(stream.text)
        assert (error["error"]["code"], error["error"]["type"], done) == ("timeout", "server_error", "[DONE]")
        assert engine.running == 0


async def test_streams_say_that_they_are_alive() -> None:
    engine = ScriptedEngine([SLEEP.replace("9", "0.6"), ANSWER])
    settings = {"keep_alive_s": 0.04, "max_concurrent": 1}
    async with open_sandbox(SandboxConfig()) as sandbox, served(engine, sandbox, **settings) as server:
        one, two = await asyncio.gather(*(server.chat("wait", stream=True) for _ in range(2)))
        for reply in (one, two):
            assert (
                "".join(e["choices"][0]["delta"].get("content", "") for e in events_of(reply.text)[:-1]) == "forty two"
            )
            assert reply.text.count(": keep-alive\n\n") >= 3  # while code runs
            assert reply.headers["x-accel-buffering"] == "no"
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert "content-length" not in reply.headers
        counts = sorted(reply.text.count(": keep-alive\n\n") for reply in (one, two))
        assert counts[1] > counts[0] + 1  # the other one also waited in line


async def test_streams_say_that_they_are_alive_while_the_model_thinks() -> None:
    """It writes all the time, and nothing of that is sent to a client that asked for the answer alone."""
    engine = ScriptedEngine([WORDY[:800] + "</think><answer>1</answer>"], delay_s=0.002)
    async with served(engine, keep_alive_s=0.04) as server:
        quiet, talking = [await server.chat("go", stream=True, include_reasoning=shown) for shown in (False, True)]
        assert quiet.text.count(": keep-alive\n\n") >= 3
        assert len(events_of(quiet.text)) < 6 < 100 < len(events_of(talking.text))


async def test_drain_lets_requests_finish_and_takes_no_new_ones() -> None:
    engine = GatedEngine([ANSWER])
    async with served(engine, max_concurrent=1) as server:
        running = [asyncio.create_task(server.chat("go")) for _ in range(2)]
        await until(lambda: server.runtime.running == 1 and server.runtime.queued == 1)
        draining = asyncio.create_task(server.runtime.drain(30))
        await until(lambda: server.runtime.draining)
        refused = await server.chat("go")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "shutting_down")
        assert (await server.client.get("/ready")).status_code == 503
        assert (await server.client.get("/health")).status_code == 200
        engine.gate.set()
        assert [reply.status_code for reply in await asyncio.gather(*running)] == [200, 200]
        await draining


async def test_drain_ends_what_takes_too_long_with_a_word() -> None:
    engine = ScriptedEngine([WORDY], delay_s=0.001)
    async with served(engine) as server:
        running = [asyncio.create_task(server.chat("go", stream=stream)) for stream in (False, True)]
        await until(lambda: engine.running == 2)
        await server.runtime.drain(0.05)
        whole, stream = await asyncio.gather(*running)
        assert (whole.status_code, error_of(whole)["code"]) == (503, "shutting_down")
        ended = stream if stream.status_code == 503 else None
        assert (error_of(ended) if ended else events_of(stream.text)[-2]["error"])["code"] == "shutting_down"
        assert engine.running == 0
