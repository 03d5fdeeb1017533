"""How the parts of a reward make one number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from thyme.config.rewards import RewardSettings

PARTS = ("format", "result", "consistency", "process", "code", "tool_cost")
"""What a reward is made of. `Score.parts` holds each of them before its weight:

- ``format``: 0 or 1.
- ``result``: 1 right; wrong is 0, or -1 in the preset ``released``; no answer is 0.
- ``consistency``: 0 or 1.
- ``process``, ``code``: 0 to 1, of the released code's judges.
- ``tool_cost``: 1 where code ran, else 0.

None is a part that was not asked for, or that nobody could tell. Rewards of one's own come behind, by their names.
"""


def combine(parts: Mapping[str, float | None], settings: RewardSettings) -> float | None:
    """The reward (paper section 3.3; docs/rewards.md has the formulas side by side).

    With R, C, F, P, K for result, consistency, format, process and code, w for the weights, and [R>0] as 1 or 0::

        multiplicative, paper     w_R R (1 + w_C C) + [R>0] (w_P P + w_K K) + w_F F - w_T T
        multiplicative, released  w_R R + [R>0] (w_C C + w_P P + w_K K)     + w_F F - w_T T
        additive                  w_R R + w_C C + [R>0] (w_P P + w_K K)     + w_F F - w_T T
        none                      w_R R + [R>0] (w_P P + w_K K)             + w_F F - w_T T

    and what rewards of one's own earn times their weights, as they are or with [R>0] (``only_right``).

    Args:
        parts: By `PARTS` and the names of ``settings.own``; a missing one is None.
        settings: Weights, preset and gating.

    Returns:
        None where a part that counts is unknown: such a sample is not scored, which is not 0. A part does not count
        where its weight or its gate is 0.
    """
    result = parts.get("result")
    right = None if result is None else float(result > 0)
    terms = [
        _term(settings.result, result),
        _term(settings.process, right, parts.get("process")),
        _term(settings.code, right, parts.get("code")),
        _term(settings.format, parts.get("format")),
        _term(-settings.tool_cost, parts.get("tool_cost")),
        *_consistency(result, right, parts.get("consistency"), settings),
        *(
            _term(one.weight, parts.get(name), *((right,) if one.only_right else ()))
            for name, one in settings.own.items()
        ),
    ]
    known = [term for term in terms if term is not None]
    return math.fsum(known) if len(known) == len(terms) else None


def asks_consistency(result: float | None, settings: RewardSettings) -> bool:
    """Whether the consistency of an answer counts, given what its result is."""
    if settings.consistency_by == "off" or settings.consistency == 0 or settings.gating == "none" or result is None:
        return False
    return settings.gating == "additive" or result > 0


def _consistency(
    result: float | None, right: float | None, consistency: float | None, settings: RewardSettings
) -> Iterable[float | None]:
    if settings.consistency_by == "off" or settings.gating == "none":
        return ()
    if settings.gating == "additive":
        return (_term(settings.consistency, consistency),)
    if settings.preset == "paper":
        return (_term(settings.result * settings.consistency, result, consistency),)
    return (_term(settings.consistency, right, consistency),)


def _term(weight: float, *factors: float | None) -> float | None:
    """A product; 0 as soon as the weight or a factor is 0, whatever the others are, else None if one is unknown."""
    if weight == 0 or 0 in factors:
        return 0.0
    known = [factor for factor in factors if factor is not None]
    return weight * math.prod(known) if len(known) == len(factors) else None
