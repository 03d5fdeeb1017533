"""The draw: which row, scenario and seed each item of a build has. A pure function of recipe and sources.

Items are dealt to scenarios by their shares, in a random order. The rows that may serve a scenario, those of all its
sources one behind the other, are shuffled, and its items take turns in them: item k of n may take the rows at the
places k, k + n, k + 2n, ... and takes the first one that has what the scenario needs. So no row serves a scenario
twice, no item has to know of another, and nothing is kept in memory.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from thyme.config.data import DataRecipe
from thyme.data.factory.shuffle import Shuffle, number
from thyme.data.scenarios.base import Scenario
from thyme.data.sources.base import Facts, Source
from thyme.errors import ConfigError, EncodeError

logger = logging.getLogger(__name__)

MOST_ROWS = 64
"""Rows that are looked at for one item; where none of them will do, it is rejected."""
_SAMPLED = 32
"""Rows of a source that are looked at to see which scenarios it can serve."""


@dataclass(frozen=True)
class Part:
    """What one scenario has of a build."""

    scenario: str
    needs: frozenset[str]
    items: int
    sources: tuple[str, ...]
    rows: tuple[int, ...]
    """Of each source."""

    @property
    def total(self) -> int:
        """Rows of all its sources."""
        return sum(self.rows)

    def row(self, place: int) -> tuple[str, int]:
        """Source and row at a place among all its rows."""
        ends = list(accumulate(self.rows))
        which = bisect_right(ends, place)
        return self.sources[which], place - (ends[which - 1] if which else 0)


@dataclass(frozen=True)
class Draw:
    """One item as it is drawn."""

    index: int
    scenario: str
    part: Part
    rank: int
    """Place among the items of its scenario."""
    seed: int
    """Of the whole draw."""

    def rows(self) -> Iterator[tuple[str, int]]:
        """Source and row of its candidates, the first one first; `MOST_ROWS` at most."""
        order = Shuffle(self.part.total, f"rows/{self.seed}/{self.scenario}")
        places = range(self.rank, self.part.total, self.part.items)
        return (self.part.row(order[place]) for place in places[:MOST_ROWS])

    def id(self, source: str) -> str:
        """Id of the draft."""
        return f"{source}-{self.index:07d}-{self.scenario}"

    def seed_of(self, id: str) -> int:
        """Seed of the draft, 63 bits."""
        return number("draft", self.seed, id) >> 1


@dataclass(frozen=True)
class Plan:
    """The draw of a whole build."""

    seed: int
    chunk: int
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        """Items of the build."""
        return sum(part.items for part in self.parts)

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-self.count // self.chunk)

    def indices(self, chunk: int) -> range:
        """Items of a chunk."""
        return range(chunk * self.chunk, min(self.count, (chunk + 1) * self.chunk))

    def draw(self, index: int) -> Draw:
        """One item.

        Raises:
            IndexError: There is no such item.
        """
        place = Shuffle(self.count, f"items/{self.seed}")[index]
        ends = list(accumulate(part.items for part in self.parts))
        which = bisect_right(ends, place)
        rank = place - (ends[which - 1] if which else 0)
        return Draw(index, self.parts[which].scenario, self.parts[which], rank, self.seed)


def plan(recipe: DataRecipe, sources: Mapping[str, Source], scenarios: Mapping[str, Scenario]) -> Plan:
    """Deal the items of a build to scenarios and sources.

    Args:
        recipe: Count, shares, seed, and which source may serve what.
        sources: By name, as in the recipe.
        scenarios: All that there are.

    Raises:
        ConfigError: An unknown scenario, or one that no source can serve.
        StoreError: A source is damaged.
    """
    wanted = {name: share for name, share in recipe.scenarios.items() if share > 0}
    _known(wanted, scenarios, "scenarios")
    for name, settings in recipe.sources.items():
        _known(settings.scenarios, scenarios, f"sources.{name}.scenarios")
    seen = {name: _sample(source) for name, source in sources.items()}
    parts = []
    for name, items in _quotas(wanted, recipe.count).items():
        needs = scenarios[name].needs
        serving = [s for s in sources if _serves(recipe, s, name, seen[s], needs)]
        if not serving:
            raise ConfigError(
                f"no source serves the scenario '{name}', which needs {', '.join(sorted(needs)) or 'nothing'}; "
                "name the columns that hold it in sources.NAME.columns, or leave the scenario out"
            )
        part = Part(name, needs, items, tuple(serving), tuple(len(sources[s]) for s in serving))
        parts.append(_bounded(part))
    return Plan(recipe.seed, recipe.chunk, tuple(part for part in parts if part.items))


def _known(names: Mapping[str, float] | tuple[str, ...], scenarios: Mapping[str, Scenario], where: str) -> None:
    unknown = [name for name in names if name not in scenarios]
    if unknown:
        raise ConfigError(f"{where}: there is no scenario '{unknown[0]}'; there are {', '.join(scenarios)}")


def _quotas(shares: Mapping[str, float], count: int) -> dict[str, int]:
    """Items by scenario: the shares of the count, rounded so that the sum is right (largest remainders first)."""
    total = sum(shares.values())
    if total <= 0:
        raise ConfigError("scenarios: give at least one of them a share above 0")
    exact = {name: count * share / total for name, share in shares.items()}
    quotas = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: quotas[name] - exact[name])
    for name in by_rest[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _sample(source: Source) -> list[Facts]:
    """What some rows, spread over a source, have; rows that cannot be used have nothing."""
    rows = len(source)
    found = []
    for place in range(min(rows, _SAMPLED)):
        try:
            found.append(source.facts(place * rows // min(rows, _SAMPLED)))
        except EncodeError:
            continue
    return found


def _serves(recipe: DataRecipe, source: str, scenario: str, seen: list[Facts], needs: frozenset[str]) -> bool:
    named = recipe.sources[source].scenarios
    return scenario in named if named else any(facts.meets(needs) for facts in seen)


def _bounded(part: Part) -> Part:
    if part.total >= part.items:
        return part
    logger.warning(
        "scenario %s: its sources have %d rows for %d records; each serves once, so that so many are drawn",
        part.scenario,
        part.total,
        part.items,
    )
    return Part(part.scenario, part.needs, part.total, part.sources, part.rows)
