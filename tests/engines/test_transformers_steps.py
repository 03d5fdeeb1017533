"""What each step feeds: rows in different states together, every token once and in order, nobody held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import PLANS, Reference, Written, collect, engine_over, picture, span, write

from thyme.engines import transformers_pictures
from thyme.engines.base import Request
from thyme.engines.transformers import TransformersEngine
from thyme.engines.transformers_model import Feed
from thyme.errors import EngineError
from thyme.types import Execution, Generated

pytestmark = pytest.mark.usefixtures("no_end")
LONG = "word " * 100


@dataclass
class Log:
    """Every step of an engine: the ids that each trajectory fed in it."""

    engine: TransformersEngine
    steps: list[dict[str, list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = self.engine._scheduler._model
        step = model.step

        def logged(feeds: Sequence[Feed]) -> Any:
            names = {id(row.cache): row.job.trajectory_id for row in self.engine._scheduler._rows}
            self.steps.append({names[id(feed.cache)]: list(feed.ids) for feed in feeds})
            return step(feeds)

        model.step = logged  # type: ignore[method-assign]  # it looks on

    def fed(self, name: str, start: int = 0) -> list[int]:
        """All ids that a trajectory fed, in order."""
        return [token for step in self.steps[start:] for token in step.get(name, ())]

    async def until(self, name: str, tokens: int) -> None:
        """Wait until a trajectory has fed so many more tokens."""
        start = len(self.steps)
        while len(self.fed(name, start)) < tokens:
            await asyncio.sleep(0.002)


def asked(engine: TransformersEngine, name: str, tokens: int, *, system: str = "Look.", image: int = 0) -> Request:
    prompt = engine.prompt(system, "<image> What is it?", [picture(image)])
    return Request(name, prompt, max_tokens=tokens, temperature=1.0, seed=image)


def writer(engine: TransformersEngine) -> asyncio.Task[Any]:
    return asyncio.create_task(collect(engine, asked(engine, "writes", 3000)))


async def test_an_observation_is_read_in_the_very_steps_in_which_others_write(tiny_checkpoint: Path) -> None:
    async with engine_over(tiny_checkpoint, prefill_tokens=8) as engine:
        log = Log(engine)
        first, _ = await span(engine, asked(engine, "reads", 5))
        others = writer(engine)
        await log.until("writes", 100)
        start = len(log.steps)
        seen = engine.observation(Execution(code="", stdout="7 " * 20, images=(picture(1),)))
        await span(engine, replace(asked(engine, "reads", 5), segments=(first, seen)))
        steps = log.steps[start:]
        reading = [step for step in steps if len(step.get("reads", ())) > 1]
        assert len(reading) >= len(seen.token_ids) // 8
        assert all(len(step["writes"]) == 1 for step in reading)
        # All that it fed in this round: the last token of the round before, the observation, and what it wrote.
        assert log.fed("reads", start)[: 1 + len(seen.token_ids)] == [first.token_ids[-1], *seen.token_ids]
        assert len(log.fed("reads", start)) == 1 + len(seen.token_ids) + 4
        others.cancel()


async def test_every_row_feeds_each_of_its_tokens_once_and_in_order(tiny_checkpoint: Path) -> None:
    """Rows that come at different times, over all their rounds: no holes, no padding, nothing again."""
    async with engine_over(tiny_checkpoint, prefill_tokens=32) as engine:
        log = Log(engine)

        async def late(index: int) -> Written:
            await asyncio.sleep(0.03 * index)
            return await write(engine, PLANS[index])

        done = await asyncio.gather(*(late(index) for index in range(len(PLANS))))
        assert [log.fed(plan.id) for plan in PLANS] == [written.ids[:-1] for written in done]
        assert engine.counters.fed_tokens == sum(len(ids) for step in log.steps for ids in step.values())
        assert engine.counters.steps == len(log.steps)


async def test_a_cancelled_row_is_in_no_later_step(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        log = Log(engine)
        others = writer(engine)
        stream = engine.stream(asked(engine, "goes", 3000))
        await anext(stream)
        await log.until("goes", 3)
        cancelled = len(log.steps)
        await stream.aclose()
        await log.until("writes", 20)
        # One step may have been under way, and one begun before the thread looked at its orders.
        assert len(log.fed("goes", cancelled)) <= 2
        assert sum("writes" in step for step in log.steps[cancelled:]) >= 20
        others.cancel()


async def test_others_write_while_a_picture_is_made_ready(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding and resizing happen elsewhere; without that the writer would not get a single token here."""
    free, pixels = threading.Event(), transformers_pictures.pixels

    def slow(family: Any, images: Any) -> Any:
        if images[0].id == picture(5).id:
            assert free.wait(60)
        return pixels(family, images)

    monkeypatch.setattr(transformers_pictures, "pixels", slow)
    async with engine_over(tiny_qwen2_5_vl) as engine:
        log = Log(engine)
        others = writer(engine)
        await log.until("writes", 100)
        waiting = asyncio.create_task(span(engine, asked(engine, "looks", 5, image=5)))
        await log.until("writes", 30)
        assert not log.fed("looks")
        free.set()
        assert len((await waiting)[0].token_ids) == 5
        others.cancel()


