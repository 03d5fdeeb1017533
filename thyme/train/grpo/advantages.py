"""From the rewards of a group to advantages: pure functions on plain numbers (paper: normalised within the group).

A member counts in two ways. It is *compared* if it has a reward and is not left out: the mean and the deviation of the
group are those of its compared members. It is *in the loss* if it is compared and not masked. A group with fewer than
two compared members says nothing about any of them, and is dropped.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thyme.config.grpo import GRPOSettings
from thyme.train.grpo.groups import OVERLONG, Group
from thyme.types import StopReason

Treatment = Literal["keep", "mask", "drop"]
Verdict = Literal["learnt", "flat", "dropped"]
"""``flat``: all compared members have one reward, so that every advantage is exactly 0."""

EPSILON = 1e-4
"""Added to the standard deviation, as TRL does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a member stands in its group."""

    advantage: float
    """0 where it is not in the loss."""
    in_loss: bool


@dataclass(frozen=True, slots=True)
class Standings:
    """Those of a whole group."""

    members: tuple[Standing, ...]
    verdict: Verdict


def standings(
    rewards: Sequence[float | None],
    treatments: Sequence[Treatment],
    *,
    scale: Literal["group", "none"],
) -> Standings:
    """Compare the members of a group.

    Args:
        rewards: One a member; None is not scored, and such a member neither counts in the mean nor in the loss.
        treatments: One a member: ``keep``; ``mask``, compared but not in the loss; ``drop``, neither.
        scale: ``group``: (r - mean) / (std + `EPSILON`), with the unbiased standard deviation (n - 1 in the
            denominator), as TRL has it. ``none``: r - mean.
    """
    pairs = list(zip(rewards, treatments, strict=True))
    compared = [reward for reward, treatment in pairs if reward is not None and treatment != "drop"]
    if len(compared) < 2:
        return Standings(tuple(Standing(0.0, False) for _ in pairs), "dropped")
    flat = min(compared) == max(compared)  # asked like this, for a mean of equal numbers may be off by a rounding
    mean = compared[0] if flat else statistics.fmean(compared)
    unit = statistics.stdev(compared) + EPSILON if scale == "group" and not flat else 1.0

    def standing(reward: float | None, treatment: Treatment) -> Standing:
        if reward is None or treatment != "keep":
            return Standing(0.0, False)
        return Standing((reward - mean) / unit, True)

    return Standings(tuple(standing(*pair) for pair in pairs), "flat" if flat else "learnt")


def treatment(stop: StopReason, settings: GRPOSettings) -> Treatment:
    """What becomes of a rollout that ended like this."""
    if stop in OVERLONG:
        return settings.overlong
    return settings.overturn if stop is StopReason.MAX_ROUNDS else "keep"


def group_standings(group: Group, settings: GRPOSettings) -> Standings:
    """`standings` of a group of rollouts, by the settings."""
    treatments = [treatment(member.trajectory.stop, settings) for member in group.members]
    return standings(group.rewards, treatments, scale=settings.scale)
