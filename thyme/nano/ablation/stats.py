"""Intervals for differences between arms that were trained from several seeds and asked many problems each.

Two things vary by chance: what a training comes to (its seed, here its order and its demonstrations) and which problems
are drawn. Both intervals below allow for both. All arms of one seed are asked the same problems, so differences are
taken problem by problem; different seeds are asked different problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thyme.nano.asked import Outcome
from thyme.nano.world import KINDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scores = Sequence["NDArray[np.float64]"]
"""For each seed its problems' values, (problems,)."""

IMAGE_KINDS = tuple(kind for kind in KINDS if kind != "arithmetic")
DRAWS = 10_000
T_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)
"""97.5 % quantiles of Student's t with 1, 2, … 9 degrees of freedom."""


MEASURES: dict[str, tuple[tuple[str, ...], Callable[[Outcome], float]]] = {
    **{kind: ((kind,), lambda outcome: outcome.right) for kind in KINDS},
    "perception": (IMAGE_KINDS, lambda outcome: outcome.right),
    "two_round labels": (("two_round",), lambda outcome: outcome.labels),
    "arithmetic code ran": (("arithmetic",), lambda outcome: float(outcome.ran > 0)),
}
"""What is compared: kinds of problems that count, and the value of each. ``perception`` is every kind with a picture,
each with the same number of problems; ``two_round labels`` is the share of plates that were read right."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with two 95 % intervals."""

    mean: float
    """Of the seeds' means."""
    seeds: tuple[float, ...]
    """Mean of each seed."""
    bootstrap: tuple[float, float]
    """Hierarchical bootstrap: seeds drawn with replacement, within each its problems; percentiles."""
    student: tuple[float, float] | None
    """Student's t over the seeds' means; None with one seed. The wider one with few seeds, and the safer one: three
    seeds drawn from three vary too little."""

    @property
    def verdict(self) -> str:
        """In words: told apart only where both intervals leave out 0."""
        sides = [_side(interval) for interval in (self.bootstrap, self.student or (-math.inf, math.inf))]
        if sides[0] and sides[0] == sides[1]:
            return "higher" if sides[0] > 0 else "lower"
        if sides[0]:
            return "leans higher" if sides[0] > 0 else "leans lower"
        return "not told apart"


def _side(interval: tuple[float, float]) -> int:
    return (interval[0] > 0) - (interval[1] < 0)


def values(seeds: Mapping[int, Sequence[Outcome]], measure: str) -> list[NDArray[np.float64]]:
    """A measure's values of an arm, seed by seed, problems in the order in which they were asked."""
    kinds, value = MEASURES[measure]
    return [np.array([value(outcome) for outcome in seeds[seed] if outcome.kind in kinds]) for seed in sorted(seeds)]


def differences(one: Scores, other: Scores) -> list[NDArray[np.float64]]:
    """Differences problem by problem.

    Raises:
        ValueError: The two were not asked the same problems.
    """
    if [len(a) for a in one] != [len(b) for b in other]:
        raise ValueError("the arms were not asked the same problems")
    return [a - b for a, b in zip(one, other, strict=True)]


def estimate(scores: Scores, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Mean and intervals of values that are grouped by seed.

    Args:
        scores: For each seed at least one value.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    means = np.array([group.mean() for group in scores])
    return Estimate(
        mean=float(means.mean()),
        seeds=tuple(float(mean) for mean in means),
        bootstrap=hierarchical(scores, draws=draws, seed=seed),
        student=student(means),
    )


def hierarchical(scores: Scores, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of the groups' means, groups and their members drawn with replacement."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(scores), size=(draws, len(scores)))
    drawn = np.empty((draws, len(scores)))
    for index, group in enumerate(scores):
        at = chosen == index
        drawn[at] = _resampled_means(rng, group, int(at.sum()))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _resampled_means(rng: np.random.Generator, group: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Means of `count` resamples of a group: how often each different value comes up is multinomial."""
    different, often = np.unique(group, return_counts=True)
    return rng.multinomial(len(group), often / len(group), size=count) @ different / len(group)


def student(means: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of the mean of independent means by Student's t; None where there is but one."""
    if len(means) < 2:
        return None
    freedom = min(len(means) - 1, len(T_975))  # beyond the table its last entry, which is a little too wide
    half = T_975[freedom - 1] * float(means.std(ddof=1)) / math.sqrt(len(means))
    return float(means.mean()) - half, float(means.mean()) + half
