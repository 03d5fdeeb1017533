"""WeMath: a problem of two or three steps and each of its steps alone, scored together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thyme.eval.benchmarks import cells, choice, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row
from thyme.eval.items import ItemResult
from thyme.types import ImageRecord, Problem

STEPS = "steps"
"""Fact: 2 or 3, of the whole problem."""
STEP = "step"
"""Fact: which step this is, ``1`` to ``3``, or ``multi`` for the whole problem."""
GROUP = "group"
"""Fact: the problem that it belongs to."""
MULTI = "multi"
_row = choice.choice_problem(category="key", concept="knowledge concept")


def _to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """A row; its ``key`` is ``2steps_1``, ``2steps_2``, ``2steps_multi``, ``3steps_1``, ..."""
    identity = cells.optional(row, "index") or f"{cells.text(row, 'key')}_{cells.text(row, 'ID', 'id')}"
    problem = _row({**row, "index": identity}, images)
    steps, _, step = cells.text(row, "key").partition("steps_")
    if steps not in {"2", "3"} or step not in {MULTI, *"123"[: int(steps)]}:
        raise cells.RowError(f"the key {problem.kind!r} is none of 2steps_1, ..., 3steps_multi")
    group = f"{steps}_{cells.text(row, 'ID', 'id')}"
    return problem.model_copy(update={"meta": {**problem.meta, STEPS: int(steps), STEP: step, GROUP: group}})


@dataclass(slots=True)
class _Counts:
    """Problems by how they and their steps went."""

    total: int = 0
    insufficient: int = 0
    """Problem wrong, a step wrong."""
    inadequate: int = 0
    """Problem wrong, every step right."""
    mastered: int = 0
    """Problem right, every step right."""
    mastered_loosely: int = 0
    """Problem right, a step right."""
    rote: int = 0
    """Problem right, a step wrong."""
    rote_loosely: int = 0
    """Problem right, every step wrong."""

    def add(self, whole: bool, steps: Sequence[bool], times: int) -> None:
        self.total += times
        if not whole:
            self.insufficient += times * (not all(steps))
            self.inadequate += times * all(steps)
            return
        self.mastered += times * all(steps)
        self.mastered_loosely += times * any(steps)
        self.rote += times * (not all(steps))
        self.rote_loosely += times * (not any(steps))


def _count(items: Sequence[ItemResult]) -> _Counts:
    """Count the problems that are whole: all steps and the problem itself asked and scored."""
    counts = _Counts()
    for times, members in figures.groups(items, figures.fact(GROUP)):
        right = {str(item.meta.get(STEP)): item.score == 1 for item in members.values() if item.score is not None}
        steps = max(int(item.meta.get(STEPS, 0)) for item in members.values())
        names = [str(step) for step in range(1, steps + 1)]
        if MULTI in right and all(name in right for name in names):
            counts.add(right[MULTI], [right[name] for name in names], times)
    return counts


def _figures(items: Sequence[ItemResult]) -> Figures:
    """``strict`` and ``loose`` scores, how often each of the four cases is, and accuracy by number of steps.

    Score = 1 - (insufficient + rote + inadequate / 2) / problems. ``rote`` is a share of the problems that were solved
    with their steps or by rote, as published; the other three are shares of all problems.
    """
    counts = _count(items)

    def share(cases: float, of: int) -> float | None:
        return cases / of if of else None

    lost = counts.insufficient + counts.inadequate / 2
    total = counts.total
    found = {
        "strict": share(total - lost - counts.rote, total),
        "loose": share(total - lost - counts.rote_loosely, total),
        "insufficient_knowledge": share(counts.insufficient, total),
        "inadequate_generalization": share(counts.inadequate, total),
        "complete_mastery_strict": share(counts.mastered, total),
        "complete_mastery_loose": share(counts.mastered_loosely, total),
        "rote_memorization_strict": share(counts.rote, counts.mastered + counts.rote),
        "rote_memorization_loose": share(counts.rote_loosely, counts.mastered_loosely + counts.rote_loosely),
    }
    alone = [item for item in items if item.meta.get(STEP) != MULTI]
    whole = {steps: [i for i in items if i.meta.get(STEP) == MULTI and i.meta.get(STEPS) == steps] for steps in (2, 3)}
    return {
        **found,
        "one_step": figures.accuracy(alone),
        "two_steps": figures.accuracy(whole[2]),
        "three_steps": figures.accuracy(whole[3]),
    }


BENCHMARKS = {
    "WeMath": Benchmark(
        name="WeMath",
        title="WeMath",
        to_problem=_to_problem,
        score=choice.score_choice,
        figures=_figures,
        headline="strict",
        cluster=figures.fact(GROUP),
        judge=choice.JUDGE,
        rows=1740,
        md5="b5e969a075f01290a542411fb7766388",
        source="opencompass.openxlab.space/utils/VLMEval/WeMath.tsv",
        notes="525 problems of two or three steps, each step asked alone too; the headline is the strict score. "
        "Problems of which a step is missing are left out.",
    )
}
