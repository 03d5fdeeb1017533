"""Times as the studio counts them: days, leases that run out, pages that were open. All in seconds, days in UTC."""

from __future__ import annotations

import time
from typing import Final

DAY_S: Final = 86_400


def midnight() -> float:
    """When today began, since 1970."""
    return time.time() // DAY_S * DAY_S


def page_seconds(seconds: float | None) -> float | None:
    """How long a page was open, as it is kept: one that was open for more than a day was left open."""
    return None if seconds is None else min(max(seconds, 0.0), float(DAY_S))


def lease_view(until: float) -> dict[str, float] | None:
    """A lease as a page counts it down; None where it has run out."""
    left = until - time.time()
    return {"until": until, "seconds": left} if left > 0 else None
