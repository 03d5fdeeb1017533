"""Notices when something else disturbs a measurement."""

from __future__ import annotations

import math
import time
from pathlib import Path

_SLOWER = 1.25
"""A fixed bit of work that takes this much longer than at its best was disturbed."""


class Quiet:
    """Looks at the machine before and after a measurement."""

    def __init__(self) -> None:
        self._best_s = math.inf
        for _ in range(10):
            self._work()

    def disturbed(self) -> bool:
        """Whether work takes longer than it can, or others want a processor right now."""
        best = self._best_s
        slow = min(self._work() for _ in range(3)) > _SLOWER * best
        return slow or all(_others_running() for _ in range(3))

    def _work(self) -> float:
        started = time.perf_counter()
        sum(range(100_000))
        seconds = time.perf_counter() - started
        self._best_s = min(self._best_s, seconds)
        return seconds


def _others_running() -> bool:
    running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    time.sleep(0.002)
    return running > 1
