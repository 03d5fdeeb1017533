"""Several endpoints over HTTP: who is asked, how fast, how patiently, and what is never asked twice."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from teacher_server import Says, TeacherServer, draft_of, recipe_of, teaching

from thyme.data import answers
from thyme.data.spending import Spent
from thyme.data.stages.base import CHECKER, Reply, UnansweredError
from thyme.data.teachers import TeacherPool
from thyme.engines.openai_errors import BusyError
from thyme.errors import BudgetError, ConfigError, ContextFullError, EngineError, UsageError

HELLO = [{"role": "user", "content": "Hello."}]
KEY = "sk-a-very-secret-key"


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with teaching() as found:
        yield found


def pool(
    server: TeacherServer, folder: Path | None = None, environment: dict[str, str] | None = None, **fields: Any
) -> TeacherPool:
    return TeacherPool(recipe_of(server, **fields), folder, environment=environment or {})


async def ask(server: TeacherServer, folder: Path | None = None, seed: int = 3, **teacher: Any) -> Reply:
    async with pool(server, folder, teachers={"first": server.teacher(**teacher)}) as teachers:
        return await teachers.ask("first", HELLO, seed=seed)


async def test_a_request_says_who_is_asked_and_how(server: TeacherServer) -> None:
    reply = await ask(server, temperature=0.3, max_tokens=99, input_price=1.0, output_price=10.0)
    (request,) = server.requests
    assert request == {
        "model": "toy",
        "messages": HELLO,
        "temperature": 0.3,
        "max_tokens": 99,
        "stop": ["</code>", "</answer>"],
        "seed": 3,
    }
    assert reply == Reply(Says().text, "toy", 100, 10, 0.0002, recorded=False, finish="stop")


async def test_teachers_are_drawn_by_weight_and_the_draw_is_the_drafts_own(server: TeacherServer) -> None:
    teachers = {"first": server.teacher(weight=3.0), "second": server.teacher(weight=1.0)}
    async with pool(server, teachers=teachers) as one, pool(server, teachers=teachers) as other:
        drafts = [draft_of(number=number) for number in range(400)]
        drawn = [one.choose(draft) for draft in drafts]
        assert drawn == [other.choose(draft) for draft in reversed(drafts)][::-1]
    assert 260 < Counter(drawn)["first"] < 340


async def test_every_endpoint_has_its_own_key_and_its_own_bound_on_requests_at_once() -> None:
    with ExitStack() as stack:
        first, second = stack.enter_context(teaching()), stack.enter_context(teaching())
        first.together, second.together = 2, 3
        teachers = {
            "first": first.teacher(concurrency=2),
            "second": second.teacher(concurrency=3, key_environment="SECOND_KEY"),
        }
        environment = {"THYME_API_KEY": KEY, "SECOND_KEY": "sk-another"}
        async with pool(first, environment=environment, teachers=teachers) as asked:
            await asyncio.gather(*(asked.ask(name, HELLO, seed=s) for s in range(9) for name in teachers))
    assert (first.most, second.most) == (2, 3)
    assert (set(first.keys), set(second.keys)) == ({f"Bearer {KEY}"}, {"Bearer sk-another"})
    assert (len(first.requests), len(second.requests)) == (9, 9)


async def test_what_was_answered_is_asked_again_by_nobody(server: TeacherServer, tmp_path: Path) -> None:
    said = await ask(server, tmp_path, input_price=5.0)
    again = await ask(server, tmp_path, input_price=5.0)
    assert len(server.requests) == 1
    assert again == Reply(said.text, said.model, 100, 10, said.usd, recorded=True)
    assert list((tmp_path / answers.FOLDER).glob("??/*.json"))
    async with pool(server, tmp_path) as teachers:
        assert teachers.spent() == {"first": Spent(1, 1, 100, 10, said.usd)}


@pytest.mark.parametrize("changed", [{"seed": 4}, {"temperature": 0.1}, {"max_tokens": 5}, {"model": "{url}#other"}])
async def test_an_answer_to_something_else_is_not_taken(
    server: TeacherServer, tmp_path: Path, changed: dict[str, Any]
) -> None:
    await ask(server, tmp_path)
    if "model" in changed:
        changed = {"model": changed["model"].format(url=server.url)}
    assert not (await ask(server, tmp_path, **changed)).recorded


async def test_the_same_model_at_another_address_answers_the_same(server: TeacherServer, tmp_path: Path) -> None:
    await ask(server, tmp_path)
    with teaching() as elsewhere:
        assert (await ask(elsewhere, tmp_path)).recorded


async def test_a_damaged_record_is_asked_for_again(server: TeacherServer, tmp_path: Path) -> None:
    await ask(server, tmp_path)
    (file,) = (tmp_path / answers.FOLDER).glob("??/*.json")
    file.write_text('{"text": "half')
    assert not (await ask(server, tmp_path)).recorded
    file.write_text('{"words": 1}')
    assert not (await ask(server, tmp_path)).recorded
    assert (await ask(server, tmp_path)).recorded


async def test_answers_in_a_folder_take_no_memory(tmp_path: Path) -> None:
    """A build has millions of them."""
    kept = answers.Answers(tmp_path)
    kept.put("ab" * 16, Reply("a", "toy", 1, 1, 0.0, recorded=False))
    assert kept.get("ab" * 16) == Reply("a", "toy", 1, 1, 0.0, recorded=True)
    (tmp_path / "ab" / f"{'ab' * 16}.json").unlink()
    assert kept.get("ab" * 16) is None


BROKEN = {
    "error of the server": Says(status=500, error="oh"),
    "no room": Says(status=429, error="slow down", headers={"retry-after": "0.01"}),
    "gateway": Says(status=502, body=b"<html>", headers={"content-type": "text/html"}),
    "no JSON": Says(body=b"starting"),
    "another form": Says(body=b'{"choices": []}'),
    "yet another form": Says(body=b'{"choices": [7]}'),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_passes_is_waited_for(server: TeacherServer, name: str) -> None:
    server.replies = [BROKEN[name], BROKEN[name]]
    assert (await ask(server)).text == Says().text
    assert len(server.requests) == 3


@pytest.mark.parametrize("name", BROKEN)
async def test_what_stays_broken_ends_in_an_error_that_names_the_server(server: TeacherServer, name: str) -> None:
    server.always = BROKEN[name]
    with pytest.raises(EngineError, match=r"127\.0\.0\.1"):
        await ask(server)
    assert len(server.requests) == 3


async def test_a_request_that_alone_fails_is_told_from_a_server_that_fails(server: TeacherServer) -> None:
    """A picture that crashes the model must not end a build of a million records."""
    bad = [{"role": "user", "content": "crash"}]
    server.always = lambda body: Says(status=500, error="oh") if body["messages"] == bad else Says()
    async with pool(server) as teachers:
        with pytest.raises(EngineError) as alone:
            await teachers.ask("first", bad, seed=0)
        assert not isinstance(alone.value, UnansweredError)
        failing = asyncio.create_task(teachers.ask("first", bad, seed=0))
        await teachers.ask("first", HELLO, seed=0)
        with pytest.raises(UnansweredError):
            await failing


async def test_a_server_that_does_not_answer_in_time_is_busy(server: TeacherServer) -> None:
    server.delay_s = 0.3
    with pytest.raises(BusyError, match=r"no answer in 0\.05 s; raise timeout_s of 'first'"):
        await ask(server, timeout_s=0.05, retries=0)


async def test_a_key_is_never_shown(server: TeacherServer) -> None:
    server.always = Says(status=401, error=f"bad key {KEY}")
    async with pool(server, environment={"THYME_API_KEY": KEY}) as teachers:
        with pytest.raises(EngineError) as raised:
            await teachers.ask("first", HELLO, seed=0)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("refusal", "field", "instead"),
    [
        ("'max_tokens' is not supported; use 'max_completion_tokens'", "max_tokens", "max_completion_tokens"),
        ("Unsupported parameter: 'stop'", "stop", None),
        ("temperature: only the default is supported", "temperature", None),
        ("extra fields not permitted: seed", "seed", None),
    ],
)
async def test_fields_that_a_server_refuses_are_left_out_from_then_on(
    server: TeacherServer, caplog: pytest.LogCaptureFixture, refusal: str, field: str, instead: str | None
) -> None:
    server.always = lambda body: Says(status=400, error=refusal) if field in body else Says()
    with caplog.at_level(logging.WARNING):
        async with pool(server) as teachers:
            await teachers.ask("first", HELLO, seed=0)
            await teachers.ask("first", HELLO, seed=1)
    assert [field in request for request in server.requests] == [True, False, False]
    assert instead is None or instead in server.requests[1]
    assert len(caplog.records) == (instead is None)


async def test_a_field_that_is_refused_to_many_at_once_costs_none_of_them(server: TeacherServer) -> None:
    server.together = 3  # all are sent with the field before the first refusal is back
    server.always = lambda body: Says(status=400, error="no seed, please") if "seed" in body else Says()
    async with pool(server, teachers={"first": server.teacher(concurrency=3)}) as teachers:
        replies = await asyncio.gather(*(teachers.ask("first", HELLO, seed=seed) for seed in range(3)))
    assert [reply.text for reply in replies] == [Says().text] * 3
    assert ["seed" in request for request in server.requests] == [True] * 3 + [False] * 3


async def test_other_refusals_are_not_asked_again(server: TeacherServer) -> None:
    server.always = Says(status=400, error="prompt is too long")
    with pytest.raises(ContextFullError):
        await ask(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "finish", "whole"),
    [
        ("<think>a<code>x</code> more", "stop", "<think>a<code>x</code>"),
        ("a</think><answer>b</answer>", "stop", "a</think><answer>b</answer>"),
        ("<think>a<code>x", "length", "<think>a<code>x"),
        ("I stop here", "stop", "I stop here"),
    ],
)
async def test_the_tag_at_which_a_server_stopped_is_put_back(
    server: TeacherServer, text: str, finish: str, whole: str
) -> None:
    server.always = Says(text, finish=finish)
    reply = await ask(server)
    assert (reply.text, reply.finish) == (whole, finish)


async def test_a_budget_ends_the_build_and_recorded_answers_stay_free(server: TeacherServer, tmp_path: Path) -> None:
    async with pool(server, tmp_path, budget={"tokens": 220}) as teachers:
        for seed in range(2):
            await teachers.ask("first", HELLO, seed=seed)
        with pytest.raises(BudgetError, match=r"220 tokens were read and written, of 220; raise budget\.tokens"):
            await teachers.ask("first", HELLO, seed=2)
    async with pool(server, tmp_path, budget={"tokens": 220}) as teachers:
        assert (await teachers.ask("first", HELLO, seed=1)).recorded
        with pytest.raises(BudgetError):
            await teachers.ask("first", HELLO, seed=2)
    async with pool(server, tmp_path, budget={"tokens": 230}) as teachers:
        assert not (await teachers.ask("first", HELLO, seed=2)).recorded
    assert len(server.requests) == 3


async def test_many_at_once_do_not_run_over_the_budget(server: TeacherServer) -> None:
    """Answers cost a cent each; without holding back, all twelve would be sent before the first is counted."""
    teachers = {"first": server.teacher(concurrency=12, output_price=1000.0, max_tokens=10)}
    async with pool(server, teachers=teachers, budget={"usd": 0.05}) as asked:
        outcomes = await asyncio.gather(
            *(asked.ask("first", HELLO, seed=seed) for seed in range(12)), return_exceptions=True
        )
        assert asked.spent()["first"].usd == pytest.approx(0.05)
    assert [type(outcome) for outcome in outcomes].count(BudgetError) == 7
    assert len(server.requests) == 5


async def test_who_is_cancelled_holds_nothing_back(server: TeacherServer) -> None:
    server.together = 2  # the first is not answered before there is a second
    teachers = {"first": server.teacher(output_price=1000.0, max_tokens=10)}
    async with pool(server, teachers=teachers, budget={"usd": 0.01}) as asked:
        given_up = asyncio.create_task(asked.ask("first", HELLO, seed=0))
        while not server.requests:
            await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert not (await asked.ask("first", HELLO, seed=1)).recorded
        assert asked.spent()["first"] == Spent(2, 1, 100, 10, pytest.approx(0.01))  # type: ignore[arg-type]  # nearly


async def test_repetitions_count_as_requests(server: TeacherServer) -> None:
    server.always = Says(status=503, error="starting")
    async with pool(server, budget={"requests": 2}) as teachers:
        with pytest.raises(BudgetError):
            await teachers.ask("first", HELLO, seed=0)
    assert len(server.requests) == 2


async def test_a_budget_that_cannot_be_kept_is_refused(server: TeacherServer) -> None:
    server.always = Says(usage=None)
    assert (await ask(server)).prompt_tokens == 0
    async with pool(server, budget={"usd": 1.0}) as teachers:
        with pytest.raises(EngineError, match=r"does not say how many tokens .* bound budget\.requests"):
            await teachers.ask("first", HELLO, seed=0)


async def test_requests_a_minute_hold_whatever_is_asked_at_once(
    server: TeacherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    monkeypatch.setattr("thyme.data.teachers.asyncio.sleep", sleep)
    task = asyncio.create_task(_three(server))
    while len(waited) < 2 or not server.requests:
        await real(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(server.requests) == 1
    assert 50.0 < waited[0] <= 60.0


async def _three(server: TeacherServer) -> None:
    async with pool(server, teachers={"first": server.teacher(requests_per_minute=1)}) as teachers:
        await asyncio.gather(*(teachers.ask("first", HELLO, seed=seed) for seed in range(3)))


async def test_the_judge_of_the_check_is_asked_as_one_of_them(server: TeacherServer) -> None:
    judge = server.judge(max_tokens=64, temperature=0.0)
    check = {"judge": judge, "input_price": 1.0}
    async with pool(server, check=check, budget={"requests": 1}) as teachers:
        reply = await teachers.ask(CHECKER, HELLO, seed=0)
        with pytest.raises(BudgetError):
            await teachers.ask("first", HELLO, seed=0)
        assert teachers.spent()[CHECKER].requests == 1
    assert "stop" not in server.requests[0]
    assert (server.requests[0]["max_tokens"], reply.usd) == (64, 0.0001)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "http://127.0.0.1:1/v1"}, "name the model of 'first'"),
        ({"model": "toy"}, "is no URL"),
        ({"key_environment": "MY_KEY"}, "the key of teacher 'first' is missing; put it into the environment as MY_KEY"),
    ],
)
def test_bad_settings_are_refused_before_anybody_is_asked(
    server: TeacherServer, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        pool(server, teachers={"first": server.teacher(**fields)})


def test_no_teacher_takes_the_name_of_the_check(server: TeacherServer) -> None:
    with pytest.raises(ConfigError, match="rename it"):
        pool(server, teachers={CHECKER: server.teacher()})


def test_a_key_of_a_request_does_not_depend_on_the_order_of_its_fields() -> None:
    message = {"role": "user", "content": "é"}
    turned = dict(reversed(message.items()))
    assert answers.request_key("m", [message], {"a": 1, "b": 2}) == answers.request_key("m", [turned], {"b": 2, "a": 1})
    assert json.dumps(message) != json.dumps(turned)
