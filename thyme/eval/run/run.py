"""Ask everything that a run's folder does not hold yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from thyme.config import EngineConfig, SandboxConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.engines.base import Engine
from thyme.eval.arms import ARMS
from thyme.eval.counterfactual import DonorPool
from thyme.eval.items import TOOLS, ItemResult
from thyme.eval.judging import AnswerScorer, open_answer_scorer
from thyme.eval.manifest import RunManifest
from thyme.eval.run.asking import Asker, Streak
from thyme.eval.run.folder import JUDGE, Run, find_trajectories, read_items, read_manifest, read_run
from thyme.eval.run.ledger import Ledger
from thyme.eval.run.progress import Board, board
from thyme.eval.run.settings import chosen_arms, first_manifest, full_manifest, merged
from thyme.eval.run.sitting import Clock, agree, alone, most_shards, worked, write_manifest
from thyme.eval.run.sources import Shard, Source, each
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox

logger = logging.getLogger(__name__)

WHOLE = Shard()

OpenModel = Callable[[str, EngineConfig], Engine]
OpenSandbox = Callable[[SandboxConfig], AbstractAsyncContextManager[Sandbox]]


async def run_evaluation(
    config: EvaluationConfig,
    sources: Sequence[Source],
    out: Path,
    *,
    open_model: OpenModel,
    open_sandbox: OpenSandbox,
    prompts: PromptSet | None = None,
    shard: Shard = WHOLE,
    progress: bool = False,
) -> Run:
    """Ask every problem of every benchmark under every arm, unless the folder holds its item already.

    Args:
        config: Model, arms, bounds and seeds.
        sources: The benchmarks.
        out: The run's folder; see `thyme.eval.run.folder`.
        open_model: Loads a model, of this evaluation's settings and of the arm ``untrained``.
        open_sandbox: Starts a sandbox, one for each of the settings that arms need.
        prompts: The words to ask with; None takes those of the checkpoint, else the package's.
        shard: The part of the problems that this process asks.
        progress: Whether to show bars with the score so far on stderr.

    Returns:
        What the folder holds afterwards.

    Raises:
        UsageError: The folder holds a run with other settings (the message names them), or somebody works on it.
        NoVerdictError: The judge does not judge; nothing was asked.
        EngineError: Too many rollouts failed one after the other; what was asked is kept.
        StoreError: A file of the folder or of a benchmark cannot be read or written.
    """
    known = first_manifest(config, sources, prompts)
    with alone(out, shard), board(progress) as shown:
        if read_settings(out, known) and not _is_anything_left(out, config, sources, shard):
            return _finished(out)
        work = _Work(config, sources, out, open_model, open_sandbox, shard, shown, Clock(out, shard))
        await work.run(known, prompts)
        return _finished(out)


def read_settings(out: Path, known: RunManifest) -> bool:
    """Whether the folder holds a run, whose settings then fit what is known before a model is loaded.

    Raises:
        UsageError: They do not fit.
    """
    held = read_manifest(out)
    if held is not None:
        merged(held, known)
    return held is not None


def _is_anything_left(out: Path, config: EvaluationConfig, sources: Sequence[Source], shard: Shard) -> bool:
    """Whether any item of this process is missing or can be made again."""
    items = read_items(out)
    arms = chosen_arms(config)
    for source in sources:
        ledger = Ledger(out, source.benchmark.name, shard.number)
        ledger.take(items)
        if sum(map(shard.holds, ledger.settled_places(arms))) < _share(source, shard):
            return True
    return False


def _share(source: Source, shard: Shard) -> int:
    """How many of a benchmark's problems a process asks."""
    return len(range(shard.number, source.count, shard.of))


def _finished(out: Path) -> Run:
    """What the folder holds; a manifest of a finished run says how long it took."""
    run = read_run(out)
    if run.missing:
        return run
    told = {"seconds": round(worked(out), 1), "shards": most_shards(out)}
    if any(getattr(run.manifest, name) != value for name, value in told.items()):
        write_manifest(out, run.manifest.model_copy(update=told))
    return read_run(out)


