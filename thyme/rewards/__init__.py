"""Rewards: functions of a trajectory, put together as the paper has it; judges are asked over HTTP."""

from __future__ import annotations

from thyme.rewards.combination import PARTS, combine
from thyme.rewards.scorer import COUNTERS, Scorer, open_scorer

__all__ = ["COUNTERS", "PARTS", "Scorer", "combine", "open_scorer"]
