"""Counts of a build: one pass over its outcomes, in memory that does not grow with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from thyme.data.factory.chunk import BENCHMARK, DUPLICATE, STAGE
from thyme.data.factory.manifest import Manifest
from thyme.data.spending import Spent
from thyme.data.stages import STAGES
from thyme.types import Record

FINE = 20
"""Bins for each factor of e in the distribution of seconds: a percentile is right within 3 %."""
_LEAST_S = 1e-4
"""Seconds as short as this are told apart no further; they are stored with four decimals."""


class Stage(Record):
    """What became of the records that entered a stage; each counts once, however often it came by."""

    entered: int = 0
    rejected: int = 0
    seconds: float = 0.0
    """Of all of them together, wall clock, with what they waited for."""
    median_s: float | None = None
    """Of one record, all its rounds together."""
    p95_s: float | None = None

    @property
    def passed(self) -> int:
        """Those that went on."""
        return self.entered - self.rejected


class Reason(Record):
    """Rejections of one stage for one reason."""

    stage: str
    reason: str
    count: int
    scenarios: dict[str, int]
    teachers: dict[str, int]
    """Those that were rejected before a teacher was asked are in none."""
    sources: dict[str, int]


class Group(Record):
    """Records that have something in common: a scenario, a teacher, a source; or all of them."""

    drawn: int = 0
    """That have an outcome."""
    kept: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    """By stage."""
    duplicates: int = 0
    held_out: int = 0
    """That showed a picture of a benchmark."""
    blocks: dict[int, int] = Field(default_factory=dict)
    """Accepted records by how many code blocks ran in them."""
    repaired: int = 0
    """Accepted records in which the sandbox put code right, which is stored as it ran."""
    corrected: int = 0
    """Accepted records in which a block failed and a later one did not."""
    checked: int = 0
    """Accepted records that a model looked at, or people."""
    requests: int = 0
    """Answers that were asked for; of all records, accepted or not. A request of an earlier run is not among them."""
    recorded: int = 0
    """Answers that were there from an earlier run."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    """What the answers cost when they were asked for, whichever run that was."""

    @property
    def share(self) -> float | None:
        """Of those with an outcome, those that were accepted."""
        return self.kept / self.drawn if self.drawn else None

    @property
    def blocks_each(self) -> float | None:
        """Mean code blocks of an accepted record."""
        return sum(n * count for n, count in self.blocks.items()) / self.kept if self.kept else None

    def of_kept(self, value: float) -> float | None:
        """An amount for each accepted record."""
        return value / self.kept if self.kept else None


class Funnel(Record):
    """Every figure of the report; ``funnel.json``."""

    name: str
    state: str
    planned: int
    """Items of the build."""
    asked: dict[str, int]
    """Items by scenario, as drawn."""
    seconds: float
    """In which somebody worked on it."""
    benchmark_pictures: int = 0
    """Pictures of benchmarks that every record was compared with."""
    total: Group
    stages: dict[str, Stage]
    """In order."""
    reasons: tuple[Reason, ...]
    """Most frequent first within a stage, stages in order."""
    scenarios: dict[str, Group]
    teachers: dict[str, Group]
    """By the model's name."""
    sources: dict[str, Group]
    spent: dict[str, Spent] = Field(default_factory=dict)
    """By who was asked, ``check`` among them: all that was sent, also for records that were then made again."""

    @property
    def missing(self) -> int:
        """Items without an outcome yet."""
        return max(0, self.planned - self.total.drawn)


