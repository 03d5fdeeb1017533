"""A request that its server refuses costs one record; a server that refuses them all ends the build."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from teacher_server import Says, TeacherServer, draft_of, made, recipe_of, teaching, workplace

from thyme.data import refusals
from thyme.data.drafts import Draft, Rejection
from thyme.data.stages import reasons
from thyme.data.stages.base import CHECKER
from thyme.data.teachers import TeacherPool
from thyme.engines.openai_errors import ImageRefusedError, NoVisionError, RefusedFieldError
from thyme.errors import EngineError

UNCLEAR = Says(status=400, error="value_error in messages[1]")


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with teaching() as found:
        yield found


def asked(word: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": word}]


def unless(word: str, says: Says = UNCLEAR) -> Any:
    """Refuses what holds a word."""
    return lambda body: says if word in str(body["messages"]) else Says()


REFUSED = {
    "unclear": (UNCLEAR, reasons.REQUEST_REFUSED),
    "too large": (Says(status=413, error="Request Entity Too Large"), reasons.REQUEST_REFUSED),
    "blind, it says": (Says(status=400, error="this image type is not supported"), reasons.IMAGE_REFUSED),
    "filtered": (Says(status=403, error="your input was flagged by moderation"), reasons.REFUSED),
    "handed on by a proxy": (
        Says(body=b'{"error": {"code": 400, "message": "no such role"}}'),
        reasons.REQUEST_REFUSED,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request_drops_its_record_and_no_other(server: TeacherServer, name: str) -> None:
    """Refusals come at once, and answers later: nobody was answered yet when the first record is refused."""
    says, reason = REFUSED[name]
    bad = draft_of(number=3)
    bad = bad.model_copy(update={"problem": bad.problem.model_copy(update={"question": "Which one is poison?"})})
    server.always = unless("poison", says)
    server.delay_s = 0.02
    async with workplace(recipe_of(server), None) as context:
        outcomes = await asyncio.gather(made(bad, context), *(made(draft_of(number=n), context) for n in range(3)))
    first, *others = outcomes
    assert isinstance(first, Rejection)
    assert (first.stage, first.reason) == ("generate", reason)
    assert first.note
    assert all(isinstance(other, Draft) for other in others)


async def test_one_that_is_left_over_is_dropped_where_the_endpoint_has_answered_before(
    server: TeacherServer, tmp_path: Path
) -> None:
    """In a later run nobody else may be asked any more."""
    server.always = unless("bad")
    async with TeacherPool(recipe_of(server), tmp_path, environment={}) as teachers:
        with pytest.raises(EngineError) as raised:
            await teachers.ask("first", asked("bad"), seed=0)
        assert not isinstance(raised.value, RefusedFieldError), "it has answered nobody yet"
        await teachers.ask("first", asked("good"), seed=0)
    async with TeacherPool(recipe_of(server), tmp_path, environment={}) as teachers:
        with pytest.raises(RefusedFieldError):
            await teachers.ask("first", asked("bad"), seed=0)


@pytest.mark.parametrize("who", ["first", CHECKER])
@pytest.mark.parametrize("at_once", [1, 7, 30])
async def test_a_server_that_refuses_from_some_time_on_ends_the_build(
    server: TeacherServer, who: str, at_once: int
) -> None:
    recipe = recipe_of(server, check={"judge": server.judge()}, teachers={"first": server.teacher(concurrency=4)})
    async with TeacherPool(recipe, None, environment={}) as teachers:
        await teachers.ask(who, asked("good"), seed=0)
        server.always = Says(status=400, error="maximum context length is 1 token")
        outcomes: list[Any] = []
        while not any(type(one) is EngineError for one in outcomes):
            wave = (teachers.ask(who, asked("bad"), seed=len(outcomes) + n) for n in range(at_once))
            outcomes += await asyncio.gather(*wave, return_exceptions=True)
    dropped = [one for one in outcomes if type(one) is not EngineError]
    assert len(dropped) == (refusals.MOST - 1) // at_once * at_once, "those that were waiting are kept"
    assert f"'{who}'" in str(outcomes[-1])
    assert "maximum context length" in str(outcomes[-1])


async def test_many_refusals_among_answers_end_nothing(server: TeacherServer) -> None:
    """Six of ten requests, for instance because pictures are too large, drop six of ten records."""
    server.always = unless("bad", Says(status=400, error="image too large"))
    drawn = random.Random(0)
    words = ["good" if drawn.random() < 0.4 else "bad" for _ in range(150)]
    recipe = recipe_of(server, teachers={"first": server.teacher(concurrency=8)})
    async with TeacherPool(recipe, None, environment={}) as teachers:
        outcomes = await asyncio.gather(
            *(teachers.ask("first", asked(word), seed=seed) for seed, word in enumerate(words)), return_exceptions=True
        )
    assert [isinstance(one, ImageRefusedError) for one in outcomes] == [word == "bad" for word in words]


async def test_answers_without_pictures_do_not_hide_a_model_that_sees_nothing(server: TeacherServer) -> None:
    server.always = unless("image_url", Says(status=400, error="this is not a multimodal model"))
    shown = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    outcomes: list[Any] = []
    async with TeacherPool(recipe_of(server), None, environment={}) as teachers:
        for seed in range(refusals.MOST):
            await teachers.ask("first", asked("good"), seed=seed)
            outcomes += await asyncio.gather(teachers.ask("first", shown, seed=seed), return_exceptions=True)
    assert [type(one) for one in outcomes] == [NoVisionError] * (refusals.MOST - 1) + [EngineError]
    assert "refused 20 requests one after the other" in str(outcomes[-1])


async def test_who_is_cancelled_while_it_waits_keeps_nobody_waiting(server: TeacherServer) -> None:
    server.together, server.always = 2, unless("bad")
    async with TeacherPool(recipe_of(server), None, environment={}) as teachers:
        good = asyncio.create_task(teachers.ask("first", asked("good"), seed=0))
        one, other = (asyncio.create_task(teachers.ask("first", asked("bad"), seed=seed)) for seed in range(2))
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        one.cancel()
        await good
        with pytest.raises(RefusedFieldError):
            await other
