"""From results to differences with intervals: everything that the claims are judged by and the tables show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thyme.nano.ablation.stats import differences, estimate, student
from thyme.nano.grpo_ablation.arms import NEED_CODE
from thyme.nano.world import KINDS
from thyme.reproduce.graph import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interval = tuple[float, float]
Row = Mapping[str, Sequence[float]]
"""What was counted of the problems of one kind, in the order in which they were asked."""
Scores = list["NDArray[np.float64]"]
"""For each seed its problems' values."""


@dataclass(frozen=True)
class Difference:
    """A mean, or a mean of differences, over seeds, with its 95 % intervals."""

    mean: float
    seeds: tuple[float, ...]
    """Of each seed."""
    intervals: tuple[Interval, ...]
    """All that are known: over problems and seeds (bootstrap), over seeds (Student). None: nothing can be told."""
    unit: str = "points"
    """``points``: shares of 1, shown as percentage points; else what is counted."""
    where: str = ""
    """Which of several places it was measured in; empty where there is but one."""

    @property
    def basis(self) -> str:
        """What the intervals speak about."""
        if not self.intervals:
            return "no interval"
        return f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "problems of one seed"


def of_scores(scores: Sequence[NDArray[np.float64]], unit: str = "points") -> Difference | None:
    """Mean over seeds of values of problems, with the hierarchical bootstrap and Student's t; None without values."""
    told = [group for group in scores if len(group)]
    if not told:
        return None
    found = estimate(told)
    intervals = tuple(interval for interval in (found.bootstrap, found.student) if interval is not None)
    return Difference(found.mean, found.seeds, intervals, unit)


def of_seeds(values: Sequence[float], unit: str) -> Difference | None:
    """Mean of one number a seed, with Student's t; None without numbers."""
    if not values:
        return None
    interval = student(np.array(values))
    return Difference(float(np.mean(values)), tuple(values), () if interval is None else (interval,), unit)


class Asked:
    """What the arms made of the test problems, seed by seed."""

    def __init__(self, results: Mapping[str, Result]) -> None:
        self._arms: dict[str, dict[int, Mapping[str, Row]]] = {}
        for result in results.values():
            if result.kind == "asked":
                arm = self._arms.setdefault(result.settings["arm"], {})
                arm[result.settings["seed"]] = result.figures["kinds"]

    def __contains__(self, arm: str) -> bool:
        """Whether it was asked with any seed."""
        return arm in self._arms

    @property
    def arms(self) -> tuple[str, ...]:
        """All that were asked."""
        return tuple(self._arms)

    def seeds(self, *arms: str) -> list[int]:
        """Those that all of these arms were asked with."""
        return sorted(set.intersection(*(set(self._arms.get(arm, {})) for arm in arms)))

    def rate(self, arm: str, measure: str, kinds: Sequence[str] = KINDS) -> Difference | None:
        """Mean of a measure of an arm."""
        return of_scores(self._scores(arm, measure, kinds, self.seeds(arm)), _unit(measure))

    def gain(self, one: str, other: str, measure: str, kinds: Sequence[str] = KINDS) -> Difference | None:
        """One arm minus another, problem by problem, over the seeds that both have; None where there is no case.

        Where the problems that count differ between arms (not each of them ran code), it is taken seed by seed.
        """
        seeds = self.seeds(one, other)
        first, second = (self._scores(arm, measure, kinds, seeds) for arm in (one, other))
        if measure in _SOME:
            pairs = [(a, b) for a, b in zip(first, second, strict=True) if len(a) and len(b)]
            return of_seeds([float(a.mean() - b.mean()) for a, b in pairs], "points")
        return of_scores(differences(first, second), _unit(measure))

    def _scores(self, arm: str, measure: str, kinds: Sequence[str], seeds: Sequence[int]) -> Scores:
        return [
            np.array([value for kind in kinds for value in _values(self._arms[arm][seed].get(kind), measure)], float)
            for seed in seeds
        ]


_SOME = {"executable", "right with code", "right without"}
"""Measures that not every problem has."""


