"""Ask many problems at once, score the answers, and go on where an earlier run was interrupted."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thyme.agent.draft import Draft
from thyme.agent.rollout import rollout
from thyme.config import RolloutConfig
from thyme.engines.base import Engine
from thyme.eval.summary import Sample
from thyme.markup import extract_answer
from thyme.prompts import PromptSet
from thyme.rewards.answer import score_answer
from thyme.sandbox.base import Sandbox
from thyme.store import append_trajectory, read_trajectories
from thyme.types import Problem, RolloutFailure, Score, StopReason, Trajectory

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = RolloutConfig()
SETTINGS_KEY = "evaluation"
"""Where `Trajectory.meta` says under which settings a trajectory was made."""


async def evaluate(
    problems: Sequence[Problem],
    engine: Engine,
    sandbox: Sandbox,
    config: RolloutConfig = DEFAULT_CONFIG,
    *,
    prompts: PromptSet | None = None,
    seed: int = 0,
    concurrency: int = 8,
    progress: bool = False,
    out: Path | None = None,
) -> list[Sample]:
    """Ask every problem once.

    A problem whose engine or sandbox fails is counted as failed and not scored, and does not disturb the others. It is
    not stored either, so that the next run asks it again.

    Args:
        problems: What to ask.
        engine: The model.
        sandbox: Runs its code.
        config: Temperatures and bounds.
        prompts: The words to ask with; None takes those of the checkpoint, else the package's.
        seed: Each problem's own seed is derived from this one and its id, not from its place in the list.
        concurrency: Rollouts that are under way at once.
        progress: Whether to show a bar with the accuracy so far on stderr.
        out: A JSON-lines file to which each trajectory is appended when it is finished. What it already holds, made
            with the same settings, is not asked again.

    Returns:
        The samples, in the order of the problems.

    Raises:
        ConfigError: The prompts cannot be read.
        StoreError: `out` cannot be read or written.
    """
    words = prompts or PromptSet.load(None if engine.info.prompts is None else Path(engine.info.prompts))
    run = _Run(engine, sandbox, config, words, seed, out, asyncio.Semaphore(concurrency))
    run.load({run.key(problem) for problem in problems})
    samples: dict[int, Sample] = {}

    async def ask(index: int, advance: Advance) -> None:
        samples[index] = await run.sample(problems[index], index)
        advance(samples[index])

    try:
        with _bar(len(problems), progress) as advance:
            async with asyncio.TaskGroup() as group:
                for index in range(len(problems)):
                    group.create_task(ask(index, advance))
    except ExceptionGroup as errors:  # of the store; a rollout's own failures never come this far
        raise errors.exceptions[0] from errors
    return [samples[index] for index in range(len(problems))]


def score_trajectory(trajectory: Trajectory) -> Score:
    """Score what a trajectory answered; not scored where the machinery failed or there is no reference."""
    if trajectory.stop is StopReason.ERROR:
        message = trajectory.error.message if trajectory.error is not None else "unknown"
        return Score(value=None, note=f"failed: {message}")
    return score_answer(trajectory.problem, extract_answer(trajectory.response))


def derive_seed(seed: int, problem: Problem) -> int:
    """Seed of one problem's rollout: 31 bits, by hash of the run's seed and the problem's id."""
    digest = hashlib.blake2b(f"{seed}/{problem.id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(slots=True)
class _Run:
    """What the samples of one run have in common."""

    engine: Engine
    sandbox: Sandbox
    config: RolloutConfig
    words: PromptSet
    seed: int
    out: Path | None
    places: asyncio.Semaphore
    done: dict[str, Trajectory] = field(default_factory=dict)
    """What an earlier run left, by key."""

    def load(self, keys: set[str]) -> None:
        """Read what an earlier run left of these."""
        if self.out is not None and self.out.exists():
            stored = ((t.meta.get(SETTINGS_KEY), t) for t in read_trajectories(self.out, skip_damaged=True))
            self.done = {key: trajectory for key, trajectory in stored if key in keys}

    def key(self, problem: Problem) -> str:
        """Name of everything that the trajectory of a problem depends on."""
        info = self.engine.info
        parts = (
            problem.model_dump_json(exclude={"answer", "meta"}),
            str([self.engine.seen_size(*image.size) for image in problem.images]),
            str(getattr(self.sandbox, "config", "")),  # limits and repairs; the contract does not promise them
            info.name,
            info.fingerprints.model_dump_json(),
            self.config.model_dump_json(),
            self.words.fingerprint,
            str(self.seed),
        )
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

    async def sample(self, problem: Problem, index: int) -> Sample:
        """Ask one problem, or take what is stored; its reference may have changed since."""
        key = self.key(problem)
        if key in self.done:
            trajectory = self.done[key].model_copy(update={"problem": problem})
            return Sample(trajectory, score_trajectory(trajectory))
        async with self.places:
            trajectory = await self._ask(problem, f"{problem.id}-{index}-{key[:8]}")  # other settings, another name
        trajectory = trajectory.model_copy(update={"meta": {**trajectory.meta, SETTINGS_KEY: key}})
        if self.out is not None and trajectory.stop is not StopReason.ERROR:
            append_trajectory(self.out, trajectory)
        return Sample(trajectory, score_trajectory(trajectory))

    async def _ask(self, problem: Problem, name: str) -> Trajectory:
        seed = derive_seed(self.seed, problem)
        return await ask_once(problem, self.engine, self.sandbox, self.config, self.words, seed, name)


async def ask_once(
    problem: Problem,
    engine: Engine,
    sandbox: Sandbox,
    config: RolloutConfig,
    words: PromptSet,
    seed: int,
    trajectory_id: str,
) -> Trajectory:
    """One rollout. What it did not foresee becomes a failure on the record, too, and a traceback in the log."""
    try:
        return await rollout(problem, engine, sandbox, config, prompts=words, seed=seed, trajectory_id=trajectory_id)
    except Exception as error:
        logger.exception("problem %s failed", problem.id)
        draft = Draft(trajectory_id, problem, config, seed)
        draft.stop = StopReason.ERROR
        draft.error = RolloutFailure(type=type(error).__name__, message=str(error), where="engine")
        return draft.trajectory(engine.info, words.fingerprint)


Advance = Callable[[Sample], None]


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Advance]:
    """A progress bar on stderr that also says how it goes."""
    columns = (TextColumn("asked"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[so_far]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("asked", total=total, so_far="")
        right, scored, failed = 0.0, 0, 0

        def advance(sample: Sample) -> None:
            nonlocal right, scored, failed
            failed += sample.failed
            if sample.score.value is not None:
                right, scored = right + sample.score.value, scored + 1
            told = f"{right / scored:.0%} right" if scored else ""
            progress.update(task, advance=1, so_far=told + (f", {failed} failed" if failed else ""))

        yield advance
