"""What a filter found, in figures: the funnel by step and reason, and how rows are distributed before and after."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from thyme.data.factory.shuffle import number
from thyme.data.filter import balance, difficulty, duplicates
from thyme.data.filter.records import READ, Seen
from thyme.data.filter.steps import STEPS
from thyme.types import Record

ORDER: Final = (READ, *STEPS, duplicates.STEP, difficulty.STEP, balance.STEP)
"""Steps in which rows are dropped, in order."""
EACH: Final = 2
"""Rows that are shown of a reason, or of a category that was kept."""
MOST: Final = 40
"""Kinds of rows that are shown."""

_SIDES: Final = (512, 1024, 1536, 2048, 4096, 8192)
_SHARES: Final = (0.001, 0.005, 0.01, 0.05, 0.2)
_WORDS: Final = (5, 10, 20, 40, 80)


def _binned(value: float | None, edges: Sequence[float], form: Callable[[float], str]) -> str:
    if value is None:
        return ""
    place = bisect_right(edges, value)
    if place == 0:
        return f"below {form(edges[0])}"
    return f"{form(edges[-1])} and more" if place == len(edges) else f"{form(edges[place - 1])} to {form(edges[place])}"


def _bins(edges: Sequence[float], form: Callable[[float], str]) -> list[str]:
    middles = [edges[0] - 1e-9, *edges]
    return [_binned(edge, edges, form) for edge in middles]


def _pixels(value: float) -> str:
    return f"{value:g}"


def _percent(value: float) -> str:
    return f"{100 * value:g} %"


@dataclass(frozen=True, slots=True)
class Distribution:
    """How rows are spread over some names: sources, languages, classes of size."""

    title: str
    of: Callable[[Seen], str]
    """Name that a row counts under; empty: under none."""
    order: Sequence[str] = ()
    """Of the names; the others come behind, the most frequent first."""
    figures: bool = False
    """Whether names begin with a figure, and stand in its order."""


DISTRIBUTIONS: Final[Mapping[str, Distribution]] = {
    "source": Distribution("Source", lambda seen: seen.source),
    "kind": Distribution("Category", lambda seen: seen.kind or (balance.NONE if seen.step != READ else "")),
    "answer_type": Distribution("Answer", lambda seen: seen.answer_type),
    "language": Distribution("Language", lambda seen: seen.language),
    "side": Distribution(
        "Longest side, pixels",
        lambda seen: _binned(max((max(size) for size in seen.sizes), default=None), _SIDES, _pixels),
        _bins(_SIDES, _pixels),
    ),
    "share": Distribution(
        "Share of the picture in the box",
        lambda seen: _binned(seen.share, _SHARES, _percent),
        _bins(_SHARES, _percent),
    ),
    "words": Distribution(
        "Words of the question",
        lambda seen: _binned(len(seen.question.split()) if seen.question else None, _WORDS, _pixels),
        _bins(_WORDS, _pixels),
    ),
    "pass_rate": Distribution(
        "Right answers of the model",
        lambda seen: "" if seen.pass_rate is None else _percent(round(seen.pass_rate, 3)),
        figures=True,
    ),
}
"""What the report shows, by name."""


class Figures(Record):
    """Counts of a run."""

    rows: int = 0
    kept: int = 0
    dropped: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By step and reason."""
    all: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Rows by distribution and name, as far as the steps found it out."""
    left: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The same of the kept."""

    @property
    def funnel(self) -> list[tuple[str, int, int]]:
        """Steps with how many rows came in, and how many they dropped."""
        found, left = [], self.rows
        for step in ORDER:
            lost = sum(self.dropped.get(step, {}).values())
            found.append((step, left, lost))
            left -= lost
        return found


@dataclass
class Counting:
    """Takes rows as they go by."""

    rows: int = 0
    kept: int = 0
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    all: dict[str, Counter[str]] = field(default_factory=dict)
    left: dict[str, Counter[str]] = field(default_factory=dict)
    _picks: dict[tuple[str, str], list[tuple[int, str, Seen]]] = field(default_factory=dict)

    def add(self, seen: Seen) -> None:
        """Count a row, and perhaps remember it as an example."""
        self.rows += 1
        self.kept += seen.kept
        if not seen.kept:
            self.dropped.setdefault(seen.step, Counter())[seen.reason] += 1
        for name, asked in DISTRIBUTIONS.items():
            if value := asked.of(seen):
                self.all.setdefault(name, Counter())[value] += 1
                if seen.kept:
                    self.left.setdefault(name, Counter())[value] += 1
        self._pick(seen)

    def _pick(self, seen: Seen) -> None:
        """The same rows are remembered in whichever order they come."""
        kind = (seen.step, seen.reason) if seen.step else ("", seen.kind or balance.NONE)
        heap = self._picks.setdefault(kind, [])
        one = (-number("example", seen.id), seen.id, seen)
        if len(heap) < EACH:
            heapq.heappush(heap, one)
        elif one[:2] > heap[0][:2]:
            heapq.heapreplace(heap, one)

    def examples(self) -> dict[tuple[str, str], list[Seen]]:
        """Rows to show by step and reason, or by the category of the kept; the most frequent kinds."""

        def rank(kind: tuple[str, str]) -> tuple[int, int, str]:
            step, name = kind
            place = ORDER.index(step) if step else -1
            often = self.dropped[step][name] if step else self.left.get("kind", Counter())[name]
            return place, -often, name

        return {
            kind: [seen for _, _, seen in sorted(self._picks[kind], key=lambda one: -one[0])]
            for kind in sorted(self._picks, key=rank)[:MOST]
        }

    def figures(self) -> Figures:
        """What was counted, in an order that is always the same."""
        return Figures(
            rows=self.rows,
            kept=self.kept,
            dropped={step: _sorted(self.dropped[step]) for step in ORDER if step in self.dropped},
            all={name: _sorted(found) for name, found in self.all.items()},
            left={name: _sorted(found) for name, found in self.left.items()},
        )


def _sorted(found: Counter[str]) -> dict[str, int]:
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))
