"""Table 5 of the paper in miniature: what the masks and the annealing of the fine-tuning do to the embedded model.

Every arm of every seed is one job: train from the shipped base (or on from another arm), measure the loss on held-out
demonstrations, ask fresh problems with the package's own runner. A job leaves its result as a file, and a run that was
interrupted goes on with the jobs that have none.
"""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from thyme.config import EngineConfig, RolloutConfig, SFTSettings
from thyme.engines import open_engine
from thyme.errors import ConfigError, EngineError, UsageError
from thyme.eval.runner import evaluate
from thyme.eval.summary import Sample
from thyme.families import Family, load_family
from thyme.markup import extract_answer
from thyme.nano import CHECKPOINTS, checkpoint_path
from thyme.nano.ablation_arms import ARMS, AblationSettings, Arm
from thyme.nano.ablation_rows import (
    Shown,
    digest,
    held_out,
    masked,
    replay_pool,
    samples,
    shown_anew,
    shown_from,
)
from thyme.nano.tuning import load_for_training, settings
from thyme.nano.world import KINDS, problems
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.train.encode import MaskPolicy
from thyme.train.sft import train_sft
from thyme.train.vision import FreshPixels

RESULT = "result.json"
SETTINGS = "ablation.json"
TEST_SEED = 900
"""Added to a run's seed it is that of its test problems; `thyme nano eval` asks others unless told to."""
CHUNK = 50
"""Problems whose pictures are in memory at a time, about 3 MB each."""


class Outcome(BaseModel):
    """What became of one test problem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    right: float
    labels: float
    """Share of the reference's words that stand at their place in the answer."""
    blocks: int
    """Code blocks that were run."""
    ran: int
    """Those of them that ended without an error."""


class ArmResult(BaseModel):
    """What one job found; ``result.json`` in its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    seed: int
    samples: int
    tokens: int
    """Of all samples, once each."""
    trained_tokens: int
    """Those of them that are targets."""
    steps: int
    train_seconds: float
    ask_seconds: float
    """Of loading the model, drawing the problems and asking them."""
    last_loss: float
    """Of training, nats a target; the arms have other targets, so these do not compare."""
    nll: dict[str, float]
    """By kind: nats a token that the teacher wrote, in held-out demonstrations; the same tokens for every arm."""
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Job:
    """One arm of one seed. Passed to another process as it is."""

    arm: str
    seed: int
    work: Path
    how: AblationSettings
    shown: Shown

    @property
    def folder(self) -> Path:
        """Where its checkpoint and its result lie."""
        return job_folder(self.work, self.seed, self.arm)


def job_folder(work: Path, seed: int, arm: str) -> Path:
    """Folder of a job."""
    return work / f"seed-{seed}" / arm


def run(
    work: Path,
    how: AblationSettings,
    *,
    seeds: Sequence[int],
    arms: Sequence[str],
    demonstrations: Path | None = None,
    workers: int = 1,
    console: Console | None = None,
) -> list[ArmResult]:
    """Do every job that has no result yet.

    Args:
        work: Folder of the run.
        how: How much of everything; a folder keeps to the settings it was begun with.
        seeds: Positive, one or several.
        arms: Names in `ARMS`; the arm that one of them starts from is added.
        demonstrations: A file to take the seeds' demonstrations from; None has them made, which takes longer.
        workers: Jobs that run at a time, each in a process of its own.
        console: Where progress is shown; None is standard error.

    Returns:
        All results that were asked for, by seed and in the order of `ARMS`.

    Raises:
        UsageError: An arm is unknown, a seed is not positive or comes twice, or the file is too short.
        ConfigError: The folder holds a run with other settings.
    """
    chosen = _with_their_starts(arms)
    if min(seeds, default=0) < 1 or len(set(seeds)) < len(seeds):
        raise UsageError("seeds are different whole numbers from 1 on, e.g. --seeds 1,2,3")
    work.mkdir(parents=True, exist_ok=True)
    _keep_settings(work, how, demonstrations)
    console = console or Console(stderr=True)
    shown = {seed: _shown(work, how, seed, demonstrations, console) for seed in seeds}
    todo = [  # arm by arm, so that what is there of an unfinished run is whole arms
        Job(arm, seed, work, how, shown[seed])
        for arm in chosen
        for seed in seeds
        if not (job_folder(work, seed, arm) / RESULT).exists()
    ]
    if todo:
        replay_pool(work, how.views)
        held_out(work, how.held_out, _prompts())
        _do_all(todo, workers, console, total=len(seeds) * len(chosen))
    return [read_result(job_folder(work, seed, arm)) for seed in seeds for arm in chosen]


def read_result(folder: Path) -> ArmResult:
    """The result of a job.

    Raises:
        ConfigError: It is of another version.
    """
    try:
        return ArmResult.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{folder.name}/{RESULT} cannot be read; remove the folder to have it done anew") from error


def _with_their_starts(arms: Iterable[str]) -> list[str]:
    wanted = set(arms)
    if unknown := sorted(wanted - set(ARMS)) or ([] if wanted else ["nothing"]):
        raise UsageError(f"no such arm: {', '.join(unknown)}; there are {', '.join(ARMS)}")
    wanted |= {start for name in wanted if (start := ARMS[name].after) is not None}
    return [name for name in ARMS if name in wanted]


def _keep_settings(work: Path, how: AblationSettings, demonstrations: Path | None) -> None:
    described = how.model_dump_json(indent=2) + "\n"
    described += f"demonstrations: {'made' if demonstrations is None else digest(demonstrations)}\n"
    kept = work / SETTINGS
    if not kept.exists():
        kept.write_text(described, encoding="utf-8")
    elif kept.read_text(encoding="utf-8") != described:
        raise ConfigError(f"'{work.name}' holds a run with other settings or demonstrations; choose another --out")


def _shown(work: Path, how: AblationSettings, seed: int, given: Path | None, console: Console) -> Shown:
    if given is not None:
        return shown_from(given, seed, how.demonstrations)
    return shown_anew(work, seed, how.demonstrations, _prompts(), lambda line: console.print(f"seed {seed}: {line}"))


def _prompts() -> PromptSet:
    return PromptSet.load(CHECKPOINTS / "final" / "prompts")


# --- jobs -------------------------------------------------------------------------------------------------------------


def _do_all(todo: list[Job], workers: int, console: Console, *, total: int) -> None:
    """Do the jobs, an arm after the one that it starts from."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("trained and asked", total=total, completed=total - len(todo))

        def finished(job: Job) -> None:
            bar.advance(task)
            bar.console.print(f"seed {job.seed}, {job.arm}: {_in_words(read_result(job.folder))}")

        if workers == 1:
            for job in todo:
                do(job)
                finished(job)
        else:
            _do_in_processes(todo, workers, finished)