@dataclass
class _Work:
    """One sitting of one process."""

    config: EvaluationConfig
    sources: Sequence[Source]
    out: Path
    open_model: OpenModel
    open_sandbox: OpenSandbox
    shard: Shard
    board: Board
    clock: Clock

    async def run(self, known: RunManifest, prompts: PromptSet | None) -> None:
        """Every stage: the measured model; what needs other problems' observations; the other model."""
        arms = [ARMS[name] for name in chosen_arms(self.config)]
        plain = tuple(arm.name for arm in arms if not (arm.needs_donor or arm.untrained))
        late = tuple(arm.name for arm in arms if arm.needs_donor)
        other = tuple(arm.name for arm in arms if arm.untrained)
        async with open_answer_scorer(self.config.judge, cache=self.out / JUDGE) as scorer:
            await scorer.check()
            async with self._opened(self.config.engine.model, (*plain, *late)) as (engine, sandboxes):
                own = engine.info.prompts
                words = prompts or PromptSet.load(None if own is None else Path(own))
                isolation = next(iter(sandboxes.values())).isolation
                manifest = agree(self.out, full_manifest(known, engine, isolation, words))
                stage = _Stage(self, engine, sandboxes, words, scorer)
                await stage.ask(plain)
                await stage.ask(late)
            if other and self.config.untrained is not None:
                async with self._opened(self.config.untrained, other) as (engine, sandboxes):
                    weights = {"untrained_fingerprint": engine.info.fingerprints.model}
                    agree(self.out, manifest.model_copy(update=weights))
                    await _Stage(self, engine, sandboxes, words, scorer).ask(other)
        self.clock.beat(last=True)

    @asynccontextmanager
    async def _opened(self, model: str, arms: Sequence[str]) -> AsyncIterator[tuple[Engine, Mapping[str, Sandbox]]]:
        """A model, and the sandbox of each arm; arms with the same settings share one."""
        async with AsyncExitStack() as stack:
            by_settings: dict[str, Sandbox] = {}
            sandboxes: dict[str, Sandbox] = {}
            for name in arms or (TOOLS,):
                settings = ARMS[name].sandbox_config(self.config.sandbox)
                key = settings.model_dump_json()
                if key not in by_settings:
                    by_settings[key] = await stack.enter_async_context(self.open_sandbox(settings))
                sandboxes[name] = by_settings[key]
            loaded = await asyncio.to_thread(self.open_model, model, self.config.engine)
            yield await stack.enter_async_context(aclosing(loaded)), sandboxes


@dataclass
class _Stage:
    """Some arms of every benchmark, asked of one model."""

    work: _Work
    engine: Engine
    sandboxes: Mapping[str, Sandbox]
    words: PromptSet
    scorer: AnswerScorer

    async def ask(self, arms: tuple[str, ...]) -> None:
        """Ask what is left."""
        if not arms:
            return
        items = read_items(self.work.out)
        streak = Streak(self.work.config.stop_after_failures)
        for source in self.work.sources:
            await self._ask(source, arms, items, streak)

    async def _ask(self, source: Source, arms: tuple[str, ...], items: list[ItemResult], streak: Streak) -> None:
        work, name = self.work, source.benchmark.name
        ledger = Ledger(work.out, name, work.shard.number)
        ledger.take(items)
        share = _share(source, work.shard)
        before = [item for item in ledger.items.values() if item.arm in arms and work.shard.holds(item.place)]
        advance = work.board.begin(name, share * len(arms), arms, before)
        settled = ledger.settled_places(arms)
        if sum(map(work.shard.holds, settled)) >= share:
            return
        await asyncio.to_thread(ledger.look_up, tuple(dict.fromkeys((TOOLS, *arms))))
        donors = await self._donors(source, arms, ledger)
        if donors is None and any(ARMS[arm].needs_donor for arm in arms):
            return

        def noted(item: ItemResult) -> None:
            advance(item)
            work.clock.beat()

        asker = Asker(
            benchmark=source.benchmark,
            ledger=ledger,
            config=work.config,
            engine=self.engine,
            sandboxes=self.sandboxes,
            words=self.words,
            scorer=self.scorer,
            on_item=noted,
            streak=streak,
            arms=arms,
            donors=donors,
        )
        wanted = source.read(lambda place: work.shard.holds(place) and place not in settled)
        await each(wanted, asker.ask, work.config.concurrency)

    async def _donors(self, source: Source, arms: tuple[str, ...], ledger: Ledger) -> DonorPool | None:
        """Whose observations may be shown to others: all that there will ever be, or nobody's yet."""
        if not any(ARMS[arm].needs_donor for arm in arms):
            return None
        if ledger.count(TOOLS) < source.count:
            logger.warning(
                "%s of %s waits until the other parts are asked with code; start this part again then, or the run "
                "without --shard",
                ", ".join(arms),
                source.benchmark.name,
            )
            return None
        found = await asyncio.to_thread(find_trajectories, self.work.out, source.benchmark.name, (TOOLS,))
        return await asyncio.to_thread(DonorPool.of, found.all())
