"""Each alarm speaks up on a run that shows what it is for, once, and ends; none does on a healthy run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import grpo_runs as runs
import pytest

from thyme.config.grpo import AlarmSettings
from thyme.train.grpo.alarms import ALARMS, Watch, spells
from thyme.train.grpo.monitors import METRICS
from thyme.train.grpo.records import StepRecord

SETTINGS = AlarmSettings()


def series(change: Callable[[int], dict[str, float | None]], steps: int = 60) -> list[StepRecord]:
    return [runs.healthy(step, **change(step)) for step in range(1, steps + 1)]


def begun(records: list[StepRecord], settings: AlarmSettings = SETTINGS) -> list[tuple[str, int]]:
    return [(spell.alarm.name, spell.alarm.step) for spell in spells(settings, records)]


BAD: dict[str, tuple[Callable[[int], dict[str, float | None]], int]] = {
    # what goes wrong, and the first step whose window shows it
    "no_code": (lambda step: {"code__tool_rate": 0.5 if step <= 20 else 0.0}, 30),
    "executable": (lambda step: {"code__executable": 0.9 if step <= 20 else 0.3}, 27),
    "sampler_kl": (lambda step: {"gap__kl": 1e-4 if step <= 20 else 0.05}, 22),
    "form_without_task": (
        lambda step: {"reward__format": 0.97, "result__right": 0.6 if step <= 20 else 0.3},
        24,
    ),
    "read_not_seen": (lambda step: {"result__read": 0.0 if step <= 20 else 0.4}, 23),
    "length": (lambda step: {"length__generated": 100.0 * 1.05**step}, 33),
    "truncated": (lambda step: {"stop__truncated": 0.0 if step <= 20 else 0.7}, 25),
    "unscored": (lambda step: {"group__unscored": 0.0 if step <= 20 else 1.0}, 23),
    "zero_variance": (lambda step: {"group__zero_variance": 0.3 if step <= 20 else 1.0}, 28),
    "entropy": (lambda step: {"train__entropy_text": 0.3 if step <= 20 else 0.001}, 30),
}


def test_a_healthy_run_is_quiet() -> None:
    assert begun(series(lambda step: {})) == []


@pytest.mark.parametrize("name", BAD)
def test_each_alarm_on_what_it_is_for_and_no_other(name: str) -> None:
    change, first = BAD[name]
    assert begun(series(change)) == [(name, first)]


def test_every_alarm_was_tried() -> None:
    assert set(BAD) | {"not_finite"} == set(ALARMS)


def test_a_figure_that_is_no_number_is_told_at_once_and_each_time() -> None:
    records = series(lambda step: {})
    for step in (3, 40):
        record = records[step - 1]
        records[step - 1] = record.model_copy(update={"counts": {**record.counts, "not_finite": 2}})
    found = spells(SETTINGS, records)
    assert [(spell.alarm.name, spell.alarm.step, spell.until) for spell in found] == [
        ("not_finite", 3, 4),
        ("not_finite", 40, 41),
    ]


def test_it_begins_once_and_ends_only_by_a_margin() -> None:
    """.30 is the bound: .35 breaks it, .29 does not mend it, .25 does."""
    levels = [0.0] * 10 + [0.35] * 10 + [0.29] * 10 + [0.35] * 10 + [0.25] * 10 + [0.35] * 10
    records = series(lambda step: {"stop__truncated": levels[step - 1]})
    found = [(spell.alarm.step, spell.until) for spell in spells(SETTINGS, records)]
    assert found == [(19, 48), (56, None)]
    quiet = AlarmSettings(hysteresis=0.0)
    assert len(spells(quiet, records)) == 3  # without a margin it would begin again and again


def test_windows_are_whole_before_anything_is_said() -> None:
    bad = series(lambda step: {"code__executable": 0.0}, steps=9)
    assert begun(bad) == []
    assert begun([*bad, runs.healthy(10, code__executable=0.0)]) == [("executable", 10)]


def test_without_cases_nothing_begins_and_nothing_ends() -> None:
    assert begun(series(lambda step: {"code__executable": None, "gap__kl": None, "train__entropy_text": None})) == []
    records = series(lambda step: {"code__executable": 0.1 if step <= 20 else None})
    found = spells(SETTINGS, records)
    assert [(spell.alarm.name, spell.until) for spell in found] == [("executable", None)]


def test_a_model_that_never_used_code_did_not_collapse() -> None:
    assert begun(series(lambda step: {"code__tool_rate": 0.05 if step <= 20 else 0.0})) == []
    early = series(lambda step: {"code__tool_rate": 0.6 if step <= 3 else 0.0})
    assert begun(early) == [("no_code", 13)]  # also where it happened before the first window was whole


def test_falling_answers_without_form_are_no_hacking() -> None:
    records = series(lambda step: {"reward__format": 0.5, "result__right": 0.6 if step <= 20 else 0.2})
    assert begun(records) == []


def test_resuming_is_a_function_of_the_records() -> None:
    records = series(lambda step: BAD["no_code"][0](step) | BAD["truncated"][0](step))
    whole = Watch(SETTINGS)
    told = [whole.look(record) for record in records]
    for cut in (0, 5, 26, 30, 45):
        again = Watch(SETTINGS, records[:cut])
        assert [again.look(record) for record in records[cut:]] == told[cut:]
        assert again.active == whole.active


def test_messages_say_what_was_measured_and_what_to_do() -> None:
    (alarm,) = (spell.alarm for spell in spells(SETTINGS, series(BAD["truncated"][0])))
    assert alarm.message == "rollouts cut at a bound: 35.0 %, at most 30.0 % is fine"
    assert "rollout.max_tokens" in alarm.advice
    assert all(rule.advice and rule.title for rule in ALARMS.values())


def test_the_documentation_names_every_figure_alarm_and_bound() -> None:
    text = (Path(__file__).parents[2] / "docs/monitors.md").read_text(encoding="utf-8")
    rows = {name for line in text.splitlines() if line.startswith("|") for name in re.findall(r"`([\w/.]+)`", line)}
    settings = set(AlarmSettings.model_fields) - {"window", "hysteresis", "stop"}
    assert set(METRICS) | set(ALARMS) | settings <= rows
    bounds = {name: re.search(rf"`{name}` \(([\d.]+)\)", text) for name in settings}
    written = {name: float(found[1]) for name, found in bounds.items() if found is not None}
    assert written == {name: getattr(SETTINGS, name) for name in settings}
