"""One problem under one arm: roll out, or take what is stored; score; make the item."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from thyme.config import RolloutConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.engines.base import Engine
from thyme.errors import EngineError
from thyme.eval.arms import ARMS, Arm, item_of
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.counterfactual import DonorPool, evidence
from thyme.eval.items import RETRY, TOOLS, ItemResult
from thyme.eval.judging import AnswerScorer, Scored
from thyme.eval.run.folder import file_name
from thyme.eval.run.ledger import Ledger, is_settled
from thyme.eval.run.retry import Attempt, Outcome, Replaying, with_retries
from thyme.eval.runner import ask_once, derive_seed, score_trajectory
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.types import Execution, Problem, StopReason, Trajectory

OnItem = Callable[[ItemResult], None]


@dataclass
class Streak:
    """Rollouts that failed one after the other."""

    limit: int
    """0: any number."""
    length: int = 0

    def note(self, trajectory: Trajectory) -> None:
        """Count one.

        Raises:
            EngineError: Too many failed.
        """
        if trajectory.stop is not StopReason.ERROR:
            self.length = 0
            return
        self.length += 1
        if self.limit and self.length >= self.limit:
            error = trajectory.error
            told = f"the {error.where}: {error.message}" if error is not None else "unknown"
            raise EngineError(
                f"{self.length} rollouts failed one after the other, the last because of {told}; what was asked is "
                "kept, and the same command goes on from there (stop_after_failures=0 never gives up)"
            )


@dataclass
class Asker:
    """Asks the problems of one benchmark."""

    benchmark: Benchmark
    ledger: Ledger
    config: EvaluationConfig
    engine: Engine
    sandboxes: Mapping[str, Sandbox]
    """By arm."""
    words: PromptSet
    scorer: AnswerScorer
    on_item: OnItem
    streak: Streak
    arms: tuple[str, ...]
    """In order; what others build upon comes first."""
    donors: DonorPool | None = None
    first: dict[str, Trajectory] = field(default_factory=dict)
    """The trajectory of the arm with tools of each problem that is under way."""

    async def ask(self, place: int, problem: Problem) -> None:
        """Settle a problem in every arm; its pixels are let go when this returns.

        Raises:
            EngineError: Too many rollouts failed one after the other.
            StoreError: The folder cannot be written.
        """
        try:
            for name in self.arms:
                if not self.ledger.settled(name, problem.id):
                    item = await self._item(ARMS[name], problem)
                    item = item.model_copy(update={"place": place})
                    self.ledger.keep_item(item)
                    self.on_item(item)
        finally:
            self.first.pop(problem.id, None)

    async def _item(self, arm: Arm, problem: Problem) -> ItemResult:
        if arm.name == RETRY:
            return await self._retried(problem)
        same = await self._same(arm, problem)
        if same is not None:
            return same
        trajectory = await self._rollout(arm, problem)
        if arm.name == TOOLS:
            self.first[problem.id] = trajectory
        return await self._made(arm.name, problem, Outcome(trajectory))

    async def _same(self, arm: Arm, problem: Problem) -> ItemResult | None:
        """The item of the arm with tools under another name, where the rollout could not have been another one."""
        tools = self.ledger.items.get((TOOLS, problem.id))
        if arm.name == TOOLS or not arm.same_without_code or not is_greedy(self.config.rollout):
            return None
        if tools is None or tools.failed or tools.blocks:
            return None
        if is_settled(tools):
            return tools.model_copy(update={"arm": arm.name})
        rollout = self.first.get(problem.id) or await self.ledger.trajectory(tools.trajectory)
        return None if rollout is None else await self._made(arm.name, problem, Outcome(rollout))

    async def _first(self, problem: Problem) -> Trajectory:
        """The rollout of the arm with tools."""
        if problem.id not in self.first:
            self.first[problem.id] = await self._rollout(ARMS[TOOLS], problem)
        return self.first[problem.id]

    async def _rollout(self, arm: Arm, problem: Problem) -> Trajectory:
        id = trajectory_id(self.benchmark.name, arm.name, problem.id)
        stored = await self.ledger.trajectory(id)
        if stored is not None:
            return stored
        donor = await self._donor(problem) if arm.needs_donor else ()
        sandbox = arm.sandbox_for(self.sandboxes[arm.name], problem, donor)
        config = arm.rollout_config(self.config.rollout)
        seed = derive_seed(self.config.seed, problem)
        return await self._kept(arm.name, await ask_once(problem, self.engine, sandbox, config, self.words, seed, id))

    async def _donor(self, problem: Problem) -> tuple[Execution, ...]:
        """What another problem's code gave, pixels loaded; empty where there is none."""
        if self.donors is None:
            return ()
        draws = any(o.execution.images for o in (await self._first(problem)).observations)
        donor = self.donors.choose(problem, draws=draws, seed=self.config.seed)
        lent = None if donor is None else await self.ledger.trajectory(donor.trajectory)
        return () if lent is None else evidence(lent)

    async def _retried(self, problem: Problem) -> ItemResult:
        first = await self._first(problem)

        async def again(attempt: Attempt) -> Trajectory:
            id = f"{trajectory_id(self.benchmark.name, RETRY, problem.id)}.{attempt.number}"
            stored = await self.ledger.trajectory(id)
            if stored is not None:
                return stored
            engine = Replaying(self.engine, attempt.kept, attempt.number)
            words = attempt.words or self.words
            made = await ask_once(problem, engine, self.sandboxes[RETRY], attempt.config, words, first.seed, id)
            return await self._kept(RETRY, made)

        outcome = await with_retries(first, again, self.config.rollout, self.config.retry)
        return await self._made(RETRY, problem, outcome)

    async def _kept(self, arm: str, trajectory: Trajectory) -> Trajectory:
        self.streak.note(trajectory)
        meta = {**trajectory.meta, "benchmark": self.benchmark.name, "arm": arm}
        trajectory = trajectory.model_copy(update={"meta": meta})
        await self.ledger.keep_trajectory(arm, trajectory)
        return trajectory

    async def _made(self, arm: str, problem: Problem, outcome: Outcome) -> ItemResult:
        scored = await self._scored(problem, outcome)
        # Looking for the crops in a picture of 8000 pixels a side takes its time.
        item = await asyncio.to_thread(
            item_of,
            outcome.final,
            problem,
            scored.score,
            arm,
            benchmark=self.benchmark.name,
            judged=scored.judged,
            earlier=outcome.earlier,
            bound=self.config.coverage,
        )
        return item.model_copy(update={"prediction": outcome.answer}) if outcome.plain else item

    async def _scored(self, problem: Problem, outcome: Outcome) -> Scored:
        if outcome.final.stop is StopReason.ERROR:
            return Scored(score_trajectory(outcome.final))
        return await self.scorer.score(self.benchmark, problem, outcome.answer)


def trajectory_id(benchmark: str, arm: str, problem: str) -> str:
    """Name of a rollout: the same in every sitting, so that a stored one is found again."""
    return f"{file_name(benchmark)}.{arm}.{problem}"


def is_greedy(config: RolloutConfig) -> bool:
    """Whether nothing is drawn."""
    return all(
        tau == 0 for tau in (config.text_temperature, config.code_temperature, *(s.temperature for s in config.spans))
    )
