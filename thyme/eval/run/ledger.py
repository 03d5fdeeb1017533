"""What one process knows and writes about one benchmark: items and trajectories that are there, and those it adds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thyme.eval.items import ItemResult
from thyme.eval.run.folder import (
    Trajectories,
    append_item,
    find_trajectories,
    items_file,
    trajectories_file,
)
from thyme.store import append_trajectory
from thyme.types import StopReason, Trajectory


@dataclass
class Ledger:
    """The part of a run's folder that is about one benchmark."""

    folder: Path
    benchmark: str
    shard: int
    items: dict[tuple[str, str], ItemResult] = field(default_factory=dict)
    """The last one of each arm and problem, of all processes."""
    stored: Trajectories = field(default_factory=Trajectories)
    """Of all processes, by id."""

    def take(self, items: Iterable[ItemResult]) -> None:
        """Take in those of this benchmark, of all processes."""
        self.items |= {(item.arm, item.problem): item for item in items if item.benchmark == self.benchmark}

    def look_up(self, arms: Sequence[str]) -> None:
        """Find the stored trajectories of these arms.

        Raises:
            StoreError: A file cannot be read.
        """
        self.stored = find_trajectories(self.folder, self.benchmark, arms)

    def settled(self, arm: str, problem: str) -> bool:
        """Whether nothing is left to do about a problem."""
        item = self.items.get((arm, problem))
        return item is not None and is_settled(item)

    def settled_places(self, arms: Sequence[str]) -> set[int]:
        """Places of the problems that are settled in each of these arms."""
        places: defaultdict[str, set[int]] = defaultdict(set)
        for (arm, _), item in self.items.items():
            if is_settled(item):
                places[arm].add(item.place)
        return set.intersection(*(places[arm] for arm in arms)) if arms else set()

    def count(self, arm: str) -> int:
        """Problems that have an item, whatever became of them."""
        return sum(one == arm for one, _ in self.items)

    async def trajectory(self, id: str) -> Trajectory | None:
        """A stored trajectory with its pixels; None where there is none."""
        return await asyncio.to_thread(self.stored.read, id) if id in self.stored.places else None

    async def keep_trajectory(self, arm: str, trajectory: Trajectory) -> None:
        """Store a rollout, unless the machinery failed: it is made again when the run goes on."""
        if trajectory.stop is not StopReason.ERROR:
            path = trajectories_file(self.folder, self.benchmark, arm, self.shard)
            await asyncio.to_thread(append_trajectory, path, trajectory)

    def keep_item(self, item: ItemResult) -> None:
        """Store what became of a problem."""
        append_item(items_file(self.folder, self.benchmark, item.arm, self.shard), item)
        self.items[item.arm, item.problem] = item


def is_settled(item: ItemResult) -> bool:
    """Whether nothing is left to do: the machinery did not fail, and no verdict is missing."""
    return not item.failed and not item.waits_for_verdict
