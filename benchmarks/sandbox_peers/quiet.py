"""Notices when something else disturbs a measurement, and has it repeated."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_SLOWER = 1.25
"""A fixed bit of work that takes this much longer than at its best was disturbed."""
_PAUSE_S = 0.25


class Quiet:
    """Looks at the machine before and after each measurement, and repeats those that were disturbed."""

    def __init__(self, patience_s: float) -> None:
        """Spend at most `patience_s` seconds, over all measurements, on waiting and repeating."""
        self._patience_s, self._best_s = patience_s, math.inf
        self.count = 0
        """Measurements that count."""
        self.repeated = 0
        """Measurements that were thrown away and made again."""
        self.disturbed = 0
        """Measurements that count although they were disturbed, since patience had run out."""
        for _ in range(10):
            self._work()

    async def measure(self, measurement: Callable[[], Awaitable[T]]) -> T:
        """Measure until nothing else disturbs, or patience runs out."""
        while True:
            while (disturbed := self._is_disturbed()) and self._patience_s > 0:
                await asyncio.sleep(_PAUSE_S)
                self._patience_s -= _PAUSE_S
            started = time.perf_counter()
            result = await measurement()
            disturbed = self._is_disturbed() or disturbed
            if not disturbed or self._patience_s <= 0:
                self.count += 1
                self.disturbed += disturbed
                return result
            self.repeated += 1
            self._patience_s -= time.perf_counter() - started

    def _is_disturbed(self) -> bool:
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
    time.sleep(0.002)
    return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) > 1
