"""Wilson's interval of a share, such as that of right answers; what is right, `thyme.rewards.answer` says."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution: two-sided 95 %."""


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a rate (Wilson 1927; Newcombe 1998, method 3).

    Args:
        successes: How often it happened; a sum of scores between 0 and 1 varies less, so that it is then too wide.
        n: Out of how many; 0 gives (0, 1), which is all that no cases say.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    rate, spread = successes / n, Z_95**2 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high
