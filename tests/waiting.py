"""Waiting for what another thread, process or task does: until it is so, and no longer than no loaded machine needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition to hold; a test that waits in vain fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass within {seconds:g} s"
        time.sleep(0.01)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """The same in an event loop, which goes on meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass within {seconds:g} s"
        await asyncio.sleep(0.005)
