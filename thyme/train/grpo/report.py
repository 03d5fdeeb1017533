"""The report of a run of GRPO: one HTML page that needs nothing beside it, for whoever watches or asks afterwards.

It may be written again and again while the run goes on; a page is put in place whole or not at all.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev

from thyme.config.grpo import CodePolicy
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.rewards import RewardSettings
from thyme.config.rollout import RolloutConfig
from thyme.eval.summary import ALL
from thyme.rewards import PARTS
from thyme.train.grpo.alarms import ALARMS, Spell, spells
from thyme.train.grpo.curves import sections
from thyme.train.grpo.kept import Kept
from thyme.train.grpo.records import GRPORunReport, StepRecord
from thyme.train.report.cells import Card, Cell, duration, interval, row
from thyme.train.report.pages import count, template
from thyme.train.report.plots import kinds
from thyme.train.run.disk import write_atomically
from thyme.view.parts import Attempt, make_attempt, make_scene, seen_sizes
from thyme.view.pictures import Inlined, Picture

logger = logging.getLogger(__name__)

REPORT_PAGE = "report.html"
"""In the folder of a run."""
_SIDE = 512
"""Longest side of a picture on the page, pixels: there may be dozens."""
_EARLIER = 3
"""Earlier spells of an alarm that are named."""
POLICIES: dict[CodePolicy, str] = {
    "keep": "code tokens are in the loss, and count in the normaliser",
    "mask": "code tokens have no gradient, and do not count in the normaliser",
    "tempered": "code tokens are in the loss by the log-probabilities they were drawn with",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """An alarm on the page."""

    title: str
    when: str
    lasts: bool
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A rollout on the page."""

    kept: Kept
    scene: Sequence[Picture]
    attempt: Attempt
    facts: Sequence[str]
    """Reward, its parts, advantage."""
    group: Sequence[tuple[str, bool]]
    """Rewards of the group, and whether each is its own."""


def write_grpo_report(report: GRPORunReport, out: Path, trajectories: Sequence[Kept] = ()) -> Path:
    """Write the page.

    Args:
        report: What the run did, or did so far.
        out: Folder of the run; made if missing.
        trajectories: Rollouts to show, by kind and then by step; see `thyme.train.grpo.kept.over_time`.

    Returns:
        Where the page is.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    path = out / REPORT_PAGE
    write_atomically(path, render_grpo_report(report, trajectories))
    return path


def render_grpo_report(report: GRPORunReport, trajectories: Sequence[Kept] = ()) -> str:
    """The page as text; see `write_grpo_report`."""
    found = spells(report.settings.alarms, report.steps)
    ends = [report.evaluations[0], report.evaluations[-1]] if report.evaluations else []
    return template("grpo.html.j2").render(
        title=f"GRPO: {report.name}",
        report=report,
        state=_state(report),
        cards=list(_cards(report)),
        policy=POLICIES[report.settings.code_policy],
        text_temperature=_text_temperature(report),
        alarms=_notices(found),
        columns=[_when(point.step) for point in ends],
        evaluation={kind: row(ends, kind) for kind in kinds(ends)},
        window=_window(report),
        rollouts=_rollout_rows(report),
        sections=sections(report, found),
        samples=_samples(trajectories, _paid(report)),
        counts=_counts(report.steps),
        recipe=json.dumps(report.recipe, indent=2, ensure_ascii=False),
        duration=duration,
    )


class LivePage:
    """Writes a page again and again while a run goes on, and spends little of the run's time on it."""

    def __init__(self, write: Callable[[], object], *, share: float = 0.03) -> None:
        """Nothing is written yet.

        Args:
            write: Writes the page.
            share: Most of the run's time that is spent on it.
        """
        self._write, self._share = write, share
        self._ended, self._cost = time.perf_counter(), 1.0  # until it is known: about what a small page takes

    def step(self) -> None:
        """A step was done: write the page if it is time to."""
        now = time.perf_counter()
        if now - self._ended < self._cost / self._share:
            return
        go_on_without(self._write)
        self._ended = time.perf_counter()
        self._cost = self._ended - now