@dataclass
class Seconds:
    """A distribution of seconds in bins that widen with them."""

    bins: Counter[int] = field(default_factory=Counter)
    total: float = 0.0

    def add(self, value: float) -> None:
        """Count one in."""
        self.total += value
        self.bins[round(FINE * math.log(max(value, _LEAST_S)))] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds that this share of the cases does not exceed; None without cases."""
        wanted, seen = share * self.bins.total(), 0
        for place in sorted(self.bins):
            seen += self.bins[place]
            if seen >= wanted:
                return round(math.exp(place / FINE), 4)
        return None


@dataclass
class _Sum:
    """A `Group` while it is counted."""

    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    blocks: Counter[int] = field(default_factory=Counter)
    usd: float = 0.0

    def group(self, order: Iterable[str]) -> Group:
        rejected = {name: self.rejected[name] for name in order if self.rejected[name]}
        blocks = dict(sorted(self.blocks.items()))
        return Group(**self.counts, rejected=rejected, blocks=blocks, usd=self.usd)


class Counting:
    """Counts records; give it every one of a build once, in any order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._entered: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._seconds: dict[str, Seconds] = {}
        self._reasons: dict[tuple[str, str], dict[str, Counter[str]]] = {}
        self._total = _Sum()
        self._groups: dict[str, dict[str, _Sum]] = {"scenario": {}, "teacher": {}, "source": {}}

    def add(self, kept: bool, record: Mapping[str, Any]) -> None:
        """Count one in.

        Args:
            kept: Whether it was accepted.
            record: The draft, or the rejection, as it is stored.
        """
        draft = record if kept else record["draft"]
        self._stages(draft["costs"]["seconds"], None if kept else record["stage"])
        if not kept:
            self._reason(record, draft)
        facts = _facts(kept, record, draft)
        self._sum(self._total, facts, draft, record)
        for kind, groups in self._groups.items():
            if draft[kind]:
                self._sum(groups.setdefault(draft[kind], _Sum()), facts, draft, record)

    def _stages(self, seconds: Mapping[str, float], ended: str | None) -> None:
        self._entered[STAGE] += 1
        for name, value in seconds.items():
            self._entered[name] += 1
            self._seconds.setdefault(name, Seconds()).add(value)
        if ended is not None:
            self._rejected[ended] += 1
            if ended != STAGE and ended not in seconds:  # it came there, but its seconds were not kept
                self._entered[ended] += 1

    def _reason(self, record: Mapping[str, Any], draft: Mapping[str, Any]) -> None:
        found = self._reasons.setdefault(
            (record["stage"], record["reason"]), {kind: Counter() for kind in self._groups}
        )
        for kind, counter in found.items():
            counter[draft[kind]] += 1

    def _sum(self, group: _Sum, facts: Counter[str], draft: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        group.counts.update(facts)
        group.usd += draft["costs"]["usd"]
        if facts["kept"]:
            group.blocks[sum(segment["kind"] == "observation" for segment in draft["segments"])] += 1
        else:
            group.rejected[record["stage"]] += 1

    def funnel(self, manifest: Manifest, name: str, spent: Mapping[str, Spent]) -> Funnel:
        """All figures.

        Args:
            manifest: Of the build.
            name: For the heading.
            spent: What was spent, by who was asked.
        """
        order = self._order()
        groups = {
            kind: {key: value.group(order) for key, value in sorted(found.items())}
            for kind, found in self._groups.items()
        }
        return Funnel(
            name=name,
            state=manifest.state,
            planned=manifest.count,
            asked=manifest.scenarios,
            seconds=manifest.seconds,
            benchmark_pictures=manifest.held_out,
            total=self._total.group(order),
            stages={name: self._stage(name) for name in order},
            reasons=tuple(self._sorted_reasons(order)),
            scenarios={name: groups["scenario"].get(name, Group()) for name in _names(manifest, groups["scenario"])},
            teachers=groups["teacher"],
            sources=groups["source"],
            spent=dict(spent),
        )

    def _order(self) -> list[str]:
        """Stages in the order of the chain; those that the package does not have come behind."""
        known = [STAGE, *STAGES]
        return [*known, *(name for name in self._entered if name not in known)]

    def _stage(self, name: str) -> Stage:
        seconds = self._seconds.get(name, Seconds())
        return Stage(
            entered=self._entered[name],
            rejected=self._rejected[name],
            seconds=round(seconds.total, 3),
            median_s=seconds.quantile(0.5),
            p95_s=seconds.quantile(0.95),
        )

    def _sorted_reasons(self, order: list[str]) -> list[Reason]:
        found = [
            Reason(
                stage=stage,
                reason=reason,
                count=by["scenario"].total(),
                scenarios=dict(sorted(by["scenario"].items())),
                teachers={name: count for name, count in sorted(by["teacher"].items()) if name},
                sources=dict(sorted(by["source"].items())),
            )
            for (stage, reason), by in self._reasons.items()
        ]
        return sorted(found, key=lambda one: (order.index(one.stage), -one.count, one.reason))


def _names(manifest: Manifest, found: Mapping[str, Group]) -> list[str]:
    return [*manifest.scenarios, *(name for name in found if name not in manifest.scenarios)]


def _facts(kept: bool, record: Mapping[str, Any], draft: Mapping[str, Any]) -> Counter[str]:
    """What a record adds to the counts of each of its groups."""
    costs = draft["costs"]
    facts = Counter({"drawn": 1, "kept": int(kept)})
    for name in ("requests", "recorded", "prompt_tokens", "completion_tokens"):
        facts[name] = costs[name]
    if kept:
        runs = [segment["execution"] for segment in draft["segments"] if segment["kind"] == "observation"]
        facts["repaired"] = int(any(run["repairs"] for run in runs))
        facts["corrected"] = int(any(run["error"] for run in runs))
        facts["checked"] = int(bool(draft["verdicts"]))
    elif record["stage"] == STAGE:
        facts["duplicates"] = int(record["reason"] == DUPLICATE)
        facts["held_out"] = int(record["reason"] == BENCHMARK)
    return facts
