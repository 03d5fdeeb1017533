"""Scores trajectories: rules, mathematics in a process of its own, and judges, as the settings ask for them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from thyme.config.rewards import RewardSettings
from thyme.errors import ThymeError
from thyme.markup import extract_answer
from thyme.rewards import material
from thyme.rewards.answer import number, score_answer
from thyme.rewards.combination import PARTS, asks_consistency, combine
from thyme.rewards.consistency import reasoning, states_answer
from thyme.rewards.format import FORMATS
from thyme.rewards.mathematics import MathVerifier, StoppedError, expressions
from thyme.rewards.own import OwnRewardError, Payer, load_own
from thyme.rewards.referees import open_referees
from thyme.rewards.verdicts import Kind, Material
from thyme.types import Problem, Score, StopReason, Trajectory

if TYPE_CHECKING:
    from thyme.rewards.judge import Judge

logger = logging.getLogger(__name__)

COUNTERS: Mapping[str, str] = {
    "scored": "trajectories that got a reward",
    "unscored": "trajectories that got none",
    "nothing_stated": "answers whose reasoning states nothing that the rule of consistency could read",
    "requests": "requests to a judge",
    "cache_hits": "verdicts that were known already, or asked for by another trajectory just then",
    "retries": "requests that were sent again",
    "refused_verdicts": "replies of a judge that were no verdict",
    "outages": "verdicts, and results of math-verify, that were not to be had",
    "math_checks": "answers that math-verify looked at",
    "math_timeouts": "of these, the ones that took too long or ended its process",
    "own_failures": "calls of rewards of one's own that raised or gave no number",
}
"""What `Scorer.counters` counts."""


class Scorer:
    """Gives trajectories their reward; as many at once as one likes, in one event loop. See `open_scorer`."""

    def __init__(
        self,
        settings: RewardSettings,
        counts: Counter[str] | None = None,
        judge: Judge | None = None,
        mathematics: MathVerifier | None = None,
        own: Mapping[str, Payer] | None = None,
    ) -> None:
        """Use `open_scorer`."""
        self.settings, self._own = settings, own or {}
        self._counts = Counter() if counts is None else counts
        self._judge, self._mathematics = judge, mathematics

    @property
    def counters(self) -> dict[str, int]:
        """By `COUNTERS`, since the scorer was opened."""
        return {name: self._counts[name] for name in COUNTERS}

    async def check(self) -> None:
        """Ask the judge, if there is one, for one verdict, so that no run begins with one that cannot judge.

        Raises:
            NoVerdictError: It gives none; the message says why.
        """
        if self._judge is not None:
            await self._judge.check()

    async def score(self, trajectory: Trajectory) -> Score:
        """The reward of one trajectory.

        Returns:
            ``parts`` by `PARTS`, and rewards of one's own by their names. The value is None where the rollout failed
            or was cancelled, the problem has no reference, or a judge gave no verdict or a reward of one's own no
            number; the note says which.
        """
        score = await self._score(trajectory)
        self._counts["unscored" if score.value is None else "scored"] += 1
        return score

    async def _score(self, trajectory: Trajectory) -> Score:
        parts: dict[str, float | None] = dict.fromkeys((*PARTS, *self._own))
        if trajectory.stop in {StopReason.ERROR, StopReason.CANCELLED}:
            message = trajectory.error.message if trajectory.error is not None else str(trajectory.stop)
            return Score(value=None, parts=parts, note=f"failed: {message}")
        notes: list[str] = []
        answer = extract_answer(trajectory.response) or None
        parts["format"] = FORMATS[self.settings.preset](trajectory.response)
        parts["tool_cost"] = float(bool(trajectory.observations))
        result = parts["result"] = await self._result(trajectory.problem, answer, notes)
        parts["consistency"], parts["process"], parts["code"] = await asyncio.gather(
            self._consistency(trajectory, result, answer, notes),
            self._process(trajectory, result, notes),
            self._code(trajectory, result, notes),
        )
        for name, payer in self._own.items():
            parts[name] = await self._paid(name, payer, trajectory, result, notes)
        return Score(value=combine(parts, self.settings), parts=parts, note="; ".join(notes))

    async def _result(self, problem: Problem, answer: str | None, notes: list[str]) -> float | None:
        """Rules, then mathematics, then the judge, until one of them finds the answer right."""
        found = score_answer(problem, answer)
        if found.value is None or answer is None:
            notes.append(found.note)
            return found.value
        value: float | None = found.value
        if self.settings.result_by == "judge":
            value = None
        else:
            notes.append(found.note)
            if value == 0 and found.note != "choice":
                value = await self._calculated(problem, answer, notes)
        if value != 1 and self.settings.result_by != "rules":
            value = await self._judged("result", material.of_result(problem, answer), notes)
        return -1.0 if value == 0 and self.settings.preset == "released" else value

    async def _calculated(self, problem: Problem, answer: str, notes: list[str]) -> float | None:
        """Whether mathematics finds the answer right after all; None where it cannot be asked."""
        asked = expressions(problem, answer)
        if asked is None or self._mathematics is None:
            return 0.0
        self._counts["math_checks"] += 1
        try:
            told = await self._mathematics.compare(*asked)
        except StoppedError as error:
            self._counts["math_timeouts"] += 1
            notes.append(f"math-verify: {error}")
            return 0.0
        except ThymeError as error:
            self._out(f"no result of math-verify: {error}", notes)
            return None
        notes.append("math-verify")
        near = told.value is not None and number(problem, f"{told.value!r}") == 1  # to the reference's last digit
        return float(told.equal or near)

    async def _consistency(
        self, trajectory: Trajectory, result: float | None, answer: str | None, notes: list[str]
    ) -> float | None:
        if not asks_consistency(result, self.settings):
            return None
        if answer is None:
            return 0.0
        if self.settings.consistency_by == "judge":
            return await self._judged("consistency", material.of_consistency(trajectory, answer), notes)
        stated = states_answer(trajectory.problem, reasoning(trajectory), answer)
        if stated is None:
            self._counts["nothing_stated"] += 1
            notes.append("nothing stated")
        return stated or 0.0  # what is not stated is not paid for; the right answer still is

    async def _process(self, trajectory: Trajectory, result: float | None, notes: list[str]) -> float | None:
        if self.settings.process == 0 or result is None or result <= 0:
            return None
        return await self._judged("process", material.of_process(trajectory), notes)

    async def _code(self, trajectory: Trajectory, result: float | None, notes: list[str]) -> float | None:
        """As released: no code, or a block that failed, is worth nothing and needs no judge."""
        if self.settings.code == 0 or result is None or result <= 0:
            return None
        ran = trajectory.observations
        if not ran or any(observation.execution.error is not None for observation in ran):
            return 0.0
        return await self._judged("code", material.of_code(trajectory), notes)

    async def _paid(
        self, name: str, payer: Payer, trajectory: Trajectory, result: float | None, notes: list[str]
    ) -> float | None:
        """What a reward of one's own pays; None with a note where it does not tell."""
        settings = self.settings.own[name]
        if settings.weight == 0 or (settings.only_right and (result is None or result <= 0)):
            return None
        try:
            value = await payer(trajectory)
        except OwnRewardError as error:
            self._counts["own_failures"] += 1
            if self._counts["own_failures"] == 1:
                logger.warning("rewards.own.%s does not pay trajectory %s: %s", name, trajectory.id, error)
            notes.append(f"no {name}: {error}")
            return None
        if value is None:
            notes.append(f"no {name}")
        return value

    async def _judged(self, kind: Kind, asked: Mapping[str, Material], notes: list[str]) -> float | None:
        """A verdict; None with a note where there is none."""
        from thyme.rewards.judge import NoVerdictError

        assert self._judge is not None  # `RewardSettings` wants one wherever it is asked
        try:
            value = await self._judge.ask(kind, asked)
        except NoVerdictError as error:
            self._out(f"no verdict on {kind}: {error}", notes)
            return None
        notes.append(f"{kind} by judge")
        return value

    def _out(self, note: str, notes: list[str]) -> None:
        """Tell of an outage."""
        self._counts["outages"] += 1
        if self._counts["outages"] == 1:
            logger.warning("%s", note)
        notes.append(note)


@asynccontextmanager
async def open_scorer(settings: RewardSettings, *, cache: Path | None = None) -> AsyncIterator[Scorer]:
    """A scorer, and what it needs, until the context is left.

    Without a judge nothing leaves this machine. Without math-verify, expressions are compared as text, and a warning
    says so.

    Args:
        settings: What is paid for, and who judges it.
        cache: Folder of verdicts where the settings name none; None keeps them in memory.

    Raises:
        UsageError: The judge's model is not ``URL#NAME``.
        ConfigError: A reward of one's own is not there, or cannot be loaded.
    """
    own = load_own(settings.own)
    counts: Counter[str] = Counter()
    math_timeout_s = None if settings.result_by == "judge" else settings.math_timeout_s
    async with open_referees(
        settings.judge, counts, cache=cache, math_timeout_s=math_timeout_s, extra="train"
    ) as referees:
        yield Scorer(settings, counts, referees.judge, referees.mathematics, own)