def _do_in_processes(todo: list[Job], workers: int, finished: Any) -> None:
    waiting, running = list(todo), dict[Future[None], Job]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        while waiting or running:
            while len(running) < workers and (job := next(filter(_ready, waiting), None)) is not None:
                waiting.remove(job)
                running[pool.submit(do, job)] = job
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                finished(running.pop(future))


def _ready(job: Job) -> bool:
    start = ARMS[job.arm].after
    return start is None or (job_folder(job.work, job.seed, start) / RESULT).exists()


def _in_words(result: ArmResult) -> str:
    shares = {
        kind: np.mean([outcome.right for outcome in result.outcomes if outcome.kind == kind])
        for kind in dict.fromkeys(outcome.kind for outcome in result.outcomes)
    }
    return ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in shares.items())


def do(job: Job) -> None:
    """Train one arm of one seed, unless that is done, measure it, and write its result."""
    torch.set_num_threads(1)
    base = checkpoint_path("base")
    family = load_family(base)
    report = _train(job, base, family)
    started = time.monotonic()
    shown = held_out(job.work, job.how.held_out, _prompts())
    nll = held_out_nll(job.folder, family, [(t.problem.kind, masked(t, family, MaskPolicy.ALL)) for t in shown])
    outcomes = asyncio.run(_ask(job))
    result = ArmResult(
        arm=job.arm,
        seed=job.seed,
        nll=nll,
        outcomes=tuple(outcomes),
        ask_seconds=round(time.monotonic() - started, 1),
        **report,
    )
    part = job.folder / f"{RESULT}.part"
    part.write_text(result.model_dump_json() + "\n", encoding="utf-8")
    os.replace(part, job.folder / RESULT)


