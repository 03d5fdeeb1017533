"""The figures of a funnel are those counted by hand, add up whatever comes, and do not depend on its order."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import report_build as made
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.config.data import BudgetSettings, DataRecipe
from thyme.data.factory.journal import Outcome
from thyme.data.factory.manifest import Manifest
from thyme.data.report.counts import Counting, Funnel, Seconds
from thyme.data.report.examples import EACH, Picks
from thyme.data.report.meanings import MEANINGS, STAGES
from thyme.data.report.words import cautions, findings, usd
from thyme.data.report.write import read_funnel
from thyme.data.scenarios import reasons as of_scenarios
from thyme.data.spending import FILE, Ledger, Pace
from thyme.data.stages import STAGES as CHAIN
from thyme.data.stages import reasons as of_stages
from thyme.errors import UsageError
from thyme.types import ExecutionError, Observation, Repair


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("build"), made.usual())


@pytest.fixture(scope="module")
def funnel(out: Path) -> Funnel:
    return read_funnel(out)[0]


def test_stages_count_what_came_in_and_what_was_dropped(funnel: Funnel) -> None:
    found = {name: (one.entered, one.rejected, one.passed) for name, one in funnel.stages.items()}
    assert found == {
        "draw": (10, 2, 8),
        "prepare": (8, 0, 8),
        "generate": (8, 1, 7),
        "execute": (7, 0, 7),
        "accept": (7, 3, 4),
        "leaks": (4, 0, 4),
        "check": (4, 0, 4),
    }


def test_seconds_are_those_of_the_records(funnel: Funnel) -> None:
    assert funnel.stages["generate"].seconds == 8 * 2.0
    assert funnel.stages["generate"].median_s == pytest.approx(2.0, rel=0.03)
    assert funnel.stages["draw"].median_s is None


def test_reasons_come_by_stage_with_scenario_teacher_and_source(funnel: Funnel) -> None:
    found = [(one.stage, one.reason, one.count, one.scenarios, one.teachers) for one in funnel.reasons]
    assert found == [
        ("draw", "benchmark", 1, {"crop": 1}, {}),
        ("draw", "duplicate", 1, {"crop": 1}, {}),
        ("generate", "no_answer", 1, {"crop": 1}, {"hand": 1}),
        ("accept", "misses_target", 2, {"crop": 2}, {"hand": 2}),
        ("accept", "not_upright", 1, {"rotation": 1}, {"other": 1}),
    ]


def test_groups_hold_their_records(funnel: Funnel) -> None:
    total = funnel.total
    assert (total.drawn, total.kept, total.rejected) == (10, 4, {"draw": 2, "generate": 1, "accept": 3})
    assert (total.duplicates, total.held_out, total.checked, total.blocks) == (1, 1, 1, {1: 3, 2: 1})
    assert (total.prompt_tokens, total.completion_tokens, total.usd, total.recorded) == (800, 160, 4.0, 8)
    assert total.blocks_each == 1.25
    rotation = funnel.scenarios["rotation"]
    assert (rotation.drawn, rotation.kept, rotation.share) == (2, 1, 0.5)
    other = funnel.teachers["other"]
    assert (other.drawn, other.kept, set(funnel.teachers)) == (2, 1, {"hand", "other"})
    assert funnel.sources["photos"].drawn == 10


def test_repairs_and_corrections_are_counted_in_accepted_records(tmp_path: Path) -> None:
    plain = made.record(0)
    before, seen, after = plain.segments[:2], plain.segments[2], plain.segments[3:]
    assert isinstance(seen, Observation)
    put_right = seen.execution.model_copy(update={"repairs": (Repair(name="boundary", note="put in"),)})
    failed = seen.execution.model_copy(update={"error": ExecutionError(type="NameError", message="x")})
    repaired = seen.model_copy(update={"execution": put_right})
    wrong = seen.model_copy(update={"execution": failed})
    records = [
        plain,
        plain.model_copy(update={"segments": (*before, repaired, *after)}),
        plain.model_copy(update={"segments": (*before, wrong, *before, seen, *after)}),
    ]
    total = read_funnel(made.store(tmp_path, records))[0].total
    assert (total.repaired, total.corrected) == (1, 1)


def test_an_unfinished_build_counts_what_has_an_outcome(tmp_path: Path, funnel: Funnel) -> None:
    open_ = read_funnel(made.store(tmp_path, made.usual(), planned=20, rolled=False, state="begun"))[0]
    assert (open_.total, open_.stages) == (funnel.total, funnel.stages)
    assert open_.missing == 10
    assert "10 of 20 items have no outcome yet" in cautions(open_)[0]
    assert not any("no outcome yet" in sentence for sentence in cautions(funnel))


def test_what_was_spent_comes_from_the_ledger(tmp_path: Path) -> None:
    made.store(tmp_path, made.usual())
    ledger = Ledger(tmp_path / FILE, BudgetSettings())
    for who in ("hand", "check"):
        ledger.admit(who, Pace())
    ledger.close()
    found = read_funnel(tmp_path)[0].spent
    assert {name: one.requests for name, one in found.items()} == {"hand": 1, "check": 1}


def test_a_folder_without_a_build_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no build"):
        read_funnel(tmp_path)
    assert not list(tmp_path.iterdir())


def test_figures_survive_json(funnel: Funnel) -> None:
    assert Funnel.model_validate_json(funnel.model_dump_json()) == funnel


# --- whatever comes ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["crop", "rotation", "text"])
MANIFEST = Manifest(
    recipe=DataRecipe.model_validate(
        {
            "count": 5,
            "sources": {"photos": {"path": "x"}},
            "scenarios": {"crop": 1.0},
            "teachers": {"hand": {"model": "http://localhost:1/v1#hand"}},
        }
    ),
    count=5,
)


@st.composite
def stored(draw: st.DrawFn) -> tuple[bool, dict[str, Any]]:
    """A record as it is stored, in what is counted of it."""
    kept = draw(st.booleans())
    order = ["draw", *CHAIN]
    ended = "check" if kept else draw(st.sampled_from(order))
    passed = order[1 : order.index(ended) + 1]
    draft = {
        "id": str(draw(st.integers(0, 10**6))),
        "scenario": draw(NAMES),
        "source": draw(NAMES),
        "teacher": draw(NAMES) if "generate" in passed else "",
        "segments": [],
        "verdicts": [],
        "costs": {
            "requests": draw(st.integers(0, 5)),
            "recorded": 0,
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "usd": 0.0,
            "seconds": dict.fromkeys(passed, 0.1),
        },
    }
    if kept:
        return True, draft
    reason = draw(st.sampled_from(["duplicate", "broken", "odd"]))
    return False, {**draft, "stage": ended, "reason": reason, "draft": draft}


def counted(records: list[tuple[bool, dict[str, Any]]]) -> Funnel:
    counting = Counting()
    for kept, record in records:
        counting.add(kept, record)
    return counting.funnel(MANIFEST, "x", {})


@settings(max_examples=40)
@given(st.lists(stored(), max_size=12), st.randoms())
def test_everything_adds_up_in_any_order(records: list[tuple[bool, dict[str, Any]]], shuffle: random.Random) -> None:
    funnel = counted(records)
    total = funnel.total
    assert total.drawn == len(records) == total.kept + sum(total.rejected.values())
    assert sum(one.count for one in funnel.reasons) == total.drawn - total.kept
    on = total.drawn
    for stage in funnel.stages.values():
        assert stage.entered == on
        on = stage.passed
    assert on == total.kept
    for groups in (funnel.scenarios, funnel.sources):
        assert sum(one.drawn for one in groups.values()) == total.drawn
        assert sum(one.requests for one in groups.values()) == total.requests
    for one in funnel.reasons:
        assert sum(one.scenarios.values()) == sum(one.sources.values()) == one.count
    assert all(isinstance(sentence, str) for sentence in (*findings(funnel), *cautions(funnel)))
    again = list(records)
    shuffle.shuffle(again)
    assert counted(again).model_dump(exclude={"scenarios"}) == funnel.model_dump(exclude={"scenarios"})


@given(st.lists(st.floats(0.001, 10**5), min_size=1, max_size=50), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_percentiles_of_seconds_are_right_within_three_percent(values: list[float], share: float) -> None:
    seconds = Seconds()
    for value in values:
        seconds.add(value)
    exact = next(v for place, v in enumerate(sorted(values), 1) if place >= share * len(values))
    assert seconds.quantile(share) == pytest.approx(exact, rel=0.03, abs=1e-4)


@settings(max_examples=20)
@given(st.permutations(range(12)))
def test_the_same_records_are_shown_in_whichever_order_they_come(order: list[int]) -> None:
    records = [made_line(index) for index in range(12)]
    picks, again = Picks(), Picks()
    for index in range(12):
        picks.add(*records[index])
    for index in order:
        again.add(*records[index])
    shown = [one.id for one in picks.of(("kept", "crop"))]
    assert shown == [one.id for one in again.of(("kept", "crop"))]
    assert len(shown) == EACH
    assert picks.of(("accept", "odd")) == []


_LINE = made.record(0).model_dump_json()


def made_line(index: int) -> tuple[Outcome, dict[str, Any]]:
    record = {**json.loads(_LINE), "id": f"photos-{index:07d}-crop"}
    return Outcome(index, True, (), json.dumps(record).encode()), record


def test_every_reason_and_stage_has_a_meaning() -> None:
    assert set(of_scenarios.REASONS) | set(of_stages.REASONS) <= set(MEANINGS)
    assert set(STAGES) == {"draw", *CHAIN}
    assert all(MEANINGS.values())


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0.00"), (0.00123, "0.0012"), (0.25, "0.25"), (12.3456, "12.35")]
)
def test_dollars(value: float | None, shown: str) -> None:
    assert usd(value) == shown


def test_a_scenario_that_yields_little_is_warned_of() -> None:
    bad = [made.dropped(made.record(i, "rotation", after="accept"), "accept", "not_upright") for i in range(9)]
    records = [(True, json.loads(made.record(9, "rotation").model_dump_json()))]
    records += [(False, json.loads(one.model_dump_json())) for one in bad]
    told = cautions(counted(records))
    assert any("Only 10.0\N{NO-BREAK SPACE}% of rotation" in sentence for sentence in told)
    assert any("1 accepted records were not looked at by a model" in sentence for sentence in told)
