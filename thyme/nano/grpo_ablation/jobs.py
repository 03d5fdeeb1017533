"""The jobs of the ablation of GRPO-ATS: build a start; or train one arm from it with one seed, and ask it."""

from __future__ import annotations

import asyncio
import io
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from thyme.config import EngineConfig
from thyme.errors import ConfigError
from thyme.families import load_family
from thyme.nano.asked import GREEDY, ask, drawn, prompts
from thyme.nano.grpo_ablation.arms import ARMS, GRPOAblationSettings, StartName, rewards, sandbox
from thyme.nano.grpo_ablation.records import Count, GRPOArmResult, StartResult, count
from thyme.nano.grpo_ablation.starts import build
from thyme.nano.jobs import is_done, read_result_as, write_result
from thyme.nano.rl_problems import TrainingProblems
from thyme.nano.world import KINDS
from thyme.train.grpo.groups import Group
from thyme.train.grpo.policies import TransformersPolicy
from thyme.train.grpo.problems import ENDLESS
from thyme.train.grpo.records import Trained
from thyme.train.grpo.roller import GroupRoller
from thyme.train.grpo.train import MODEL, train_grpo
from thyme.train.run.checkpoint import load_model

BUILD = "build"
"""Stands for the arm in the job that makes a start."""
TEST_SEED = 980
"""Added to a run's seed it is that of its test problems."""


@dataclass(frozen=True)
class Job:
    """One start, or one arm of one seed from it. Passed to another process as it is."""

    start: StartName
    arm: str
    seed: int
    work: Path
    how: GRPOAblationSettings

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.start} start" if self.arm == BUILD else f"{self.start}, seed {self.seed}, {self.arm}"

    @property
    def folder(self) -> Path:
        """Where its checkpoint and its result lie."""
        return start_folder(self.work, self.start) if self.arm == BUILD else arm_folder(self)

    @property
    def after(self) -> Path | None:
        """Folder of the start."""
        return None if self.arm == BUILD else start_folder(self.work, self.start)


def start_folder(work: Path, start: str) -> Path:
    """Folder of a start's checkpoint and result."""
    return work / start / BUILD


def arm_folder(job: Job) -> Path:
    """Folder of an arm of a seed."""
    return job.work / job.start / f"seed-{job.seed}" / job.arm


def do(job: Job) -> None:
    """Do a job and write its result."""
    torch.set_num_threads(1)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # bars of loading weights would break into the run's own
    if job.arm == BUILD:
        write_result(job.folder, build(job.start, job.folder, job.work / "demonstrations", job.how))
    else:
        write_result(job.folder, _arm(job))


def read_start(folder: Path) -> StartResult:
    """The result of a build; raises as `thyme.nano.jobs.read_result_as`."""
    return read_result_as(StartResult, folder)


def read_arm(folder: Path) -> GRPOArmResult:
    """The result of an arm; raises as `thyme.nano.jobs.read_result_as`."""
    return read_result_as(GRPOArmResult, folder)


def take_start(given: Path, work: Path) -> None:
    """Use the start of another run instead of making one; its result says what it is.

    Args:
        given: Folder of the job that made it.
        work: Folder of this run; a start that it has already stays.

    Raises:
        ConfigError: There is none.
    """
    if not (is_done(given) and (given / MODEL / "model.safetensors").is_file()):
        raise ConfigError(f"'{given}' holds no start; name a folder such as RUN/weak/build of a run that made one")
    folder = start_folder(work, read_start(given).start)
    if not is_done(folder):
        shutil.copytree(given, folder, dirs_exist_ok=True)


def _arm(job: Job) -> GRPOArmResult:
    begun = time.monotonic(), _cpu_seconds()
    counts: list[Count] = []
    entropy: list[dict[str, float]] = []
    folder = start = start_folder(job.work, job.start) / MODEL
    if ARMS[job.arm].trained:
        shutil.rmtree(job.folder, ignore_errors=True)  # what an interrupted job left
        _train(job, start, counts, entropy)
        folder = job.folder / MODEL
    trained = time.monotonic(), _cpu_seconds()
    problems = drawn(TEST_SEED + job.seed, job.how.asked)
    ways = [(GREEDY, sandbox(repairs)) for repairs in (True, False)]
    asked, bare = asyncio.run(ask(folder, problems, prompts(), ways))
    return GRPOArmResult(
        start=job.start,
        arm=job.arm,
        seed=job.seed,
        counts=tuple(counts),
        entropy=tuple(entropy),
        train_seconds=round(trained[0] - begun[0], 1),
        cpu_seconds=round(trained[1] - begun[1], 1),
        ask_seconds=round(time.monotonic() - trained[0], 1),
        asked=asked,
        asked_bare=bare,
    )


def _train(job: Job, start: Path, counts: list[Count], entropy: list[dict[str, float]]) -> None:
    arm, family = ARMS[job.arm], load_family(start)

    def tell(step: int, trained: Trained, groups: Sequence[Group], _: dict[str, float]) -> None:
        counts.extend(count(step, groups))
        entropy.append(dict(trained.entropy))

    roller = GroupRoller(
        TransformersPolicy(family, EngineConfig(max_batch=64), name=job.start),
        prompts(),
        config=job.how.rollout(arm),
        sandbox=sandbox(arm.repairs),
        rewards=rewards(arm),
        seed=job.seed,
        concurrency=64,
    )
    with roller:
        train_grpo(
            TrainingProblems(job.seed, dict.fromkeys(KINDS, 1.0), ENDLESS),
            roller,
            load_model(start, dtype=torch.float32, attention="sdpa"),
            job.how.training(arm, job.seed),
            job.folder,
            base=start,
            family=family,
            tell=tell,
            console=Console(file=io.StringIO()),
        )


def _cpu_seconds() -> float:
    """Of this process, and of those it started that have ended."""
    return sum(
        use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
