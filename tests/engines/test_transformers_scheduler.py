"""Rows come and go: cancelled, waiting for a sandbox, reading while others write, released, failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from engine_helpers import Reference, Written, collect, engine_over, picture, span

from thyme.engines.base import Chunk, Request
from thyme.engines.transformers import TransformersEngine
from thyme.errors import EngineError
from thyme.types import Execution, Generated, Observation


def request(engine: TransformersEngine, name: str, *, tokens: int = 30, seed: int = 0) -> Request:
    prompt = engine.prompt("Look.", "<image> What is it?", [picture(0)])
    # A blocked end of turn keeps the row writing for as long as the test needs it.
    return Request(name, prompt, temperature=1.0, max_tokens=tokens, seed=seed)


async def endless(engine: TransformersEngine, name: str) -> tuple[AsyncGenerator[Chunk, None], list[Chunk]]:
    """A span that will not end soon, and the chunks it has given so far."""
    for seed in range(1000):
        asked = request(engine, name, tokens=3000, seed=seed)
        stream = cast("AsyncGenerator[Chunk, None]", engine.stream(asked))
        chunks = [await anext(stream) for _ in range(3)]
        if chunks[-1].stop is None:
            return stream, chunks
    raise AssertionError("every span ended at once")


@pytest.mark.usefixtures("no_end")
async def test_cancelled_span_frees_its_place(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint, max_batch=1) as engine:
        stream, _ = await endless(engine, "first")
        waiting = asyncio.create_task(span(engine, request(engine, "second")))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await stream.aclose()
        generated, _ = await asyncio.wait_for(waiting, 20)
        assert len(generated.token_ids) == 30
        steps = engine.counters.steps
        await asyncio.sleep(0.05)
        assert engine.counters.steps == steps


@pytest.mark.usefixtures("no_end")
async def test_chunks_that_are_taken_late_are_still_one_token_each(tiny_qwen2_5_vl: Path) -> None:
    """A loop detector that stops at a chunk stops at the same token however busy the event loop is."""
    async with engine_over(tiny_qwen2_5_vl) as engine:
        stream, _ = await endless(engine, "t")
        steps = engine.counters.steps
        while engine.counters.steps < steps + 4:
            await asyncio.sleep(0.01)
        assert [len((await anext(stream)).token_ids) for _ in range(3)] == [1, 1, 1]
        await stream.aclose()


@pytest.mark.usefixtures("no_end")
async def test_what_was_yielded_before_a_cancellation_stands(tiny_checkpoint: Path) -> None:
    """Going on from there gives what one forward over the whole gives, though the cache ran ahead of what was taken."""
    async with engine_over(tiny_checkpoint) as engine:
        stream, chunks = await endless(engine, "t")
        await asyncio.sleep(0.05)  # the model writes on; nobody takes it
        await stream.aclose()
        half = Generated(
            kind="text",
            text="".join(chunk.text for chunk in chunks),
            token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
            logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
            temperature=1.0,
        )
        observation = engine.observation(Execution(code="", images=(picture(9),)))
        asked = replace(request(engine, "t", seed=7), segments=(half, observation))
        rest, _ = await span(engine, asked)
        written = Written(asked.prompt, [half, observation, rest])
    assert Reference(tiny_checkpoint).gap(written) < 1e-4


@pytest.mark.usefixtures("no_end")
async def test_cancelling_a_waiting_span_leaves_nothing_behind(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl, max_batch=1) as engine:
        stream, _ = await endless(engine, "first")
        waiting = asyncio.create_task(collect(engine, request(engine, "second")))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await stream.aclose()
        fed = engine.counters.fed_tokens
        await asyncio.sleep(0.05)
        assert engine.counters.fed_tokens - fed <= 1


@pytest.mark.usefixtures("no_end")
async def test_a_row_that_writes_does_not_hold_up_one_that_arrives(tiny_checkpoint: Path) -> None:
    """And a trajectory that waits for its sandbox holds up nobody."""
    async with engine_over(tiny_checkpoint) as engine:
        parked, _ = await span(engine, request(engine, "in its sandbox"))
        stream, _ = await endless(engine, "writes on")
        generated, _ = await asyncio.wait_for(span(engine, request(engine, "arrives")), 20)
        assert len(generated.token_ids) == 30
        again = replace(request(engine, "in its sandbox"), segments=(parked,))
        assert len((await asyncio.wait_for(span(engine, again), 20))[0].token_ids) == 30
        assert (await anext(stream)).stop is None
        await stream.aclose()


@pytest.mark.usefixtures("no_end")
async def test_reading_is_done_in_pieces_between_the_tokens_of_others(tiny_qwen2_5_vl: Path) -> None:
    """While one row reads a long prompt, 8 tokens a step, the other gets a token every step."""
    async with engine_over(tiny_qwen2_5_vl, prefill_tokens=8) as engine:
        stream, _ = await endless(engine, "writes")
        long = replace(request(engine, "reads", tokens=1), prompt=engine.prompt("word " * 300, "?", []))
        before = engine.counters.steps
        await span(engine, long)
        steps = engine.counters.steps - before
        assert steps >= len(long.prompt.token_ids) // 8
        taken = 0
        while taken < steps:
            taken += len((await anext(stream)).token_ids)
        await stream.aclose()


async def test_a_changed_past_is_read_again_from_where_it_changed(tiny_checkpoint: Path) -> None:
    """An edited segment, and an image of the same size with other pixels, whose placeholders are the same ids."""
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint) as engine:
        first, _ = await span(engine, request(engine, "t"))
        base = request(engine, "t")
        seen = engine.observation(Execution(code="", stdout="1", images=(picture(1),)))
        other = engine.observation(Execution(code="", stdout="1", images=(picture(2),)))
        assert seen.token_ids == other.token_ids
        edited = Generated(kind="text", text="no", token_ids=tuple(engine.family.encode_text("no")), temperature=0.0)

        async def go_on(*segments: Generated | Observation) -> float:
            rest, _ = await span(engine, replace(base, segments=segments))
            return reference.gap(Written(base.prompt, [*_silent(segments), rest]))

        gaps = [await go_on(first, seen), await go_on(first, other), await go_on(first), await go_on(edited, seen)]
    assert max(gaps) < 1e-4


def _silent(segments: tuple[Generated | Observation, ...]) -> list[Generated | Observation]:
    """The segments with nothing to compare in them."""
    return [s.model_copy(update={"logprobs": ()}) if isinstance(s, Generated) else s for s in segments]


async def test_release_forgets_and_keeping_does_not(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint) as engine:
        first, _ = await span(engine, request(engine, "t"))
        asked = replace(request(engine, "t"), segments=(first,), max_tokens=1)
        before = engine.counters.fed_tokens
        await span(engine, asked)
        assert engine.counters.fed_tokens - before == 1
        await engine.release("t")
        await engine.release("never heard of")
        before = engine.counters.fed_tokens
        await span(engine, asked)
        assert engine.counters.fed_tokens - before == len(asked.prompt.token_ids) + len(first.token_ids)


async def test_caches_beyond_the_limit_are_forgotten_oldest_first(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl, max_cached_tokens=150) as engine:
        length = len(request(engine, "a").prompt.token_ids)
        assert 50 < length < 75
        for name in "abc":
            await span(engine, request(engine, name, tokens=1))
        before = engine.counters.fed_tokens
        await span(engine, request(engine, "c", tokens=1))
        assert engine.counters.fed_tokens - before == 1
        await span(engine, request(engine, "a", tokens=1))
        assert engine.counters.fed_tokens - before == 1 + length


@pytest.mark.usefixtures("no_end")
async def test_one_span_at_a_time_for_a_trajectory(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        stream, _ = await endless(engine, "t")
        with pytest.raises(EngineError, match="one span at a time"):
            await collect(engine, request(engine, "t"))
        assert (await anext(stream)).token_ids
        await stream.aclose()
        assert await collect(engine, request(engine, "t"))


async def test_a_failing_model_ends_its_rows_and_not_the_engine(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        model = engine._scheduler._model
        working = model.step

        def out_of_memory(_: object) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(model, "step", out_of_memory)
        with pytest.raises(EngineError, match="out of memory"):
            await collect(engine, request(engine, "t"))
        monkeypatch.setattr(model, "step", working)
        assert len((await span(engine, request(engine, "t", tokens=5)))[0].token_ids) <= 5


async def test_a_picture_without_pixels_ends_its_own_row_only(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        unloaded = picture(0).model_validate(picture(0).model_dump())
        bad = Request("bad", engine.prompt("", "<image>", [unloaded]))
        good = asyncio.create_task(span(engine, request(engine, "good")))
        with pytest.raises(EngineError, match="not loaded"):
            await collect(engine, bad)
        assert (await good)[0].token_ids


async def test_a_thread_that_breaks_down_leaves_nobody_waiting(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        monkeypatch.setattr(engine._scheduler, "_admit", lambda: 1 / 0)
        with pytest.raises(EngineError, match="broke down: ZeroDivisionError"):
            await collect(engine, request(engine, "t"))
        with pytest.raises(EngineError, match="broke down: ZeroDivisionError"):
            await collect(engine, request(engine, "t"))
    assert "broke down" in caplog.text


@pytest.mark.usefixtures("no_end")
async def test_closing_ends_what_runs_and_refuses_the_rest(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        stream, _ = await endless(engine, "t")
        await engine.aclose()
        with pytest.raises(EngineError, match="closed"):
            [chunk async for chunk in stream]
        with pytest.raises(EngineError, match="closed"):
            await collect(engine, request(engine, "u"))


@pytest.mark.usefixtures("no_end")
async def test_the_event_loop_goes_on_while_the_model_runs(tiny_qwen2_5_vl: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async with engine_over(tiny_qwen2_5_vl) as engine:
        ticker = asyncio.create_task(tick())
        await span(engine, request(engine, "t", tokens=60))
        ticker.cancel()
    assert ticks > 60