def _unit(measure: str) -> str:
    return "tokens" if measure == "tokens" else "points"


def _values(row: Row | None, measure: str) -> Iterator[float]:
    """A measure of each problem of a kind that has it; of ``executable`` one value a code block."""
    if row is None:
        return
    if measure == "executable":
        for blocks, ran in zip(row["blocks"], row["ran"], strict=True):
            yield from [1.0] * int(ran) + [0.0] * int(blocks - ran)
    elif measure in {"right with code", "right without"}:
        used = measure == "right with code"
        yield from (float(right) for right, n in zip(row["right"], row["blocks"], strict=True) if (n > 0) == used)
    elif measure == "code":
        yield from (float(blocks > 0) for blocks in row["blocks"])
    elif measure == "repaired":
        yield from (float(repaired > 0) for repaired in row["repaired"])
    else:
        yield from map(float, row[measure])


Measure = Callable[["Found"], Sequence[Difference]]


@dataclass(frozen=True)
class Found:
    """All results of a run, and what is computed from them."""

    results: Mapping[str, Result]

    @property
    def asked(self) -> Asked:
        """The test problems."""
        return Asked(self.results)

    def figures(self, step: str) -> Mapping[str, Any]:
        """Figures of a step; none where it has no result."""
        result = self.results.get(step)
        return {} if result is None else result.figures

    def sft(self, better: str, worse: str, measure: str) -> list[Difference]:
        """A comparison of the ablation of fine-tuning; at most one."""
        return [
            Difference(one["mean"], tuple(one["seeds"]), tuple((low, high) for low, high in _intervals(one)))
            for one in self.figures("sft-ablation").get("asked_beforehand", ())
            if (one["better"], one["worse"], one["measure"]) == (better, worse, measure)
        ][:1]

    def grpo(self, measure: str, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
        """Comparisons of the ablation of GRPO: these pairs of arms, from every start that has both."""
        return [
            Difference(
                one["found"]["mean"],
                tuple(seed["value"] for seed in one["found"]["seeds"].values() if seed["value"] is not None),
                () if one["found"]["interval"] is None else (tuple(one["found"]["interval"]),),
                where=f"{one['start']} start, {one['one']} − {one['other']}",
            )
            for one in self.figures("grpo-ablation").get("compared", ())
            if one["measure"] == measure and (one["one"], one["other"]) in pairs and one["found"]["mean"] is not None
        ]

    def cost(self, one: str, other: str) -> list[Difference]:
        """CPU seconds of one kind of step minus those of another, seed by seed, without resumed steps."""
        spent = {kind: self._cpu(kind) for kind in (one, other)}
        seeds = sorted(set(spent[one]) & set(spent[other]))
        found = of_seeds([spent[one][seed] - spent[other][seed] for seed in seeds], "CPU seconds")
        return [] if found is None else [found]

    def _cpu(self, kind: str) -> dict[int, float]:
        return {
            result.settings["seed"]: result.how.cpu_s
            for result in self.results.values()
            if result.kind == kind and result.how.cpu_s is not None and not result.how.resumed
        }

    def trained_tokens(self) -> list[Difference]:
        """Generated tokens a rollout in training from the looping start: with the stop minus without, seed by seed."""
        means: dict[tuple[int, bool], float] = {}
        for result in self.results.values():
            if result.kind == "rl-looping":
                told = [value for value in result.figures["curves"]["length/generated"] if value is not None]
                means[result.settings["seed"], result.settings["stop"]] = float(np.mean(told))
        seeds = sorted({seed for seed, _ in means if {(seed, True), (seed, False)} <= set(means)})
        found = of_seeds([means[seed, True] - means[seed, False] for seed in seeds], "tokens")
        return [] if found is None else [found]


def _intervals(one: Mapping[str, Any]) -> list[Sequence[float]]:
    return [one[name] for name in ("bootstrap", "student") if one.get(name) is not None]


NEEDED = tuple(kind for kind in KINDS if kind in NEED_CODE)
"""Kinds that cannot be answered without code, or hardly."""
