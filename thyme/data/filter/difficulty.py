"""How often a model is right: rollouts with code and sandbox, as in training, and the band that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

from thyme.agent.rollout import rollout
from thyme.config import EngineConfig
from thyme.config.load import changed
from thyme.config.rl_filter import DifficultyStep
from thyme.data.factory.shuffle import number
from thyme.data.filter.attempts import Attempt, Attempts
from thyme.data.filter.records import Seen
from thyme.data.sources.lines import digest
from thyme.engines.base import Engine
from thyme.errors import EngineError
from thyme.markup import extract_answer
from thyme.prompts import PromptSet
from thyme.rewards import Scorer, open_scorer
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.types import Problem, StopReason, Trajectory

STEP: Final = "difficulty"
_TRIES: Final = 2
"""Rollouts of a sample that fail before it stays open until the next run."""

Waiting = Generator[tuple[Seen, Problem, str, list[int]], None, None]
"""Rows with their problems, the key of their attempts, and the samples that are missing."""
OpenModel = Callable[[str, EngineConfig], Engine]


@dataclass(frozen=True)
class Asking:
    """Who is asked, and how: whatever an attempt depends on beside the problem."""

    settings: DifficultyStep
    seed: int
    words: PromptSet | None = None
    """None: the model's own, else the package's."""
    model_fingerprint: str = ""
    """Hash of the model's files, where it has any here."""

    @property
    def fingerprint(self) -> str:
        """Hash of it."""
        told = self.settings.model_dump_json(include={"model", "engine", "rollout", "sandbox", "rewards"})
        words = (self.words or PromptSet.load()).fingerprint
        return digest([told, self.seed, words, self.words is None, self.model_fingerprint])

    def keys(self, rows: Iterable[Seen]) -> Iterator[tuple[Seen, str]]:
        """Rows with what their attempts are kept under."""
        asked = self.fingerprint
        for seen in rows:
            yield seen, digest([asked, seen.question, seen.choices, seen.images, seen.answer])


def with_pass_rates(rows: Iterable[Seen], asking: Asking, attempts: Attempts) -> Iterator[Seen]:
    """All rows; those that are still in with their pass rate, and dropped where it lies outside of the band.

    Raises:
        StoreError: The file of attempts is damaged.
    """
    settings = asking.settings
    for seen, key in asking.keys(rows):
        if not seen.kept:
            yield seen
            continue
        values = [one.value for sample, one in attempts.of(key).items() if sample < settings.samples]
        scored = [value for value in values if value is not None]
        if len(scored) < settings.samples:
            yield seen.drop(STEP, "unmeasured", f"{len(scored)} of {settings.samples} answers")
            continue
        rate = sum(scored) / len(scored)
        reason = why_not(rate, settings)
        measured = seen.model_copy(update={"pass_rate": rate})
        yield measured.drop(STEP, reason, f"{rate:.0%} of {len(scored)} right") if reason else measured


def why_not(rate: float, settings: DifficultyStep) -> str:
    """Why a problem with this pass rate is dropped; empty where it is kept."""
    if rate == 0 and not settings.extremes:
        return "all_wrong"
    if rate == 1 and not settings.extremes:
        return "all_right"
    if rate < settings.low:
        return "too_hard"
    return "too_easy" if rate > settings.high else ""


def unmeasured(rows: Iterable[Seen], asking: Asking, attempts: Attempts) -> Iterator[tuple[Seen, str, list[int]]]:
    """Rows that are still in and lack attempts, with their key and the samples that are missing."""
    for seen, key in asking.keys(row for row in rows if row.kept):
        known = attempts.of(key)
        if missing := [sample for sample in range(asking.settings.samples) if sample not in known]:
            yield seen, key, missing


@dataclass
class _Open:
    engine: Engine
    sandbox: Sandbox
    scorer: Scorer
    words: PromptSet


