"""The server of the rule-based teacher and checker: its protocol, that it repeats itself, and what it plants."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from nano_serving import serving
from typer.testing import CliRunner

from thyme.cli import app
from thyme.config.data import SourceSettings
from thyme.data.drafts import Draft
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.prompts import functional_prompt
from thyme.data.stages.prepare import prepared
from thyme.engines.openai_messages import data_url, message, prompt_images
from thyme.errors import StoreError
from thyme.nano.factory.caught import Table, by_source, read_log
from thyme.nano.factory.checker import Slips, code_is_needed, judge, what_is_wrong
from thyme.nano.factory.faults import FAULTS, Rates
from thyme.nano.factory.plans import Asked, NotOurProblemError
from thyme.nano.factory.reader import read_picture
from thyme.nano.factory.server import TEACHER, Classroom, conversation_key
from thyme.nano.factory.source import open_nano
from thyme.rewards.verdicts import quote


def ready(scenario: str = "crop", kind: str = "zoom", row: int = 0) -> Draft:
    problem = open_nano("nano", SourceSettings(world="nano", columns={"kind": kind}), 3).problem(row)
    draft = Draft(
        id=f"nano-{row}-{scenario}", scenario=scenario, seed=1, source="nano", origin=problem, problem=problem
    )
    made = prepared(draft)
    assert isinstance(made, Draft)
    return made


def request_of(draft: Draft, *, said: tuple[str, ...] = ()) -> dict[str, Any]:
    system, user = functional_prompt(draft, SCENARIOS[draft.scenario])
    shown = message("user", prompt_images(user, draft.problem.images), lambda image: data_url(image, image.size))
    turns = [
        turn for text in said for turn in ({"role": "assistant", "content": text}, {"role": "user", "content": "."})
    ]
    messages = [{"role": "system", "content": system}, shown, *turns]
    return {"model": TEACHER, "messages": messages, "stop": ["</code>", "</answer>"]}


def text_of(completion: dict[str, Any]) -> str:
    return str(completion["choices"][0]["message"]["content"])


def test_reads_the_notes_of_a_functional_prompt() -> None:
    for scenario in SCENARIOS:
        kind = {"computation": "arithmetic", "operations": "measure"}.get(scenario, "zoom")
        draft = ready(scenario, kind)
        asked = Asked.of(functional_prompt(draft, SCENARIOS[scenario])[1])
        assert (asked.scenario, asked.question) == (scenario, draft.problem.question)
        hints = draft.hints
        if scenario in {"crop", "enhancement", "correction"}:
            assert [list(box) for box in asked.targets] == hints["boxes"]
        assert asked.back == hints.get("back", 0)
        assert list(asked.wider or []) == hints.get("larger", [])
        assert list(asked.wrong or []) == hints.get("wrong", [])


def test_writes_turn_by_turn_and_stops_where_asked() -> None:
    draft, classroom = ready(), Classroom(rates=Rates(0.0))
    first = text_of(classroom.answer(request_of(draft)))
    assert first.startswith("<think>")
    assert "image.crop(" in first
    assert "</code>" not in first
    last = text_of(classroom.answer(request_of(draft, said=(first,))))
    assert last.endswith(f"<answer>{draft.problem.answer}")


def test_plants_the_same_again_and_writes_it_down_once(tmp_path: Path) -> None:
    draft, log = ready(), tmp_path / "planted.jsonl"
    rates = Rates(0.0, {"wrong_answer": 1.0})
    said = {
        text_of(Classroom(seed=5, rates=rates, log=log).answer(request_of(draft, said=("<think>",)))) for _ in range(2)
    }
    assert len(said) == 1
    assert f"<answer>{draft.problem.answer}" not in said.pop()
    planted, slips = read_log(log)
    images = [image.id for image in draft.problem.images]
    key = conversation_key(functional_prompt(draft, SCENARIOS["crop"])[1], images)
    assert planted == {key: "wrong_answer"}
    assert not slips


def test_classes_come_up_as_often_as_they_are_to() -> None:
    rates = Rates(0.01, {"beside": 0.2})
    drawn = [rates.draw("crop", random.Random(place)) for place in range(4000)]
    assert sum(fault is FAULTS["beside"] for fault in drawn) == pytest.approx(800, abs=100)
    assert sum(fault is None for fault in drawn) == pytest.approx(4000 * (1 - sum(rates.of("crop").values())), abs=120)


def test_turns_some_requests_away_once() -> None:
    classroom = Classroom(busy=0.5)
    bodies = [f"{number}".encode() for number in range(400)]
    assert sum(map(classroom.turns_away, bodies)) == pytest.approx(200, abs=50)
    assert not any(map(classroom.turns_away, bodies))


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"model": "other", "messages": []},
        {"model": TEACHER, "messages": [{"role": "user", "content": "Hello"}]},
        {
            "model": TEACHER,
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x,%"}}]}],
        },
        {"model": "nano-checker", "messages": [{"role": "user", "content": "{}"}]},
    ],
)
def test_refuses_what_it_does_not_know(request_: dict[str, Any]) -> None:
    with pytest.raises(NotOurProblemError):
        Classroom().answer(request_)


def material(draft: Draft, said: str, answer: str) -> str:
    steps = [{"text": said}]
    return quote({"question": f"{draft.problem.question} (image 1)", "steps": steps, "answer": answer})


def test_the_checker_knows_the_truth() -> None:
    draft = ready("no_code", "zoom")
    sight, right = read_picture(draft.problem.images[0].image), draft.problem.answer or ""
    color = draft.problem.meta["colors"][0]
    question = draft.problem.question
    assert what_is_wrong(question, f"I see {color} {right}.", right, sight) is None
    assert "AA" in (what_is_wrong(question, f"I see {color} AA.", right, sight) or "")
    assert "answer" in (what_is_wrong(question, "", "AA", sight) or "")
    assert code_is_needed(question, sight)
    large = ready("no_code", "easy")
    assert not code_is_needed(large.problem.question, read_picture(large.problem.images[0].image))


@pytest.mark.parametrize(("answer", "slips"), [("AA", Slips(1, 0, 0)), ("", Slips(0, 1, 0))])
def test_the_checker_errs_as_often_as_it_is_to(answer: str, slips: Slips) -> None:
    draft = ready("no_code", "easy")
    sight = read_picture(draft.problem.images[0].image)
    text = material(draft, "", answer or draft.problem.answer or "")
    judged = judge(text, sight, slips, random.Random(1), again=False)
    honest = judge(text, sight, Slips(0, 0, 0), random.Random(1), again=False)
    assert json.loads(judged.reply)["fits"] == 1 - json.loads(honest.reply)["fits"]
    assert judged.true is honest.true
    assert judged.slip == ("miss" if answer else "alarm")


def test_a_garbled_reply_comes_once() -> None:
    draft = ready("no_code", "easy")
    sight = read_picture(draft.problem.images[0].image)
    text = material(draft, "", draft.problem.answer or "")
    slips = Slips(0, 0, 1)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(judge(text, sight, slips, random.Random(1), again=False).reply)
    assert json.loads(judge(text, sight, slips, random.Random(1), again=True).reply)["fits"] == 1


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("{")
    with pytest.raises(StoreError, match="log of `thyme nano teacher`"):
        read_log(tmp_path / "log")


def test_what_the_source_plants_is_told_from_the_teachers() -> None:
    assert by_source(ready("crop", "zoom")) == ""
    assert by_source(ready("no_code", "zoom")) == "target_too_small"
    assert by_source(ready("crop", "easy")) == "target_at_sight"
    assert by_source(ready("computation", "arithmetic")) == ""
    assert Table({}).as_json()["unknown"] == 0


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["nano", "teacher", "--error", "wrong_answer"])
    assert told.exit_code == 2
    assert "CLASS=SHARE" in told.output
    told = CliRunner().invoke(app, ["nano", "caught", str(tmp_path), "--log", str(tmp_path / "none")])
    assert told.exit_code != 0


def test_speaks_http() -> None:
    with serving(Classroom(rates=Rates(0.0))) as url:
        models = httpx.get(f"{url}/models").json()
        assert [model["id"] for model in models["data"]] == ["nano-teacher", "nano-checker"]
        refused = httpx.post(f"{url}/chat/completions", json={"model": TEACHER, "messages": []})
        assert refused.status_code == 400
        assert httpx.post(f"{url}/embeddings", json={}).status_code == 404
        answered = httpx.post(f"{url}/chat/completions", json=request_of(ready())).json()
        assert answered["choices"][0]["finish_reason"] == "stop"
        assert answered["usage"]["total_tokens"] > 0