def go_on_without(write: Callable[[], object]) -> None:
    """Write a page that a run can do without: what fails is said, and ends nothing."""
    try:
        write()
    except Exception:  # of whatever it shows: a picture that is gone, say
        logger.warning("a page could not be written; the run goes on", exc_info=True)


# --- headlines --------------------------------------------------------------------------------------------------------


def _state(report: GRPORunReport) -> str:
    done = report.steps[-1].step if report.steps else 0
    steps = f"{count(done)} of {count(report.planned)} steps" if report.planned else f"{count(done)} steps"
    return steps if report.finished else f"{steps} so far; reload the page for newer ones"


def _when(step: int) -> str:
    return "before training" if step == 0 else f"after step {step}"


def _cards(report: GRPORunReport) -> Iterator[Card]:
    values = [point.kinds.get(ALL, {}) for point in report.evaluations]
    known = [value for value in values if value.get("accuracy") is not None]
    if known:
        note = f"evaluation: {interval(known[-1])}, {known[-1].get('scored', 0)} problems"
        yield Card("answers right", _change(_rate(known[0]["accuracy"]), _rate(known[-1]["accuracy"])), note)
    for label, metric, show in (
        ("reward", "reward/mean", _plain),
        ("right, of rollouts", "result/right", _rate),
        ("ran code", "code/tool_rate", _rate),
        ("code that runs", "code/executable", _rate),
    ):
        first, last = _ends(report, metric)
        if first is not None and last is not None:
            yield Card(label, _change(show(first), show(last)), f"rollouts, {_window(report)}")
    if report.steps:
        rollouts = sum(record.counts.get("members", 0) for record in report.steps)
        yield Card("rollouts", count(rollouts), f"{count(len(report.steps))} steps")
    noun = "process" if report.processes == 1 else "processes"
    yield Card("time", duration(report.seconds), f"{report.device}, {report.processes} {noun}")


def _change(first: str, last: str) -> str:
    return last if first == last else f"{first} → {last}"


def _rate(value: float) -> str:
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def _plain(value: float) -> str:
    return f"{value:.2f}"


