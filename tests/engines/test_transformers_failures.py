"""What fails ends what it must and nothing else: no memory, a thread that breaks down, closing."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_helpers import collect, engine_over, span

from thyme.engines.base import Chunk, Request
from thyme.engines.transformers import TransformersEngine
from thyme.engines.transformers_cache import CacheShape
from thyme.errors import EngineError


def request(engine: TransformersEngine, name: str, *, tokens: int = 5) -> Request:
    return Request(name, engine.prompt("word " * 100, name, []), max_tokens=tokens)


async def writers(engine: TransformersEngine, count: int) -> list[AsyncGenerator[Chunk, None]]:
    """Spans that do not end soon, each of which has begun to write."""
    streams = [engine.stream(request(engine, f"writer {index}", tokens=500)) for index in range(count)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    await asyncio.gather(*(anext(stream) for stream in streams))
    return streams


def full(*_: object) -> list[torch.Tensor]:
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.usefixtures("no_end")
async def test_rows_that_fail_for_want_of_memory_need_none_to_go(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        model = engine._scheduler._model
        streams = await writers(engine, 4)
        assert len(model._desk.rows) == 4
        with monkeypatch.context() as patch:
            patch.setattr(CacheShape, "room", full)
            patch.setattr(model, "step", full)
            for stream in streams:
                with pytest.raises(EngineError, match="the model failed: OutOfMemoryError"):
                    [chunk async for chunk in stream]
            assert (model._desk.rows, model._desk._keys) == ([], [])
        assert len((await span(engine, request(engine, "next")))[0].token_ids) == 5


@pytest.mark.usefixtures("no_end")
async def test_a_row_that_ends_without_memory_is_read_again_and_the_others_go_on(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        first, *others = await writers(engine, 4)
        with monkeypatch.context() as patch:
            patch.setattr(CacheShape, "room", full)
            await first.aclose()
            async with asyncio.timeout(20):
                while "writer 0 knows is not kept" not in caplog.text:
                    await asyncio.sleep(0.01)
        assert [(await anext(stream)).stop for stream in others] == [None] * 3
        assert len((await span(engine, request(engine, "writer 0")))[0].token_ids) == 5
        for stream in others:
            await stream.aclose()


@pytest.mark.usefixtures("no_end")
async def test_a_job_that_finds_no_memory_fails_alone(tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        (stream,) = await writers(engine, 1)
        with monkeypatch.context() as patch:
            patch.setattr(CacheShape, "room", full)
            with pytest.raises(EngineError, match="OutOfMemoryError"):
                await collect(engine, request(engine, "begins like the writer"))
        assert (await anext(stream)).stop is None
        await stream.aclose()


async def test_an_error_keeps_no_tensors_of_the_step_that_failed(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def step(_: object) -> None:
        large = torch.zeros(3)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("out of memory")

    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        monkeypatch.setattr(engine._scheduler._model, "step", step)
        with pytest.raises(EngineError) as caught:
            await collect(engine, request(engine, "t"))
    assert caught.value.__cause__ is not None
    assert held[0]() is None


async def test_who_asks_while_the_engine_breaks_down_is_answered(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        running, asked = threading.Event(), threading.Event()

        def breaks() -> None:
            running.set()
            assert asked.wait(20)
            raise ZeroDivisionError

        monkeypatch.setattr(engine._scheduler, "_advance", breaks)
        first = asyncio.create_task(collect(engine, request(engine, "first")))
        await asyncio.to_thread(running.wait, 20)
        second = asyncio.create_task(collect(engine, request(engine, "second")))
        await asyncio.sleep(0)
        asked.set()
        for task in (first, second):
            with pytest.raises(EngineError, match="broke down: ZeroDivisionError"):
                await asyncio.wait_for(task, 20)


async def test_two_event_loops_start_one_thread(tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Slow(threading.Thread):
        def __init__(self, *args: Any, name: str | None = None, **options: Any) -> None:
            super().__init__(*args, name=name, **options)
            if name == "thyme-engine":
                started.append(name)
                time.sleep(0.1)

    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        monkeypatch.setattr(threading, "Thread", Slow)
        asked = [request(engine, name) for name in "ab"]
        both = threading.Barrier(2)

        def ask(one: Request) -> list[Chunk]:
            both.wait(20)
            return asyncio.run(collect(engine, one))

        assert all(await asyncio.gather(*(asyncio.to_thread(ask, one) for one in asked)))
        assert started == ["thyme-engine"]


@pytest.mark.usefixtures("no_end")
async def test_closing_frees_the_desk(tiny_qwen2_5_vl: Path) -> None:
    async with asyncio.timeout(60), engine_over(tiny_qwen2_5_vl) as engine:
        await writers(engine, 4)
        desk = engine._scheduler._model._desk
        assert desk._keys
        await engine.aclose()
        assert (desk.rows, desk._keys, desk._values) == ([], [], [])
