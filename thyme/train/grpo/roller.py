"""Rolls groups out and has them scored: many at once, in an event loop of their own, and nothing is scored by accident.

Rollouts share one engine, one sandbox and one scorer. While one waits for its code, or for a judge, the others are
generated. What fails in engine, sandbox or judge is tried again; what stays without a verdict is unscored, never 0.
See docs/grpo_rollouts.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from thyme.agent.draft import Draft
from thyme.agent.rollout import rollout
from thyme.background import Background
from thyme.config import RolloutConfig
from thyme.config.grpo_recipe import NOT_OF_JUDGE, NOT_OF_SANDBOX
from thyme.config.rewards import RewardSettings
from thyme.config.sandbox import SandboxConfig
from thyme.engines.base import Engine, EngineInfo
from thyme.errors import SandboxDiedError, SandboxError, TrainingError
from thyme.prompts import PromptSet
from thyme.rewards import Scorer, open_scorer
from thyme.rewards.own import own_fingerprint
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.train.grpo.draws import member_seed
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.train.grpo.policies import Policy
from thyme.train.grpo.sandboxes import OpenSandbox, Sandboxes
from thyme.types import RolloutFailure, Score, StopReason, Trajectory

logger = logging.getLogger(__name__)
T = TypeVar("T")

COUNTERS: Mapping[str, str] = {
    "rollouts": "rollouts that were begun",
    "retries": "of these, the ones that took the place of one that failed",
    "engine_failures": "rollouts that the engine failed in",
    "sandbox_failures": "rollouts that the sandbox failed in",
    "rescored": "scores that were asked for again because the first one was not to be had",
    "unscored": "members of groups without a score in the end",
    "reopened_engines": "engines that broke down and were made anew",
    "reopened_sandboxes": "sandboxes that failed and were opened anew",
}
"""What `GroupRoller.counters` counts; those of the scorer come with ``scorer_`` before their names."""

_PATIENCE_S = 60.0
"""Seconds that an interrupted roll is given to let go of the model; rollouts end within a token or a block of code."""


@dataclass(frozen=True)
class _Works:
    """What lives in the roller's event loop."""

    sandboxes: Sandboxes
    scorer: Scorer


