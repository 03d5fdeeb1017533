"""What processes take of the memory, by the kernel's own books."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Memory of one process, MiB."""

    pss_mb: float
    """Its own pages, and its share of those that it has in common with other processes."""
    private_mb: float
    """Its own pages alone: what its end would give back at least."""

    @property
    def share_mb(self) -> float:
        """Its share of the pages in common."""
        return self.pss_mb - self.private_mb


def descendants(pid: int) -> list[int]:
    """Process ids of all children of a process, and theirs; a process that ends meanwhile has none."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = [int(child) for child in (task / "children").read_text().split()]
            for child in children:
                found += [child, *descendants(child)]
    except OSError:
        return found
    return found


def mean_memory(pids: Iterable[int]) -> Memory | None:
    """Mean memory of processes; None if there are none, or the kernel does not let us read it (it does for root)."""
    found = [memory for pid in pids if (memory := process_memory(pid)) is not None]
    if not found:
        return None
    return Memory(
        sum(memory.pss_mb for memory in found) / len(found), sum(memory.private_mb for memory in found) / len(found)
    )


def process_memory(pid: int) -> Memory | None:
    """Memory of one process, from its ``smaps_rollup``; None where it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return Memory(kib["Pss"] / 1024, (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024)
