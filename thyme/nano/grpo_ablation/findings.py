"""What the ablation of GRPO-ATS found, in plain records: all that its tables, plots and sentences are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from thyme.eval.summary import Rate
from thyme.nano.asked import Outcome
from thyme.nano.grpo_ablation.arms import (
    ARMS,
    COMPARISONS,
    NEED_CODE,
    START,
    STARTS,
    Comparison,
    GRPOAblationSettings,
)
from thyme.nano.grpo_ablation.records import Count, GRPOArmResult, Injection, Measured, Omission, StartResult
from thyme.nano.grpo_ablation.stats import ABOUT, MEASURES, TRAINED, Estimate, Verdict, difference, estimate
from thyme.nano.world import KINDS

CURVES = ("tool rate", "executable rate", "reward", "right")
"""Measures of training that are drawn over its steps."""
POINTS = 10
"""Points of a curve, or one a step where there are fewer steps."""
LIFTS = ("accuracy", "greedy tool rate", "greedy tool rate, easy", "greedy executable rate")
"""What of each arm is compared with its start."""
_NO_SHARE = {"reward"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Record):
    """How often something happened, among n cases that are all alike."""

    value: float | None
    n: int
    interval: tuple[float, float] | None
    """Wilson's, 95 %."""

    @classmethod
    def of(cls, hits: float, n: int) -> Share:
        """From counts."""
        rate = Rate(hits, n)
        return cls(value=rate.value, n=n, interval=rate.interval)


class Number(_Record):
    """One seed's number."""

    value: float | None
    """None: no case."""
    n: int
    interval: tuple[float, float] | None = None
    """Wilson's, 95 %, within the seed; None for what is no share of cases."""


class Found(_Record):
    """A mean over seeds; see `thyme.nano.grpo_ablation.stats.Estimate`."""

    mean: float | None
    interval: tuple[float, float] | None
    verdict: Verdict
    exact: float | None
    seeds: dict[int, Number]

    @classmethod
    def of(cls, known: Estimate) -> Found:
        """As plain values."""
        seeds = {s: Number(value=v, n=known.n[s], interval=known.within[s]) for s, v in known.seeds.items()}
        return cls(mean=known.mean, interval=known.interval, verdict=known.verdict, exact=known.exact, seeds=seeds)


class Point(_Record):
    """A stretch of training."""

    first: int
    last: int
    """Steps, both among them."""
    found: Found


class ArmFindings(_Record):
    """One arm from one start."""

    title: str
    measures: dict[str, Found]
    curves: dict[str, tuple[Point, ...]]
    """By `CURVES`; empty for the start itself."""
    kinds: dict[str, dict[str, Share]]
    """Asked greedily, all seeds together: accuracy and tool rate by kind."""
    seconds: dict[str, float]
    """Mean of the seeds: ``train``, ``cpu``, ``ask``."""


class StartMeasured(_Record):
    """A start, asked with text at 1 and code at one temperature."""

    tau: float
    repairs: bool
    tool_rate: Share
    """On kinds that need code."""
    tool_rate_easy: Share
    executable: Share
    repaired: Share
    accuracy: Share


class StartFindings(_Record):
    """One start, and all arms that were trained from it."""

    about: str
    weights: str
    steps: int
    samples: int
    injection: Injection | None
    omission: Omission | None
    measured: tuple[StartMeasured, ...]
    arms: dict[str, ArmFindings]
    lifts: dict[str, dict[str, Found]]
    """By arm and by `LIFTS`: the arm minus the start, asked the same problems."""


class Compared(_Record):
    """A comparison that was named beforehand, from one start."""

    start: str
    group: str
    one: str
    other: str
    measure: str
    expected: int
    claim: str
    found: Found


class Findings(_Record):
    """A whole run; ``ablation_grpo.json`` in its folder."""

    settings: dict[str, Any]
    window: int
    about: dict[str, str]
    """What each measure is."""
    starts: dict[str, StartFindings]
    compared: tuple[Compared, ...]

    @classmethod
    def of(cls, starts: Sequence[StartResult], results: Sequence[GRPOArmResult], how: GRPOAblationSettings) -> Findings:
        """Compute everything that is shown."""
        by_start = {start.start: _by_arm(results, start.start) for start in starts}
        return cls(
            settings=how.model_dump(mode="json"),
            window=how.window,
            about=ABOUT,
            starts={start.start: _start(start, by_start[start.start], how) for start in starts},
            compared=tuple(
                Compared(start=name, found=found, **{k: getattr(c, k) for k in _COMPARED})
                for name, arms in by_start.items()
                for c in COMPARISONS
                if (found := _compare(c, arms, how.window)) is not None
            ),
        )