class GroupRoller:
    """Implements `thyme.train.grpo.groups.Roller`."""

    def __init__(
        self,
        policy: Policy,
        prompts: PromptSet,
        *,
        config: RolloutConfig,
        sandbox: SandboxConfig | OpenSandbox,
        rewards: RewardSettings,
        cache: Path | None = None,
        seed: int = 0,
        retries: int = 2,
        concurrency: int = 32,
        pause_s: float = 1.0,
    ) -> None:
        """Prepare; sandbox, judges and engine are opened with the first roll.

        Args:
            policy: What generates. It is closed with the roller.
            prompts: The words to ask with.
            config: Temperatures and bounds of a rollout.
            sandbox: Settings of the one that code runs in, or what opens it.
            rewards: What is paid for.
            cache: Folder of verdicts, where the settings name none.
            seed: Of the run.
            retries: How often a rollout is begun, or a score asked for, again.
            concurrency: Rollouts under way at once, each with a sandbox session once it runs code. More than the engine
                writes at once, so that it never waits for those whose code runs.
            pause_s: Seconds before scores are asked for again; they double each time.
        """
        self._policy, self._prompts, self._config = policy, prompts, config
        self._sandbox = sandbox
        self._rewards, self._cache = rewards, cache
        self._seed, self._retries, self._concurrency, self._pause_s = seed, retries, concurrency, pause_s
        self._background: Background[_Works] | None = None
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        """Counters of others when the step began."""
        self._step: int | None = None

    # --- called by the trainer ----------------------------------------------------------------------------------------

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        """See `thyme.train.grpo.groups.Roller.roll`.

        An interrupt ends the rollouts, and is raised once nobody asks the model any more.

        Raises:
            ConfigError: The model cannot be asked, or its prompts cannot be read.
            IsolationError: The sandbox is not to be had here.
            EngineError: The engine cannot be brought up to date.
        """
        if step != self._step:
            self._begin_counting(step)
        made = self._run(lambda works: self._roll(works, model, asked, step, group))
        self._counts["unscored"] += sum(reward is None for one in made for reward in one.rewards)
        return made

    @property
    def counters(self) -> dict[str, int]:
        """By `COUNTERS`, and the scorer's: of the last step, all of its rolls together, in this process."""
        others = self._others()
        others.subtract(self._before)
        return {name: self._counts[name] for name in COUNTERS if name not in others} | dict(others)

    @property
    def fingerprint(self) -> str:
        """Hash of what decides about rollouts and their rewards, weights and problems apart."""
        sandbox, judge = self._sandbox, self._rewards.judge
        code = sandbox.model_dump_json(exclude=NOT_OF_SANDBOX) if isinstance(sandbox, SandboxConfig) else ""
        judged = self._rewards.model_dump_json(exclude={"judge": NOT_OF_JUDGE | {"model"}, "own": True})
        parts = (
            self._policy.fingerprint,
            self._config.model_dump_json(),
            code,
            judged,
            "" if judge is None else judge.name,
            self._prompts.fingerprint,
            str(self._seed),
            *((own_fingerprint(self._rewards.own),) if self._rewards.own else ()),
        )
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

    def close(self) -> None:
        """End engine, sandbox and judges. To close twice is no error."""
        self._closed = True
        background, self._background = self._background, None
        if background is not None:
            try:
                background.call(self._policy.aclose)
            finally:
                background.end()

    def __enter__(self) -> Self:
        """The roller itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # --- between the threads ------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[_Works], Coroutine[Any, Any, T]]) -> T:
        """Do something in the event loop and wait until it is done, or has let go of everything."""
        background = self._opened()
        over = threading.Event()

        async def until_over() -> T:
            try:
                return await work(background.value)
            finally:
                over.set()

        future = background.submit(until_over)
        try:
            return background.result(future)
        except BaseException:  # an interrupt, mostly: the model is the caller's again when nobody uses it any more
            over.wait(_PATIENCE_S)
            raise

    def _opened(self) -> Background[_Works]:
        if self._closed:
            raise TrainingError("the roller is closed; make another one")
        if self._background is None:
            self._background = Background(self._works(), "roller", TrainingError)
        return self._background

    @asynccontextmanager
    async def _works(self) -> AsyncIterator[_Works]:
        sandbox = self._sandbox
        sandboxes = Sandboxes((lambda: open_sandbox(sandbox)) if isinstance(sandbox, SandboxConfig) else sandbox)
        try:
            async with open_scorer(self._rewards, cache=self._cache) as scorer:
                # What does not work at all is said before anything is rolled out.
                async with sandboxes.using():
                    await scorer.check()
                yield _Works(sandboxes, scorer)
        finally:
            await asyncio.shield(sandboxes.aclose())

    def _begin_counting(self, step: int) -> None:
        self._step = step
        self._counts.clear()
        self._before = self._others()

    def _others(self) -> Counter[str]:
        """What engine, sandbox and scorer have counted since they were made."""
        found = Counter({"reopened_engines": int(getattr(self._policy, "reopened", 0)), "reopened_sandboxes": 0})
        if self._background is not None:
            works = self._background.value
            found["reopened_sandboxes"] = works.sandboxes.reopened
            found.update({f"scorer_{name}": count for name, count in works.scorer.counters.items()})
        return found

    # --- in the event loop --------------------------------------------------------------------------------------------

    async def _roll(self, works: _Works, model: Any, asked: Sequence[Asked], step: int, group: int) -> list[Group]:
        places = asyncio.Semaphore(self._concurrency)
        async with self._policy.asking(model, step):
            try:
                async with asyncio.TaskGroup() as tasks:
                    rolled = [
                        [tasks.create_task(self._member(works, places, one, step, number)) for number in range(group)]
                        for one in asked
                    ]
            except ExceptionGroup as errors:  # mistakes; what can fail is on the records
                raise errors.exceptions[0] from errors
        members = await self._score_again(works, [task.result() for tasks in rolled for task in tasks])
        return [Group(one, tuple(members[place * group : (place + 1) * group])) for place, one in enumerate(asked)]

    async def _member(self, works: _Works, places: asyncio.Semaphore, asked: Asked, step: int, number: int) -> Member:
        """One rollout, begun again where it failed, and its score as soon as it has ended."""
        seed = member_seed(self._seed, step, asked.place, asked.attempt, number)
        name = f"{step:06d}-{asked.place:04d}-{asked.attempt}-{number}"
        begun = 0
        async with places:
            while True:
                begun += 1
                trajectory = await self._once(works, asked, f"{name}+{begun - 1}" if begun > 1 else name, seed, begun)
                if not _may_be_better(trajectory) or begun > self._retries:
                    break
                self._counts["retries"] += 1
        where = {"step": step, "place": asked.place, "attempt": asked.attempt, "member": number}
        trajectory = trajectory.model_copy(update={"id": name, "meta": {**trajectory.meta, "grpo": where}})
        return Member(trajectory, await self._score(works, trajectory), begun)

    async def _once(self, works: _Works, asked: Asked, name: str, seed: int, begun: int) -> Trajectory:
        """One rollout, whatever happens to it."""
        self._counts["rollouts"] += 1
        engine: Engine | None = None
        sandbox: Sandbox | None = None
        where: Literal["engine", "sandbox"] = "engine"
        try:
            engine = await self._policy.engine()
            where = "sandbox"
            async with works.sandboxes.using() as sandbox:
                where = "engine"
                trajectory = await rollout(
                    asked.problem, engine, sandbox, self._config, prompts=self._prompts, seed=seed, trajectory_id=name
                )
        except Exception as error:  # of opening what is needed, or a mistake: it costs this rollout, not the step
            if not isinstance(error, SandboxError):
                logger.exception("rollout %s failed", name)
            trajectory = self._failed(
                asked, name, seed, RolloutFailure(type=_name(error), message=str(error), where=where)
            )
        if trajectory.error is not None and trajectory.error.where != "prompt":
            self._counts[f"{trajectory.error.where}_failures"] += 1
            if trajectory.error.where == "sandbox" and (
                begun > 1 or trajectory.error.type != SandboxDiedError.__name__
            ):
                works.sandboxes.give_up(sandbox)  # of those that die, the sandbox itself makes new ones
        return trajectory

    def _failed(self, asked: Asked, name: str, seed: int, failure: RolloutFailure) -> Trajectory:
        draft = Draft(name, asked.problem, self._config, seed)
        draft.stop, draft.error = StopReason.ERROR, failure
        return draft.trajectory(EngineInfo(""), self._prompts.fingerprint)

    async def _score(self, works: _Works, trajectory: Trajectory) -> Score:
        try:
            return await works.scorer.score(trajectory)
        except Exception as error:  # a mistake of ours; it must not end the step, nor count as a 0
            logger.exception("trajectory %s could not be scored", trajectory.id)
            return Score(value=None, note=f"not scored: {_name(error)}: {error}")

    async def _score_again(self, works: _Works, members: list[Member]) -> list[Member]:
        """Have those scored that a judge failed at; nothing is rolled out again for it."""
        for attempt in range(self._retries):
            missing = [place for place, member in enumerate(members) if _may_be_scored(member)]
            if not missing:
                break
            await asyncio.sleep(self._pause_s * 2**attempt)
            self._counts["rescored"] += len(missing)
            scores = await asyncio.gather(*(self._score(works, members[place].trajectory) for place in missing))
            for place, score in zip(missing, scores, strict=True):
                members[place] = replace(members[place], score=score)
        return members


def _may_be_better(trajectory: Trajectory) -> bool:
    """Whether it is worth beginning again: what failed was not the question."""
    return trajectory.error is not None and trajectory.error.where != "prompt"


def _may_be_scored(member: Member) -> bool:
    """Whether its score may be had another time: it has an end, and something to compare it with."""
    trajectory = member.trajectory
    return (
        member.score.value is None and trajectory.stop is not StopReason.ERROR and trajectory.problem.answer is not None
    )


def _name(error: Exception) -> str:
    return type(error).__name__
