"""Figures of a run as its pages show them: headlines, rates with their intervals, durations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thyme.train.run.records import EvaluationPoint
from thyme.view.pages import Card, duration

__all__ = ["Card", "Cell", "cell", "duration", "interval", "row"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A rate in a table."""

    value: str
    interval: str = ""
    verdict: str = ""
    """``better`` or ``worse`` than before training: the two 95 % intervals do not meet."""


def row(points: Sequence[EvaluationPoint], kind: str) -> list[tuple[Cell, Cell]]:
    """Accuracy and use of code of a kind of problem, a pair for each evaluation; compared with the first."""
    values = [point.kinds.get(kind, {}) for point in points]
    return [(cell(value, "accuracy", values[0]), cell(value, "tool_rate", None)) for value in values]


def cell(values: Mapping[str, Any], rate: str, first: Mapping[str, Any] | None) -> Cell:
    """One rate of an evaluation.

    Args:
        values: The kind's figures.
        rate: Which of them.
        first: Those it is compared with; None compares with nothing.
    """
    if values.get(rate) is None:
        return Cell("–")
    return Cell(f"{100 * values[rate]:.1f} %", interval(values, rate), _verdict(values, first, rate))


def _verdict(values: Mapping[str, Any], first: Mapping[str, Any] | None, rate: str) -> str:
    now, then = values.get(f"{rate}_interval"), (first or {}).get(f"{rate}_interval")
    if not now or not then:
        return ""
    return "better" if now[0] > then[1] else "worse" if now[1] < then[0] else ""


def interval(values: Mapping[str, Any], rate: str = "accuracy") -> str:
    """The 95 % interval of a rate in words; empty where there is none."""
    ends = values.get(f"{rate}_interval")
    return f"{100 * ends[0]:.0f} to {100 * ends[1]:.0f} %" if ends else ""
