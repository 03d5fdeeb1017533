"""A trajectory's reward from end to end: rules, mathematics, judges, and what is not scored."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_samples import JudgeServer, Ran, Reply, answered, judging, rollout

from thyme.config.rewards import RewardSettings
from thyme.errors import UsageError
from thyme.markup import TAGS
from thyme.rewards import COUNTERS, PARTS, Scorer, combine, open_scorer, referees
from thyme.rewards.judge import NoVerdictError
from thyme.types import Score, StopReason, Trajectory

COLOURS = ("red", "dark green", "a blue car", "none of these")
VERDICTS = {"consistent": '{"consistent": 1}', "clarity": '{"correctness": 9, "clarity": 7}'}


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with judging() as made:
        made.always = lambda body: Reply(verdict(body))
        yield made


def verdict(body: dict[str, Any]) -> str:
    """What a judge says that finds everything right."""
    prompt = body["messages"][0]["content"]
    return next((reply for name, reply in VERDICTS.items() if f'"{name}"' in prompt), '{"correct": 1}')


async def score(trajectory: Trajectory, settings: RewardSettings | None = None) -> tuple[Score, dict[str, int]]:
    async with open_scorer(settings or RewardSettings()) as scorer:
        made = await scorer.score(trajectory)
        assert set(made.parts) == set(PARTS)
        assert made.value == combine(made.parts, scorer.settings)
        return made, scorer.counters


# --- rules alone ------------------------------------------------------------------------------------------------------


CASES = {
    "right, stated, well-formed": (answered("42"), 2.0, 2.0),
    "right, another stated": (answered("42", "I count 41."), 1.5, 1.5),
    "right, nothing stated": (answered("42", "Hm."), 1.5, 1.5),
    "wrong": (answered("43"), 0.5, -0.5),
    "empty answer": (answered(" "), 0.0, 0.5),
    "no answer": (rollout("<think>I count 42.", stop=StopReason.MAX_TOKENS), 0.0, 0.0),
    "right, stated, ill-formed": (rollout("I count 42.\n<answer>42</answer>"), 1.5, 1.5),
    "wrong, ill-formed": (rollout("<answer>43</answer>"), 0.0, -1.0),
    "multiple choice, letter": (answered("B", "It is dark green.", reference="B", choices=COLOURS), 2.0, 2.0),
    "choice, text": (answered("dark green", "It is B: dark green.", reference="(b)", choices=COLOURS), 2.0, 2.0),
    "another choice": (answered("C", "It is C.", reference="B", choices=COLOURS), 0.5, -0.5),
    "units": (answered("12 cm", "It is 12 cm.", reference="12 cm"), 2.0, 2.0),
    "another unit": (answered("12 mm", "It is 12 mm.", reference="12 cm"), 0.5, -0.5),
    "tolerance": (answered("104", "About 104.", reference="100", tolerance=0.05), 2.0, 2.0),
    "LaTeX": (answered(r"$\frac{2}{4}$", r"So it is $\frac{2}{4}$.", reference=r"\frac{1}{2}"), 2.0, 2.0),
    "LaTeX, rounded": (answered(r"\frac{1}{3}", r"So it is $\frac{1}{3}$.", reference="0.33"), 2.0, 2.0),
    "other LaTeX": (answered(r"$\frac{1}{3}$", "Hm.", reference=r"\frac{1}{2}"), 0.5, -0.5),
    "text": (answered("The stop sign.", "I see a stop sign.", reference="stop sign"), 2.0, 2.0),
    "another text": (answered("stop", "I see stop.", reference="stop sign"), 0.5, -0.5),
}
"""Trajectory, and its reward in the presets ``paper`` and ``released``."""


async def test_rewards_by_rules() -> None:
    told, expected = {}, {}
    async with open_scorer(RewardSettings()) as paper, open_scorer(RewardSettings(preset="released")) as released:
        for name, (trajectory, *values) in CASES.items():
            told[name] = [(await scorer.score(trajectory)).value for scorer in (paper, released)]
            expected[name] = values
    assert told == expected


async def test_a_right_answer_whose_reasoning_states_nothing_is_still_paid_for() -> None:
    """Nothing stated is no outage: the bonus is not paid, the answer is, and it is told and counted."""
    made, counters = await score(answered("42", "Now it is large enough."))
    assert (made.value, made.parts["consistency"]) == (1.5, 0.0)
    assert "nothing stated" in made.note
    assert counters["nothing_stated"] == 1


async def test_consistency_is_not_asked_where_the_answer_is_wrong() -> None:
    made, _ = await score(answered("43", "I count 43."))
    assert made.parts["consistency"] is None
    assert made.value == 0.5


async def test_additive_gating_pays_a_wrong_answer_that_is_stated() -> None:
    made, _ = await score(answered("43", "I count 43."), RewardSettings(gating="additive"))
    assert (made.parts["consistency"], made.value) == (1.0, 1.0)


async def test_code_costs_once_however_often_it_ran() -> None:
    settings = RewardSettings(tool_cost=0.25)
    twice = rollout(
        "<think>I look. <code>",
        Ran("1"),
        "Again. <code>",
        Ran("2", error="no"),
        "I count 42.</think>\n<answer>42</answer>",
    )
    assert (await score(twice, settings))[0].value == 1.75
    assert (await score(answered("42"), settings))[0].value == 2.0


async def test_rules_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert (await score(answered(r"$\frac{2}{4}$", reference=r"\frac{1}{2}")))[0].value == 1.5


async def test_an_expression_that_hangs_is_not_right_and_is_counted() -> None:
    made, counters = await score(answered("9^{9^{9^{9}}}"), RewardSettings(math_timeout_s=0.3))
    assert made.value == 0.5
    assert "math-verify: no result after 0.3 s" in made.note
    assert (counters["math_checks"], counters["math_timeouts"]) == (1, 1)


async def test_without_math_verify_expressions_are_text_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(referees, "installed", lambda: False)
    made, counters = await score(answered(r"\frac{2}{4}", reference=r"\frac{1}{2}"))
    assert made.value == 0.5
    assert counters["math_checks"] == 0
    assert "thyme-vl[train]" in caplog.text


pieces = st.lists(st.sampled_from([*TAGS, "42", "43", "\n", " ", "$", "B", "I count 42. "]) | st.text(max_size=5))


@given(pieces, st.sampled_from(["paper", "released"]), st.sampled_from(["multiplicative", "additive", "none"]))
def test_whatever_a_model_writes_gets_a_reward(written: list[str], preset: str, gating: str) -> None:
    scorer = Scorer(RewardSettings.model_validate({"preset": preset, "gating": gating}))
    value = asyncio.run(scorer.score(rollout("".join(written), choices=COLOURS))).value
    assert value is not None
    assert -1.0 <= value <= 2.0


def test_long_texts_are_scored_in_no_time() -> None:
    """None of the rules has a cost that grows with the square of a text; a machine ten times as slow would pass."""
    for text in (
        "word " * 20_000,
        "(" * 50_000,
        "$" * 50_000,
        "\\(" * 20_000,
        "= " * 30_000,
        "1 " * 30_000,
        " " * 99_999,
    ):
        for made in (answered(text, reference=text), answered("42", text), answered(text, text, reference="x")):
            assert asyncio.run(Scorer(RewardSettings(gating="additive")).score(made)).value is not None


# --- what is not scored -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [StopReason.ERROR, StopReason.CANCELLED])
async def test_a_rollout_that_failed_is_not_scored(stop: StopReason) -> None:
    made, counters = await score(rollout("<think>I count 42.</think>\n<answer>42</answer>", stop=stop))
    assert made.value is None
    assert set(made.parts.values()) == {None}
    assert made.note == ("failed: the sandbox fell over" if stop is StopReason.ERROR else "failed: cancelled")
    assert (counters["scored"], counters["unscored"]) == (0, 1)


async def test_a_problem_without_a_reference_is_not_scored(server: JudgeServer) -> None:
    for settings in (RewardSettings(), server.rewards(result_by="rules_then_judge"), server.rewards(result_by="judge")):
        made, _ = await score(answered("42", reference=None), settings)
        assert (made.value, made.parts["result"], made.note) == (None, None, "no reference answer")
    assert server.requests == []


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"result_by": "judge"}, "result"),
        ({"consistency_by": "judge"}, "consistency"),
        ({"process": 0.1}, "process"),
        ({"code": 0.1}, "code"),
    ],
)
@pytest.mark.parametrize("broken", [Reply(status=500), Reply("Sure!"), Reply(cut=True), Reply(status=401)])
async def test_an_outage_is_never_a_score(
    server: JudgeServer, fields: dict[str, Any], part: str, broken: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    server.always = broken
    made, counters = await score(
        rollout("<think>Look. <code>", Ran("1"), "I count 42.</think>\n<answer>42</answer>"),
        server.rewards({"retries": 1}, **fields),
    )
    assert (made.value, made.parts[part]) == (None, None)
    assert f"no verdict on {part}" in made.note
    assert (counters["outages"], counters["unscored"]) == (1, 1)
    assert f"no verdict on {part}" in caplog.text


async def test_mathematics_that_cannot_be_asked_is_an_outage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('damaged')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made, counters = await score(answered("41+1"))
    assert made.value is None
    assert "no result of math-verify: the process that compares mathematics ended at its start" in made.note
    assert counters["outages"] == 1


async def test_outages_are_logged_once_and_counted_all(server: JudgeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.always = Reply(status=500)
    async with open_scorer(server.rewards({"retries": 0}, result_by="judge")) as scorer:
        await asyncio.gather(*(scorer.score(answered(str(n))) for n in range(5)))
        assert scorer.counters["outages"] == 5
    assert caplog.text.count("no verdict") == 1


# --- judges -----------------------------------------------------------------------------------------------------------


async def test_the_result_judge_is_asked_where_the_rules_find_an_answer_wrong(server: JudgeServer) -> None:
    settings = server.rewards(result_by="rules_then_judge", consistency_by="off")
    right, counters = await score(answered("42"), settings)
    assert (right.value, right.note, counters["requests"]) == (1.5, "number", 0)
    judged, counters = await score(answered("forty-two"), settings)
    assert (judged.value, judged.note, counters["requests"]) == (1.5, "number; result by judge", 1)
    assert server.materials == [{"question": "How many?", "reference": "42", "answer": "forty-two"}]


async def test_a_judge_alone_is_asked_always_but_for_no_answer(server: JudgeServer) -> None:
    server.always = Reply('{"correct": 0}')
    for preset, wrong in (("paper", 0.5), ("released", -0.5)):
        settings = server.rewards(result_by="judge", preset=preset)
        assert (await score(answered("42"), settings))[0].value == wrong
        assert (await score(answered(""), settings))[0].parts["result"] == 0.0
    assert len(server.requests) == 2


async def test_the_consistency_judge_is_asked_for_right_answers_alone(server: JudgeServer) -> None:
    settings = server.rewards(consistency_by="judge")
    assert (await score(answered("43"), settings))[0].value == 0.5
    assert server.requests == []
    made, _ = await score(answered("42", "I count 41."), settings)
    assert (made.value, made.parts["consistency"]) == (2.0, 1.0)  # the judge says so, whatever the rule would
    assert server.materials == [{"reasoning": "I count 41.", "answer": "42"}]
    server.always = Reply('{"consistent": 0}')
    assert (await score(answered("42", "I count 41."), settings))[0].value == 1.5


async def test_additive_gating_asks_the_consistency_of_wrong_answers_but_not_of_none(server: JudgeServer) -> None:
    settings = server.rewards(consistency_by="judge", gating="additive")
    assert (await score(answered("43"), settings))[0].value == 1.0
    assert len(server.requests) == 1
    made, _ = await score(answered(""), settings)
    assert (made.value, made.parts["consistency"]) == (0.0, 0.0)
    assert len(server.requests) == 1


async def test_process_and_code_as_released(server: JudgeServer) -> None:
    settings = server.rewards(process=0.5, code=0.5, consistency_by="off")
    ran = rollout("<think>Look. <code>", Ran("print(42)", "42\n"), "I count 42.</think>\n<answer>42</answer>")
    made, counters = await score(ran, settings)
    assert (made.parts["process"], made.parts["code"]) == (0.8, 1.0)
    assert made.value == pytest.approx(1 + 0.5 * 0.8 + 0.5 + 0.5)
    assert counters["requests"] == 2
    failed = rollout("<think>Look. <code>", Ran("1/0", error="no"), "I count 42.</think>\n<answer>42</answer>")
    made, counters = await score(failed, settings)
    assert (made.parts["code"], counters["requests"]) == (0.0, 1)  # code that failed needs no judge
    assert (await score(answered("42"), settings))[0].parts["code"] == 0.0
    wrong, counters = await score(answered("43"), settings)
    assert (wrong.parts["process"], wrong.parts["code"], counters["requests"]) == (None, None, 0)


async def test_judges_of_one_answer_are_asked_at_once(server: JudgeServer) -> None:
    server.delay_s = 0.5
    ran = rollout("<think>Look. <code>", Ran("print(42)", "42\n"), "I count 42.</think>\n<answer>42</answer>")
    await score(ran, server.rewards(process=0.1, code=0.1, consistency_by="judge"))
    assert server.most == 3


async def test_members_of_a_group_share_verdicts(server: JudgeServer, tmp_path: Path) -> None:
    settings = server.rewards(result_by="rules_then_judge")
    for requests, hits in ((1, 3), (0, 4)):
        async with open_scorer(settings, cache=tmp_path) as scorer:
            made = await asyncio.gather(*(scorer.score(answered("forty-two", f"Try {n}")) for n in range(4)))
            assert {one.parts["result"] for one in made} == {1.0}
            assert (scorer.counters["requests"], scorer.counters["cache_hits"]) == (requests, hits)


async def test_a_judge_is_tried_before_a_run_if_asked_to(server: JudgeServer) -> None:
    server.always = Reply("no")
    async with open_scorer(server.rewards({"retries": 0}, result_by="judge")) as scorer:
        with pytest.raises(NoVerdictError):
            await scorer.check()
    async with open_scorer(RewardSettings()) as scorer:
        await scorer.check()


async def test_a_judge_that_cannot_be_is_told_at_once() -> None:
    settings = RewardSettings.model_validate({"result_by": "judge", "judge": {"model": "gpt"}})
    with pytest.raises(UsageError, match="no URL"):
        async with open_scorer(settings):
            pass


async def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    async with open_scorer(RewardSettings()) as scorer:
        await scorer.score(answered("41+1"))
        assert set(scorer.counters) == set(COUNTERS)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("thyme-math")]
    assert threading.active_count() <= before + 1  # the loop's own pool keeps one


# --- the page ---------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `(.+?)` \| (.+?) \| `(.+?)` \| ([-\d.]+) \| ([-\d.]+) \|$", PAGE, re.MULTILINE)


async def test_the_examples_of_the_page() -> None:
    told, expected = [], []
    async with open_scorer(RewardSettings()) as paper, open_scorer(RewardSettings(preset="released")) as released:
        for reference, thought, answer, *values in EXAMPLES:
            choices = COLOURS if reference in set("ABCD") else ()
            response = answer.replace("…", f"<think>{thought}</think>\n")
            made = rollout(response, reference=reference, choices=choices)
            told.append((thought, answer, *[(await scorer.score(made)).value for scorer in (paper, released)]))
            expected.append((thought, answer, *map(float, values)))
    assert told == expected


def test_the_page_has_examples_and_names_every_setting_and_counter() -> None:
    assert len(EXAMPLES) >= 15
    for name in (*RewardSettings.model_fields, *COUNTERS, *PARTS):
        assert f"`{name}`" in PAGE, name
