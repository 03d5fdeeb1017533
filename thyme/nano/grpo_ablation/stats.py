"""What the ablation of GRPO-ATS measures, and intervals for it.

A seed decides which problems are asked and what is sampled, and all arms of a seed share it: differences between arms
are taken seed by seed. What is then left are a few numbers, one a seed, and the interval of their mean is Student's t:
right where differences are about normal, and wide, as it should be with three of them. The exact test by flipping the
signs of the differences stands beside it; with n seeds it cannot go below 2 / 2**n (a quarter with three), so it can
never tell anything on its own there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from thyme.eval.summary import Rate
from thyme.nano.ablation.stats import student
from thyme.nano.asked import Outcome
from thyme.nano.grpo_ablation.arms import NEED_CODE
from thyme.nano.grpo_ablation.records import Count, GRPOArmResult

Rates = tuple[Rate, ...]
"""One rate; or two, whose difference is meant."""
Verdict = Literal["higher", "lower", "not told apart", "one seed", "no case"]


def tallied(counts: Sequence[Count], hits: str, of: str, kinds: Sequence[str] = ()) -> Rate:
    """A rate over the rollouts that were counted.

    Args:
        counts: Of some steps.
        hits: Field of `Count`.
        of: Field of `Count` that it is a share of.
        kinds: Kinds that count; none: all.
    """
    chosen = [count for count in counts if not kinds or count.kind in kinds]
    return Rate(sum(getattr(c, hits) for c in chosen), sum(getattr(c, of) for c in chosen))


TRAINED: dict[str, Callable[[Sequence[Count]], Rate]] = {
    "tool rate": lambda counts: tallied(counts, "coded", "rollouts", NEED_CODE),
    "tool rate, easy": lambda counts: tallied(counts, "coded", "rollouts", ("easy",)),
    "executable rate": lambda counts: tallied(counts, "ran", "blocks"),
    "working code": lambda counts: tallied(counts, "worked", "rollouts", NEED_CODE),
    "repaired rate": lambda counts: tallied(counts, "repaired", "blocks"),
    "reward": lambda counts: tallied(counts, "reward", "scored"),
    "right": lambda counts: tallied(counts, "right", "scored"),
}
"""Of rollouts while training, sampled as the arm samples."""


def last(result: GRPOArmResult, window: int) -> list[Count]:
    """Counts of the last steps."""
    end = max((count.step for count in result.counts), default=0)
    return [count for count in result.counts if count.step > end - window]


def first(result: GRPOArmResult, window: int) -> list[Count]:
    """Counts of the first steps."""
    return [count for count in result.counts if count.step <= window]


def _accuracy(outcomes: Sequence[Outcome]) -> Rate:
    return Rate(sum(outcome.right for outcome in outcomes), len(outcomes))


def _tools(outcomes: Sequence[Outcome], kinds: Sequence[str]) -> Rate:
    chosen = [outcome for outcome in outcomes if outcome.kind in kinds]
    return Rate(sum(outcome.blocks > 0 for outcome in chosen), len(chosen))


def _ran(outcomes: Sequence[Outcome]) -> Rate:
    return Rate(sum(outcome.ran for outcome in outcomes), sum(outcome.blocks for outcome in outcomes))


def _consistent_and_wrong(outcomes: Sequence[Outcome]) -> Rate:
    return Rate(sum(outcome.consistent == 1 and outcome.right == 0 for outcome in outcomes), len(outcomes))


Finder = Callable[[GRPOArmResult, int], Rates]


def _of_the_end(rate: Callable[[Sequence[Count]], Rate]) -> Finder:
    return lambda result, window: (rate(last(result, window)),)


MEASURES: dict[str, Finder] = {
    **{name: _of_the_end(found) for name, found in TRAINED.items()},
    "tool rate, change": lambda r, w: (TRAINED["tool rate"](last(r, w)), TRAINED["tool rate"](first(r, w))),
    "accuracy": lambda r, _: (_accuracy(r.asked),),
    "accuracy without repairs": lambda r, _: (_accuracy(r.asked_bare),),
    "lost without repairs": lambda r, _: (_accuracy(r.asked), _accuracy(r.asked_bare)),
    "greedy tool rate": lambda r, _: (_tools(r.asked, NEED_CODE),),
    "greedy tool rate, easy": lambda r, _: (_tools(r.asked, ("easy",)),),
    "greedy executable rate": lambda r, _: (_ran(r.asked),),
    "greedy executable rate without repairs": lambda r, _: (_ran(r.asked_bare),),
    "consistent and wrong": lambda r, _: (_consistent_and_wrong(r.asked),),
}
"""By name, from the result of an arm and the window. The rates of training are those of the last window."""

ABOUT: dict[str, str] = {
    "tool rate": "rollouts that ran code, of those on kinds that need it",
    "tool rate, easy": "rollouts that ran code, of those on easy questions",
    "executable rate": "code blocks that ended without an error",
    "working code": "rollouts with a code block that ended without an error, of those on kinds that need code",
    "repaired rate": "code blocks that the sandbox put something right in",
    "reward": "mean reward of the rollouts; arms that are paid otherwise do not compare",
    "right": "rollouts whose answer was right",
    "tool rate, change": "tool rate of the last window minus that of the first",
    "accuracy": "right answers to test problems, asked greedily, every kind with as many",
    "accuracy without repairs": "the same with a sandbox that repairs nothing",
    "lost without repairs": "the first minus the second",
    "greedy tool rate": "test problems of kinds that need code for which code ran",
    "greedy tool rate, easy": "easy test problems for which code ran",
    "greedy executable rate": "code blocks that ended without an error when asked greedily",
    "greedy executable rate without repairs": "the same with a sandbox that repairs nothing",
    "consistent and wrong": "test problems whose wrong answer is what the reasoning states",
}
"""What each measure is. All but the reward are shares, or differences of shares."""


@dataclass(frozen=True)
class Estimate:
    """One number a seed, and what follows for their mean."""

    seeds: dict[int, float | None]
    """None: the seed had no case."""
    n: dict[int, int]
    """Cases of each seed; the fewer ones of a difference."""
    within: dict[int, tuple[float, float] | None]
    """Wilson's 95 % interval within each seed; None for what is no share of cases."""
    mean: float | None
    """Of the seeds that have one."""
    interval: tuple[float, float] | None
    """95 %, Student's t over the seeds; None with fewer than two."""

    @property
    def verdict(self) -> Verdict:
        """Whether the interval leaves out 0, and on which side the mean lies."""
        if self.mean is None:
            return "no case"
        if self.interval is None:
            return "one seed"
        if self.interval[0] > 0 or self.interval[1] < 0:
            return "higher" if self.mean > 0 else "lower"
        return "not told apart"

    @property
    def exact(self) -> float | None:
        """Two-sided p of the exact test that flips the signs of the seeds' numbers; None without any."""
        found = np.array([value for value in self.seeds.values() if value is not None])
        if not len(found):
            return None
        flipped = np.array(list(product((1.0, -1.0), repeat=len(found)))) @ found
        return float((np.abs(flipped) >= abs(found.sum()) - 1e-12).mean())