def _width(report: GRPORunReport) -> int:
    """Steps of the first and of the last stretch that are compared; they do not overlap."""
    return max(1, min(report.settings.alarms.window, len(report.steps) // 2))


def _window(report: GRPORunReport) -> str:
    width = _width(report)
    return "first step and last" if width == 1 else f"first {width} steps and last {width}"


def _ends(report: GRPORunReport, metric: str) -> tuple[float | None, float | None]:
    first, last = (
        [value for record in part if (value := record.metrics.get(metric)) is not None]
        for part in (report.steps[: _width(report)], report.steps[-_width(report) :])
    )
    return fmean(first) if first else None, fmean(last) if last else None


def _text_temperature(report: GRPORunReport) -> str:
    """The recipe's, or that of every recipe that says nothing of rollouts."""
    usual: RolloutConfig = GRPORecipe.model_fields["rollout"].default
    return f"{report.recipe.get('rollout', {}).get('text_temperature', usual.text_temperature):g}"


def _notices(found: Sequence[Spell]) -> list[Notice]:
    """One for each alarm, with what was measured last; those that last come first, and then the latest."""
    names: dict[str, list[Spell]] = {}
    for spell in found:
        names.setdefault(spell.alarm.name, []).append(spell)
    ordered = sorted(names.values(), key=lambda spells: (spells[-1].until is not None, -spells[-1].alarm.step))
    return [_notice(spells) for spells in ordered]


def _notice(spells: Sequence[Spell]) -> Notice:
    """All spells of one alarm, in order."""
    *before, last = spells
    alarm, lasts = last.alarm, last.until is None
    when = f"since step {alarm.step}" if lasts else f"step {alarm.step} to {last.until}, over"
    if before:
        earlier = [f"{spell.alarm.step} to {spell.until}" for spell in before[-_EARLIER:]]
        more = f" and {len(before) - _EARLIER} times earlier" if len(before) > _EARLIER else ""
        when += f"; before that {', '.join(reversed(earlier))}{more}"
    return Notice(ALARMS[alarm.name].title, when, lasts, alarm.message, alarm.advice)


# --- tables -----------------------------------------------------------------------------------------------------------


def _rollout_rows(report: GRPORunReport) -> dict[str, list[Cell]]:
    """By kind: reward, right, use of code and executable code in the first steps and in the last."""
    width = _width(report)
    parts = (report.steps[:width], report.steps[-width:]) if report.steps else ()
    names = sorted({kind for part in parts for record in part for kind in record.kinds})
    rates = ("reward", "right", "tool_rate", "executable")
    return {kind: [_pooled(part, kind, rate) for rate in rates for part in parts] for kind in names}


def _pooled(records: Sequence[StepRecord], kind: str, rate: str) -> Cell:
    """Mean over steps with twice its standard error; problems are drawn anew at every step."""
    values = [value for one in records if (value := one.kinds.get(kind, {}).get(rate)) is not None]
    if not values:
        return Cell("–")
    scale, unit, digits = (1, "", 2) if rate == "reward" else (100, " %", 0)
    error = f"± {2 * scale * stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > 2 else ""
    return Cell(f"{scale * fmean(values):.{digits}f}{unit}", error)


def _counts(records: Sequence[StepRecord]) -> Mapping[str, int]:
    """Added up over the run, without what never happened."""
    found: dict[str, int] = {}
    for record in records:
        for name, value in record.counts.items():
            found[name] = found.get(name, 0) + value
    return {name.replace("_", " "): value for name, value in found.items() if value}


# --- rollouts ---------------------------------------------------------------------------------------------------------


def _paid(report: GRPORunReport) -> set[str]:
    """Parts of the reward that have a weight."""
    weights = report.recipe.get("rewards", {})
    usual = {part for part in PARTS if weights.get(part, RewardSettings.model_fields[part].default) > 0}
    return usual | {part for part, own in weights.get("own", {}).items() if own["weight"]}


def _samples(trajectories: Sequence[Kept], paid: set[str]) -> dict[str, list[Shown]]:
    """Rollouts by kind of problem, in the order of their steps."""
    pictures = Inlined(max_side=_SIDE)
    ordered = sorted(trajectories, key=lambda kept: (kept.trajectory.problem.kind, kept.step))
    groups = groupby(enumerate(ordered), key=lambda pair: pair[1].trajectory.problem.kind)
    return {kind: [_shown(f"r{index + 1}", kept, pictures, paid) for index, kept in group] for kind, group in groups}


def _shown(anchor: str, kept: Kept, pictures: Inlined, paid: set[str]) -> Shown:
    trajectory, score = kept.trajectory, kept.score
    facts = ["not scored" if score.value is None else f"reward {score.value:g}"]
    parts = {part: value for part, value in score.parts.items() if part in paid and value is not None}
    facts += [f"{part.replace('_', ' ')} {value:g}" for part, value in parts.items()]
    facts.append("not in the loss" if kept.advantage is None else f"advantage {kept.advantage:+.2f}")
    result = score.parts.get("result")
    verdict = score if result is None else score.model_copy(update={"value": result})  # right or wrong, not the sum
    return Shown(
        kept=kept,
        scene=make_scene(trajectory.problem, seen_sizes(trajectory), pictures),
        attempt=make_attempt(anchor, trajectory, verdict, pictures),
        facts=facts,
        group=[
            ("–" if reward is None else f"{reward:g}", place == kept.place) for place, reward in enumerate(kept.rewards)
        ],
    )