@dataclass
class Measuring:
    """Asks for the attempts that are missing, and keeps each as soon as it is there."""

    asking: Asking
    attempts: Attempts
    on_progress: Callable[[int], None]
    """Hears of rollouts that are done."""
    failures: int = 0
    """One after the other."""

    async def run(self, waiting: Waiting, open_model: OpenModel) -> None:
        """Ask until nothing is missing but what failed.

        Args:
            waiting: What to ask; read in a thread of its own, few at a time, and closed.
            open_model: Loads the model.

        Raises:
            EngineError: The model cannot be asked, or too many rollouts failed one after the other.
            SandboxError: There is no sandbox.
            UsageError: There is no such model.
        """
        settings = self.asking.settings
        problems = asyncio.Semaphore(1 + ceil(settings.concurrency / settings.samples))
        rollouts = asyncio.Semaphore(settings.concurrency)
        loop = asyncio.get_running_loop()
        async with _opened(self.asking, open_model) as opened:
            with ThreadPoolExecutor(1) as reader:
                try:
                    async with asyncio.TaskGroup() as group:
                        while True:
                            await problems.acquire()
                            one = await loop.run_in_executor(reader, next, waiting, None)
                            if one is None:
                                break
                            task = group.create_task(self._problem(opened, rollouts, *one[1:]))
                            task.add_done_callback(lambda _: problems.release())
                except ExceptionGroup as errors:
                    raise _first(errors) from errors
                finally:
                    reader.submit(waiting.close)  # in the thread where it was begun, as its databases demand

    async def _problem(
        self, opened: _Open, rollouts: asyncio.Semaphore, problem: Problem, key: str, missing: list[int]
    ) -> None:
        async def sample(place: int) -> None:
            async with rollouts:
                await self._sample(opened, problem, key, place)
            self.on_progress(1)

        async with asyncio.TaskGroup() as group:
            for place in missing:
                group.create_task(sample(place))

    async def _sample(self, opened: _Open, problem: Problem, key: str, place: int) -> None:
        seed = number("attempt", self.asking.seed, key, place) >> 33
        for attempt in range(_TRIES):
            made = await rollout(
                problem,
                opened.engine,
                opened.sandbox,
                self.asking.settings.rollout,
                prompts=opened.words,
                seed=seed,
                trajectory_id=f"{key}-{place}-{attempt}",
            )
            if made.stop is not StopReason.ERROR:
                self.failures = 0
                score = await opened.scorer.score(made)
                value = score.parts.get("result")
                if value is not None:  # a judge that is out is asked again in the next run
                    self.attempts.add(key, place, _attempt(made, max(0.0, value)))
                return
            self._failed(made)

    def _failed(self, made: Trajectory) -> None:
        self.failures += 1
        limit = self.asking.settings.stop_after_failures
        if limit and self.failures >= limit:
            error = made.error
            told = f"the {error.where}: {error.message}" if error is not None else "unknown"
            raise EngineError(
                f"{self.failures} rollouts failed one after the other, the last because of {told}; what was answered "
                "is kept, and the same command goes on from there (difficulty.stop_after_failures=0 never gives up)"
            )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _attempt(made: Trajectory, value: float) -> Attempt:
    return Attempt(
        value,
        extract_answer(made.response) or "",
        str(made.stop),
        made.usage.rounds,
        made.usage.generated_tokens,
        round(made.timings.total_s, 3),
    )


@asynccontextmanager
async def _opened(asking: Asking, open_model: OpenModel) -> AsyncIterator[_Open]:
    settings = asking.settings
    async with AsyncExitStack() as held:
        config = changed(settings.engine, {"model": settings.model}, "difficulty")
        engine = await asyncio.to_thread(open_model, settings.model, config)
        held.push_async_callback(engine.aclose)
        sandbox = await held.enter_async_context(open_sandbox(settings.sandbox))
        scorer = await held.enter_async_context(open_scorer(settings.rewards))
        own = engine.info.prompts
        words = asking.words or PromptSet.load(None if own is None else Path(own))
        yield _Open(engine, sandbox, scorer, words)
