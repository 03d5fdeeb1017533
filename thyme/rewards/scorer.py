"""Scores trajectories: rules, mathematics in a process of its own, and judges, as the settings ask for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from thyme.config.rewards import RewardSettings
from thyme.markup import extract_answer
from thyme.rewards.answer import score_answer
from thyme.rewards.combination import PARTS, asks_consistency, combine
from thyme.rewards.consistency import reasoning, states_answer
from thyme.rewards.format import FORMATS
from thyme.types import Score, StopReason, Trajectory

COUNTERS: Mapping[str, str] = {
    "scored": "trajectories that got a reward",
    "unscored": "trajectories that got none",
    "nothing_stated": "answers whose reasoning states nothing that the rule of consistency could read",
    "requests": "requests to a judge",
    "cache_hits": "verdicts that were known already",
    "retries": "requests that were sent again",
    "refused_verdicts": "replies of a judge that were no verdict",
    "outages": "verdicts that were not to be had",
    "math_checks": "answers that math-verify looked at",
    "math_timeouts": "of these, the ones that it was stopped at",
}
"""What `Scorer.counters` counts."""


class Scorer:
    """Gives trajectories their reward; as many at once as one likes, in one event loop. See `open_scorer`."""

    def __init__(self, settings: RewardSettings) -> None:
        """Use `open_scorer`."""
        self.settings = settings
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))

    @property
    def counters(self) -> dict[str, int]:
        """By `COUNTERS`, since the scorer was opened."""
        return dict(self._counts)

    async def score(self, trajectory: Trajectory) -> Score:
        """The reward of one trajectory.

        Returns:
            ``parts`` by `PARTS`. The value is None where the rollout failed or was cancelled, the problem has no
            reference, or a judge gave no verdict; the note says which.
        """
        score = await self._score(trajectory)
        self._counts["unscored" if score.value is None else "scored"] += 1
        return score

    async def _score(self, trajectory: Trajectory) -> Score:
        parts: dict[str, float | None] = dict.fromkeys(PARTS)
        if trajectory.stop in {StopReason.ERROR, StopReason.CANCELLED}:
            message = trajectory.error.message if trajectory.error is not None else str(trajectory.stop)
            return Score(value=None, parts=parts, note=f"failed: {message}")
        notes: list[str] = []
        answer = extract_answer(trajectory.response)
        parts["format"] = FORMATS[self.settings.preset](trajectory.response)
        parts["tool_cost"] = float(bool(trajectory.observations))
        parts["result"] = await self._result(trajectory, answer, notes)
        if asks_consistency(parts["result"], self.settings):
            parts["consistency"] = await self._consistency(trajectory, answer, notes)
        return Score(value=combine(parts, self.settings), parts=parts, note="; ".join(notes))

    async def _result(self, trajectory: Trajectory, answer: str | None, notes: list[str]) -> float | None:
        found = score_answer(trajectory.problem, answer or None)
        notes.append(found.note)
        if found.value is None or not answer:
            return found.value
        return found.value if found.value > 0 or self.settings.preset == "paper" else -1.0

    async def _consistency(self, trajectory: Trajectory, answer: str | None, notes: list[str]) -> float | None:
        if not answer:
            return 0.0
        stated = states_answer(trajectory.problem, reasoning(trajectory), answer)
        if stated is None:
            self._counts["nothing_stated"] += 1
            notes.append("nothing stated")
        return stated or 0.0  # what is not stated is not paid for; the right answer still is


@asynccontextmanager
async def open_scorer(settings: RewardSettings, *, cache: Path | None = None) -> AsyncIterator[Scorer]:
    """A scorer, and what it needs, until the context is left.

    Args:
        settings: What is paid for, and who judges it. Without a judge nothing leaves this machine.
        cache: Folder of verdicts where the settings name none; None keeps them in memory.
    """
    yield Scorer(settings)
