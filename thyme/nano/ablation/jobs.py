"""One arm of one seed of the ablation: train it, measure its loss on held-out demonstrations, ask it fresh problems."""

from __future__ import annotations

import asyncio
import io
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from thyme.config import SFTSettings
from thyme.families import Family, load_family
from thyme.nano import CHECKPOINTS, checkpoint_path
from thyme.nano.ablation.arms import ARMS, AblationSettings, Arm
from thyme.nano.ablation.rows import Shown, held_out, masked, samples
from thyme.nano.asked import Outcome, ask, drawn, prompts
from thyme.nano.jobs import read_result_as, write_result
from thyme.nano.tuning import load_for_training, settings
from thyme.train.batches.vision import FreshPixels
from thyme.train.encode import Encoded, MaskPolicy
from thyme.train.sft import train_sft

TEST_SEED = 900
"""Added to a run's seed it is that of its test problems; `thyme nano eval` asks others unless told to."""


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
    def name(self) -> str:
        """In words."""
        return f"seed {self.seed}, {self.arm}"

    @property
    def folder(self) -> Path:
        """Where its checkpoint and its result lie."""
        return job_folder(self.work, self.seed, self.arm)

    @property
    def after(self) -> Path | None:
        """Folder of the arm that it starts from."""
        start = ARMS[self.arm].after
        return None if start is None else job_folder(self.work, self.seed, start)


def job_folder(work: Path, seed: int, arm: str) -> Path:
    """Folder of a job."""
    return work / f"seed-{seed}" / arm


def read_result(folder: Path) -> ArmResult:
    """The result of a job; raises as `thyme.nano.jobs.read_result_as`."""
    return read_result_as(ArmResult, folder)


def do(job: Job) -> None:
    """Train one arm of one seed, unless that is done, measure it, and write its result."""
    torch.set_num_threads(1)
    base = checkpoint_path("base")
    family = load_family(base)
    report = _train(job, base, family)
    started = time.monotonic()
    shown = held_out(job.work, job.how.held_out, prompts())
    nll = held_out_nll(job.folder, family, [(t.problem.kind, masked(t, family, MaskPolicy.ALL)) for t in shown])
    (outcomes,) = asyncio.run(ask(job.folder, drawn(TEST_SEED + job.seed, job.how.problems), prompts()))
    result = ArmResult(
        arm=job.arm,
        seed=job.seed,
        nll=nll,
        outcomes=outcomes,
        ask_seconds=round(time.monotonic() - started, 1),
        **report,
    )
    write_result(job.folder, result)


def _train(job: Job, base: Path, family: Family) -> dict[str, Any]:
    arm = ARMS[job.arm]
    start = job.after or checkpoint_path(arm.weights)
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


def held_out_nll(folder: Path, family: Family, shown: Sequence[tuple[str, Encoded]]) -> dict[str, float]:
    """Mean negative log-likelihood of the targets of samples, by kind.

    Args:
        folder: The checkpoint.
        family: Its family.
        shown: Kind of each sample, and the sample.

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