async def test_writers_wait_for_one_picture_at_a_time(tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        log, looked = Log(engine), []
        see = engine._scheduler._model.see

        def counted(*patches: Any) -> Any:
            looked.append(len(log.steps))
            return see(*patches)

        monkeypatch.setattr(engine._scheduler._model, "see", counted)
        others = writer(engine)
        await log.until("writes", 100)
        await asyncio.gather(*(span(engine, asked(engine, f"{i}", 3, image=i)) for i in range(1, 6)))
        assert len(looked) == 6
        assert len(set(looked)) == 6
        others.cancel()


async def test_prompts_that_begin_alike_are_read_once(tiny_checkpoint: Path) -> None:
    """Four answers to one question, asked for at once, and one about another picture of the same size."""
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint) as engine:
        log = Log(engine)
        names = {"a": 0, "b": 0, "c": 0, "d": 0, "other picture": 1}
        asks = {name: asked(engine, name, 9, system=LONG, image=image) for name, image in names.items()}
        assert asks["a"].prompt.token_ids == asks["other picture"].prompt.token_ids
        spans = await asyncio.gather(*(span(engine, ask) for ask in asks.values()))
        length = len(asks["a"].prompt.token_ids)
        assert len(log.fed("a")) == length + 8
        assert [len(log.fed(name)) for name in "bcd"] == [1 + 8] * 3
        picture_and_rest = length - asks["a"].prompt.token_ids.index(engine.family.image_token_id)
        assert len(log.fed("other picture")) == picture_and_rest + 8
        assert engine.counters.images_seen == 2
    for ask, (generated, _) in zip(asks.values(), spans, strict=True):
        assert reference.gap(Written(ask.prompt, [generated])) < 1e-4


async def test_a_picture_is_seen_once_whoever_is_shown_it(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of a group that crop the same box; one picture too many, and the longest unused is seen again."""
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint) as engine:
        tokens = engine.family.image_tokens(engine.family.grid(*picture(0).size))
        monkeypatch.setattr(transformers_pictures, "KEPT_TOKENS", 2 * tokens)

        async def shown(name: str, image: int) -> Written:
            seen = engine.observation(Execution(code="", images=(picture(image),)))
            ids = tuple(engine.family.encode_text(name))
            first = Generated(kind="text", text=name, token_ids=ids, logprobs=(), temperature=1.0)
            ask = replace(asked(engine, name, 4, system=LONG), segments=(first, seen))
            written = Written(ask.prompt, [first, seen])
            written.segments.append((await span(engine, ask))[0])
            return written

        together = await asyncio.gather(*(shown(name, 1) for name in "abcd"))
        assert engine.counters.images_seen == 2  # the prompt's and the crop
        for image, passes in ((1, 2), (2, 3), (1, 3), (3, 4), (2, 5)):
            together.append(await shown(f"{image} {passes}", image))
            assert engine.counters.images_seen == passes
    assert max(map(reference.gap, together)) < 1e-4


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
async def test_who_waits_for_a_reader_that_goes_reads_itself(
    tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    free, pixels = threading.Event(), transformers_pictures.pixels

    def slow(family: Any, images: Any) -> Any:
        if not free.is_set():
            assert free.wait(60)
            if ending == "failed":
                raise EngineError("no such picture")
        return pixels(family, images)

    monkeypatch.setattr(transformers_pictures, "pixels", slow)
    async with engine_over(tiny_qwen2_5_vl) as engine:
        log = Log(engine)
        first = asyncio.create_task(collect(engine, asked(engine, "first", 5, system=LONG)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(span(engine, asked(engine, "second", 5, system=LONG)))
        await asyncio.sleep(0.05)
        assert not log.steps
        if ending == "cancelled":
            first.cancel()
        free.set()
        with pytest.raises((EngineError, asyncio.CancelledError)):
            await first
        assert len((await asyncio.wait_for(second, 30))[0].token_ids) == 5


async def test_who_waits_goes_on_when_the_reader_ends_with_its_first_token(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        one = asyncio.create_task(span(engine, asked(engine, "one", 1, system=LONG)))
        two = asyncio.create_task(span(engine, asked(engine, "two", 5, system=LONG)))
        await asyncio.wait_for(asyncio.gather(one, two), 30)
        assert engine.counters.fed_tokens == len(asked(engine, "one", 1, system=LONG).prompt.token_ids) + 1 + 4