_COMPARED = ("group", "one", "other", "measure", "expected", "claim")
Seeds = Mapping[int, GRPOArmResult]


def _by_arm(results: Sequence[GRPOArmResult], start: str) -> dict[str, dict[int, GRPOArmResult]]:
    found: dict[str, dict[int, GRPOArmResult]] = {name: {} for name in ARMS}
    for result in results:
        if result.start == start:
            found[result.arm][result.seed] = result
    return {name: dict(sorted(seeds.items())) for name, seeds in found.items() if seeds}


def _compare(comparison: Comparison, arms: Mapping[str, Seeds], window: int) -> Found | None:
    one, other = arms.get(comparison.one), arms.get(comparison.other)
    if one is None or other is None or not set(one) & set(other):
        return None
    return _apart(one, other, comparison.measure, window)


def _apart(one: Seeds, other: Seeds, measure: str, window: int) -> Found:
    finder = MEASURES[measure]
    rates = ({seed: finder(result, window) for seed, result in seeds.items()} for seeds in (one, other))
    return Found.of(difference(*rates))


def _start(start: StartResult, arms: Mapping[str, Seeds], how: GRPOAblationSettings) -> StartFindings:
    untrained = arms.get(START, {})
    trained = [name for name in arms if name != START and set(arms[name]) & set(untrained)]
    return StartFindings(
        about=next(about for name, (about, _) in STARTS.items() if name == start.start),
        weights=start.weights,
        steps=start.steps,
        samples=start.samples,
        injection=start.injection,
        omission=start.omission,
        measured=tuple(map(_measured, start.measured)),
        arms={name: _arm(name, seeds, how) for name, seeds in arms.items()},
        lifts={arm: {m: _apart(arms[arm], untrained, m, how.window) for m in LIFTS} for arm in trained},
    )


def _measured(found: Measured) -> StartMeasured:
    outcomes = found.outcomes
    blocks = sum(o.blocks for o in outcomes)
    return StartMeasured(
        tau=found.tau,
        repairs=found.repairs,
        tool_rate=_tools([o for o in outcomes if o.kind in NEED_CODE]),
        tool_rate_easy=_tools([o for o in outcomes if o.kind == "easy"]),
        executable=Share.of(sum(o.ran for o in outcomes), blocks),
        repaired=Share.of(sum(o.repaired for o in outcomes), blocks),
        accuracy=_right(outcomes),
    )


def _arm(name: str, seeds: Seeds, how: GRPOAblationSettings) -> ArmFindings:
    asked = [outcome for result in seeds.values() for outcome in result.asked]
    found = {
        measure: estimate(
            {seed: finder(result, how.window) for seed, result in seeds.items()}, shares=measure not in _NO_SHARE
        )
        for measure, finder in MEASURES.items()
    }
    return ArmFindings(
        title=ARMS[name].title,
        measures={measure: Found.of(known) for measure, known in found.items()},
        curves={measure: _curve(measure, seeds, how.steps) for measure in CURVES} if ARMS[name].trained else {},
        kinds={
            kind: {"accuracy": _right(there), "tool rate": _tools(there)}
            for kind in KINDS
            if (there := [outcome for outcome in asked if outcome.kind == kind])
        },
        seconds={
            "train": _mean([result.train_seconds for result in seeds.values()]),
            "cpu": _mean([result.cpu_seconds for result in seeds.values()]),
            "ask": _mean([result.ask_seconds for result in seeds.values()]),
        },
    )


def _curve(measure: str, seeds: Seeds, steps: int) -> tuple[Point, ...]:
    width = max(1, round(steps / POINTS))
    return tuple(_point(measure, seeds, begin, min(begin + width - 1, steps)) for begin in range(1, steps + 1, width))


def _point(measure: str, seeds: Seeds, begin: int, end: int) -> Point:
    def there(result: GRPOArmResult) -> list[Count]:
        return [count for count in result.counts if begin <= count.step <= end]

    known = estimate(
        {seed: (TRAINED[measure](there(result)),) for seed, result in seeds.items()}, shares=measure not in _NO_SHARE
    )
    return Point(first=begin, last=end, found=Found.of(known))


def _right(outcomes: Sequence[Outcome]) -> Share:
    return Share.of(sum(outcome.right for outcome in outcomes), len(outcomes))


def _tools(outcomes: Sequence[Outcome]) -> Share:
    return Share.of(sum(outcome.blocks > 0 for outcome in outcomes), len(outcomes))


def _mean(seconds: Sequence[float]) -> float:
    return round(sum(seconds) / len(seconds), 1)