def value_of(rates: Rates) -> float | None:
    """The rate, or the difference of two; None where one has no case."""
    values = [rate.value for rate in rates]
    if any(value is None for value in values):
        return None
    first_value, *others = (float(value) for value in values if value is not None)
    return first_value - sum(others)


def estimate(found: Mapping[int, Rates], *, shares: bool = True) -> Estimate:
    """Put the seeds together.

    Args:
        found: By seed.
        shares: Whether single rates are shares of cases, so that they have an interval of their own.
    """
    return _put_together(
        {seed: value_of(rates) for seed, rates in found.items()},
        {seed: min(rate.n for rate in rates) for seed, rates in found.items()},
        {seed: rates[0].interval if shares and len(rates) == 1 else None for seed, rates in found.items()},
    )


def difference(one: Mapping[int, Rates], other: Mapping[int, Rates]) -> Estimate:
    """One minus other, seed by seed; seeds that only one of them has are left out.

    Raises:
        ValueError: They share no seed.
    """
    seeds = sorted(set(one) & set(other))
    if not seeds:
        raise ValueError("the two arms share no seed")
    values = {seed: (value_of(one[seed]), value_of(other[seed])) for seed in seeds}
    return _put_together(
        {seed: None if a is None or b is None else a - b for seed, (a, b) in values.items()},
        {seed: min(rate.n for rate in (*one[seed], *other[seed])) for seed in seeds},
        dict.fromkeys(seeds),
    )


def _put_together(
    seeds: dict[int, float | None], n: dict[int, int], within: Mapping[int, tuple[float, float] | None]
) -> Estimate:
    known = np.array([value for value in seeds.values() if value is not None])
    mean = float(known.mean()) if len(known) else None
    return Estimate(seeds=seeds, n=n, within=dict(within), mean=mean, interval=student(known))