def _train(job: Job, base: Path, family: Family) -> dict[str, Any]:
    arm = ARMS[job.arm]
    start = base if arm.after is None else job_folder(job.work, job.seed, arm.after)
    rows = samples(
        job.shown,
        family,
        arm.mask,
        arm.theme,
        work=job.work,
        views=job.how.views,
        replayed=job.how.replayed,
        seed=job.seed,
    )
    shutil.rmtree(job.folder, ignore_errors=True)  # what an interrupted job left
    model = load_for_training(start)
    quiet = Console(file=io.StringIO())
    report = train_sft(
        rows, model, trainer_settings(arm, job.how, job.seed), job.folder, base=base, family=family, console=quiet
    )
    shutil.copytree(CHECKPOINTS / "final" / "prompts", job.folder / "prompts", dirs_exist_ok=True)
    return {
        "samples": report.samples,
        "tokens": report.tokens,
        "trained_tokens": report.trained_tokens,
        "steps": report.steps,
        "train_seconds": report.seconds,
        "last_loss": report.curve[-1].loss,
    }


def trainer_settings(arm: Arm, how: AblationSettings, seed: int) -> SFTSettings:
    """How an arm is trained; arms that start from the base differ in nothing here."""
    from_base = arm.after is None
    rate = how.learning_rate * (1.0 if from_base else how.annealing_rate)
    steps = how.steps if from_base else how.annealing_steps
    # A stage that goes on from another one must not begin with that one's weights rounded.
    return settings(steps, how.batch, learning_rate=rate, seed=seed).model_copy(update={"save_dtype": None})


def held_out_nll(folder: Path, family: Family, shown: Sequence[tuple[str, Any]]) -> dict[str, float]:
    """Mean negative log-likelihood of the targets of samples, by kind.

    Args:
        folder: The checkpoint.
        family: Its family.
        shown: Kind and `thyme.train.encode.Encoded` of each sample.

    Returns:
        Nats a target by kind, every target of a kind counted alike.
    """
    model = load_for_training(folder).eval()
    pixels = FreshPixels(family)
    sums: dict[str, list[float]] = {}
    for kind, sample in shown:
        ids = torch.from_numpy(sample.ids).long()[None]
        inputs: dict[str, torch.Tensor] = {"mm_token_type_ids": (ids == family.image_token_id).int()}
        if sample.images:
            inputs |= {"pixel_values": pixels(sample.images), "image_grid_thw": torch.tensor(sample.grids)}
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits[0, :-1]
        targets = torch.from_numpy(sample.loss_mask[1:])
        each = torch.nn.functional.cross_entropy(logits[targets].float(), ids[0, 1:][targets], reduction="none")
        sums.setdefault(kind, []).extend(each.tolist())
    return {kind: float(np.mean(each)) for kind, each in sums.items()}


async def _ask(job: Job) -> list[Outcome]:
    """Ask a seed's test problems: greedily, with code in the sandbox.

    Raises:
        EngineError: The machinery failed on some of them, so that the figures would not compare.
    """
    outcomes: list[Outcome] = []
    rollout = RolloutConfig(max_round_tokens=256, max_tokens=768)
    engine = open_engine(str(job.folder), EngineConfig(max_batch=32))
    try:
        async with open_sandbox() as sandbox:
            for kind in KINDS:
                drawn = problems("test", TEST_SEED + job.seed, job.how.problems, (kind,))
                while chunk := list(islice(drawn, CHUNK)):
                    asked = await evaluate(chunk, engine, sandbox, rollout, prompts=_prompts(), concurrency=32)
                    outcomes += [_outcome(sample) for sample in asked]
    finally:
        await engine.aclose()
    return outcomes


def _outcome(sample: Sample) -> Outcome:
    trajectory = sample.trajectory
    if sample.score.value is None:
        raise EngineError(f"{trajectory.problem.id} could not be asked ({sample.score.note}); run the command again")
    runs = [observation.execution for observation in trajectory.observations]
    return Outcome(
        id=trajectory.problem.id,
        kind=trajectory.problem.kind,
        right=sample.score.value,
        labels=labels_right(trajectory.problem.answer or "", extract_answer(trajectory.response)),
        blocks=len(runs),
        ran=sum(1 for execution in runs if execution.error is None),
    )


def labels_right(reference: str, answer: str | None) -> float:
    """Share of the words of a reference that stand at their place in an answer."""
    expected, said = reference.split(), (answer or "").split()
    return sum(a == b for a, b in zip(expected, said, strict=False)) / max(len(expected), 1)


def by_arm(results: Sequence[ArmResult]) -> Mapping[str, dict[int, ArmResult]]:
    """Results by arm and seed, arms in their order."""
    found: dict[str, dict[int, ArmResult]] = {name: {} for name in ARMS}
    for result in results:
        found[result.arm][result.seed] = result
    return {name: seeds for name, seeds in found.items() if seeds}
