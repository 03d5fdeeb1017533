"""What a benchmark is: how a row becomes a problem, how an answer is scored, how scores become published figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thyme.eval.items import ItemResult
from thyme.rewards.verdicts import Kind, Material
from thyme.types import ImageRecord, Problem, Score

WITHOUT_JUDGE = "rules"
"""Part of a score whose value is left to a judge: what it counts where there is none; see `without_judge`."""

Row = Mapping[str, Any]
"""One line of a benchmark's file, by column; its images are decoded apart."""

Figures = Mapping[str, float | None]
"""Published figures by name, shares of 1; None without cases."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. All is a function, so that figures can be made again from stored items."""

    name: str
    """As VLMEvalKit's ``--data`` names it."""
    title: str
    to_problem: Callable[[Row, tuple[ImageRecord, ...]], Problem]
    """Of a row and its images. ``Problem.id`` is unique in the file, ``kind`` the main category, ``meta`` holds what
    scoring and figures need and nothing else."""
    score: Callable[[Problem, str | None], Score]
    """By rules alone; a value of None leaves it to a judge, where there is one, and `parts[WITHOUT_JUDGE]` says what it
    counts where there is none."""
    figures: Callable[[Sequence[ItemResult]], Figures]
    """The published figures, of any part of the items (so that they can be resampled)."""
    headline: str
    """The figure that stands for the benchmark."""
    cluster: Callable[[ItemResult], str] = lambda item: item.problem
    """Items that are not independent (four orders of one question's options) have the same name here."""
    judge: Kind | None = None
    """What a judge is asked (a file of `thyme/prompts/judge`); None: no judge is ever asked. ``extract``: what was
    answered, which `score` then compares; ``result``: whether it is right; ``grade``: how much of it is."""
    asked: Callable[[Problem, str], Mapping[str, Material]] | None = None
    """What a judge is shown of a problem and an answer; None: as `thyme.eval.judging` does it."""
    mathematics: bool = False
    """Whether math-verify compares what rules leave open, before a judge is asked."""
    rows: int | None = None
    """Of the published file, those that are asked; None where unknown."""
    files: tuple[str, ...] = ()
    """Other names that its file is published under, without folder."""
    md5: str | None = None
    """Of the published TSV file, as VLMEvalKit names it; None where unknown."""
    source: str = ""
    """Where the set and its scoring are published."""
    notes: str = ""
    """What one must know to compare, in a sentence or two."""


def left_to_judge(note: str, value: float | None = 0.0) -> Score:
    """A score that the rules cannot give.

    Args:
        note: Why.
        value: What it counts where there is no judge; None: it stays unscored there.
    """
    return Score(value=None, parts={WITHOUT_JUDGE: value}, note=note)


def without_judge(score: Score) -> Score:
    """A score where no judge is at hand: what the rules left to one counts as they say, 0 for the published ones."""
    if score.value is not None or WITHOUT_JUDGE not in score.parts:
        return score
    return score.model_copy(update={"value": score.parts[WITHOUT_JUDGE], "note": f"{score.note}; no judge"})
