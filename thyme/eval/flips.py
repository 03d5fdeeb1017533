"""Answers that another arm turns: wrong to right and right to wrong, and what changes where evidence is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from thyme.eval.items import ItemResult
from thyme.eval.statistics import Estimate, Paired, compare_pairs, estimate
from thyme.rewards.answer import normalise
from thyme.types import Record

Key = Callable[[ItemResult], str]
Pair = tuple[ItemResult, ItemResult]

RIGHT = 0.5
"""Score from which an answer counts as right."""
MOST_NAMED = 50
"""Problems that are named of those whose answer turned in one direction."""


class Flips(Record):
    """What became of the same problems in two arms, by right and wrong answers."""

    both_right: int
    both_wrong: int
    gained: int
    """Wrong in the second, right in the first."""
    lost: int
    """Right in the second, wrong in the first."""

    @property
    def pairs(self) -> int:
        """Problems scored in both."""
        return self.both_right + self.both_wrong + self.gained + self.lost

    @property
    def needless(self) -> float | None:
        """Of the problems that the first solves, the share that the second solves too; None without any."""
        solved = self.both_right + self.gained
        return self.both_right / solved if solved else None


class Change(Record):
    """How often an answer changes where what came back from code was changed."""

    arm: str
    changed: Estimate
    """Share of the answers that differ from those with what really came back."""
    lost: Estimate
    """Of the answers that were right, the share that became wrong."""
    cases: int
    """Problems whose code gave something back that the arm changed."""


def pair(first: Iterable[ItemResult], second: Iterable[ItemResult]) -> list[Pair]:
    """Items of the same problem of the same benchmark, in the order of `first`; what only one has is left out."""
    others = {(item.benchmark, item.problem): item for item in second}
    found = ((item, others.get((item.benchmark, item.problem))) for item in first)
    return [(item, other) for item, other in found if other is not None]


def scored(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs in which both were scored."""
    return [(one, other) for one, other in pairs if one.score is not None and other.score is not None]


def compare(pairs: Sequence[Pair], cluster: Key, *, seed: int = 0) -> Paired:
    """A paired test of scores, problems of one cluster together.

    Args:
        pairs: Of one benchmark; those with an unscored side are left out.
        cluster: ``Benchmark.cluster``.
        seed: Of resamples and random signs.
    """
    known = scored(pairs)
    first, second = [_score(one) for one, _ in known], [_score(other) for _, other in known]
    return compare_pairs(first, second, [cluster(one) for one, _ in known], seed=seed)


def flips(pairs: Iterable[Pair]) -> Flips:
    """Count how answers turn."""
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for one, other in scored(pairs):
        counts[is_right(one), is_right(other)] += 1
    return Flips(
        both_right=counts[True, True],
        both_wrong=counts[False, False],
        gained=counts[True, False],
        lost=counts[False, True],
    )


def is_right(item: ItemResult) -> bool:
    """Whether the answer counts as right."""
    return item.score is not None and item.score >= RIGHT


def _score(item: ItemResult) -> float:
    return item.score or 0.0


def same_answer(one: ItemResult, other: ItemResult) -> bool:
    """Whether two answers say the same: equal but for case, spaces and marks at the ends; no answer equals none."""
    if one.prediction is None or other.prediction is None:
        return one.prediction is other.prediction
    return normalise(one.prediction) == normalise(other.prediction)


def change(arm: str, pairs: Iterable[Pair], cluster: Key, *, seed: int = 0) -> Change:
    """How often the answer changes with the evidence; of the problems where the arm really changed some.

    Args:
        arm: Its name.
        pairs: The arm with tools first, then the arm.
        cluster: ``Benchmark.cluster``.
        seed: Of the resamples.
    """
    cases = [(one, other) for one, other in pairs if other.changed and not one.failed and not other.failed]
    right = [(one, other) for one, other in scored(cases) if is_right(one)]
    return Change(
        arm=arm,
        changed=estimate(
            [float(not same_answer(one, other)) for one, other in cases], [cluster(one) for one, _ in cases], seed=seed
        ),
        lost=estimate(
            [float(not is_right(other)) for _, other in right], [cluster(one) for one, _ in right], seed=seed
        ),
        cases=len(cases),
    )
