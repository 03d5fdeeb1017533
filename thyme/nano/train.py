"""The whole training road of the embedded model, stage by stage, on a CPU.

Each stage leaves a file or folder in the work folder and is skipped when that is there, so a run that was interrupted
goes on where it stopped; a stage asked for by name is done anew, but for demonstrations: what is there of them stays.
Stages of perception end at a gate: if held-out answers are not right often enough, what comes next cannot work, and
the run stops and says so.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import torch
from tokenizers import Tokenizer
from torch import Tensor

from thyme.errors import ThymeError, UsageError
from thyme.nano import CHECKPOINTS
from thyme.nano.files import write_checkpoint
from thyme.nano.model import NanoConfig, NanoVL
from thyme.nano.perception.language import train_language
from thyme.nano.perception.questions import Phase
from thyme.nano.perception.rows import Encoder, features_of
from thyme.nano.perception.tower import AuxiliaryHeads, train_tower
from thyme.nano.perception.views import VIEW, Pool, make_pool
from thyme.nano.tokenizer import build_tokenizer
from thyme.nano.tuning import demonstrate_all, settings, tune
from thyme.nano.world import problem
from thyme.prompts import PromptSet

Stage = Literal["tower", "lists", "digits", "mixture", "polish", "demonstrations", "sft", "direct"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Report = Callable[[str], None]


class GateError(ThymeError):
    """A stage did not learn what the next one needs."""


@dataclass(frozen=True)
class Recipe:
    """How much of everything. The defaults are those of the shipped weights; see `docs/nano.md` for what differed."""

    views: int = 32_000
    held_out_views: int = 1500
    tower_steps: int = 2300
    tower_batch: int = 40
    language_steps: dict[Phase, int] = field(
        default_factory=lambda: {"lists": 300, "digits": 250, "mixture": 700, "polish": 400}
    )
    language_batch: int = 48
    demonstrations: int = 7350
    replayed: int = 2500
    tuning_steps: int = 1300
    tuning_batch: int = 16
    learning_rate: float = 1e-3
    gates: dict[Stage, tuple[str, float]] = field(
        default_factory=lambda: {
            "tower": ("character", 0.9),
            "lists": ("plates4", 0.6),
            "digits": ("crop", 0.8),
            "mixture": ("where4", 0.7),
            "polish": ("large", 0.85),
        }
    )
    """For each stage the held-out figure that counts, and what it must reach."""
    seed: int = 1


SMOKE = Recipe(
    views=60,
    held_out_views=40,
    tower_steps=3,
    tower_batch=8,
    language_steps={"lists": 2, "digits": 2, "mixture": 2, "polish": 2},
    language_batch=4,
    demonstrations=14,
    replayed=6,
    tuning_steps=2,
    tuning_batch=4,
    gates={},
)
"""Runs the whole road in a minute and learns nothing: for tests."""


@dataclass
class Road:
    """One run of the road."""

    work: Path
    """Where stages leave their results."""
    recipe: Recipe
    report: Report
    workers: int = 1
    """Processes that draw views."""
    threads: int = 1
    """Threads of the training itself; on a busy machine two are slower than one."""
    compile: bool = True
    """Whether to compile the tower; about 1.6 times as fast, needs a C++ compiler."""

    def run(self, only: Stage | None = None) -> None:
        """Do every stage whose result is missing, or one stage anew.

        Raises:
            GateError: A stage did not reach its gate.
            UsageError: What the stage builds on is missing.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(self.threads)
        for stage in STAGES if only is None else (only,):
            if only is None and self.result(stage).exists():
                self.report(f"{stage}: there already")
                continue
            started = time.monotonic()
            _DO[stage](self)
            self.report(f"{stage}: {(time.monotonic() - started) / 60:.1f} min")

    def result(self, stage: Stage) -> Path:
        """What a stage leaves behind."""
        names = {
            "polish": "base/model.safetensors",
            "demonstrations": "demonstrations.done",
            "sft": "final/model.safetensors",
            "direct": "direct/model.safetensors",
        }
        return self.work / names.get(stage, f"{stage}.pt")

    @cached_property
    def pool(self) -> Pool:
        """Views to train on."""
        return make_pool(self.work, "train", self.recipe.seed, self.recipe.views, self.workers)

    @cached_property
    def held_out(self) -> Pool:
        """Views to measure on."""
        return make_pool(self.work, "validation", self.recipe.seed, self.recipe.held_out_views, self.workers)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The shipped one, so that the checkpoints of different runs go together; built anew where there is none."""
        path, shipped = self.work / "tokenizer.json", CHECKPOINTS / "base" / "tokenizer.json"
        if not path.exists() and shipped.exists():
            shutil.copy(shipped, path)
        elif not path.exists():
            build_tokenizer(prompt_texts()).save(str(path))
        return Tokenizer.from_file(str(path))

    def needed(self, stage: Stage) -> Path:
        """Result of an earlier stage.

        Raises:
            UsageError: It is not there.
        """
        path = self.result(stage)
        if not path.exists():
            raise UsageError(f"the stage '{stage}' has to be done first: {path.name} is not in the work folder")
        return path

    def finish(self, stage: Stage, model: NanoVL, scores: dict[str, float]) -> None:
        """Keep a stage's weights as its result, or beside it where the next stage would be in vain.

        Raises:
            GateError: The figure that counts is too low.
        """
        kept = self.work / f"{stage}.below-gate.pt"
        _save(model.state_dict(), kept)
        name, needed = self.recipe.gates.get(stage, ("", 0.0))
        reached = scores.get(name, 1.0)
        if reached < needed:
            raise GateError(
                f"stage {stage} reached {name} {reached:.3f}, but {needed} is needed to go on; "
                f"its weights are in {kept.name}"
            )
        os.replace(kept, self.work / f"{stage}.pt")


def prompt_texts() -> list[str]:
    """The shipped prompts, filled in, for the tokenizer's corpus."""
    texts = []
    for which in ("final", "base"):
        prompts = PromptSet.load(CHECKPOINTS / which / "prompts")
        for task in (problem("train", -1, 0, "easy"), problem("train", -1, 0, "arithmetic")):
            system, user = prompts.render(task, [(VIEW, VIEW)] * len(task.images))
            texts += [system, user.replace(task.question, "").replace("<image>", "")]
    return texts


def _tower(road: Road) -> None:
    torch.manual_seed(road.recipe.seed)
    model = NanoVL(NanoConfig())
    heads = AuxiliaryHeads(model.config.hidden)
    if road.compile and shutil.which("g++"):
        model.visual.compile(dynamic=False)
    recipe = road.recipe
    scores = train_tower(
        model,
        heads,
        road.pool,
        road.held_out,
        steps=recipe.tower_steps,
        batch=recipe.tower_batch,
        report=road.report,
        seed=recipe.seed,
    )
    road.report(f"tower: {scores}")
    road.finish("tower", model, scores.by_head)


_BEFORE: dict[Phase, Stage] = {"lists": "tower", "digits": "lists", "mixture": "digits", "polish": "mixture"}


def _language(road: Road, phase: Phase) -> None:
    torch.manual_seed(road.recipe.seed)
    model = NanoVL(NanoConfig())
    model.load_state_dict(torch.load(road.needed(_BEFORE[phase]), weights_only=True))
    encoder = Encoder(road.tokenizer)
    scores = train_language(
        model,
        encoder,
        road.pool,
        _features(road, model, road.pool, "train"),
        (road.held_out, _features(road, model, road.held_out, "held-out")),
        phase,
        steps=road.recipe.language_steps[phase],
        batch=road.recipe.language_batch,
        report=road.report,
        decay=0.6 if phase in {"mixture", "polish"} else 0.2,
        every=100,
        seed=road.recipe.seed,
    )
    road.report(f"{phase}: {scores}")
    road.finish(phase, model, scores.by_question)
    if phase == "polish":
        write_checkpoint(road.work / "base", model, road.tokenizer, CHECKPOINTS / "base" / "prompts")


def _features(road: Road, model: NanoVL, pool: Pool, name: str) -> Tensor:
    """Features of a pool, kept beside the tower they came from."""
    path, tower = road.work / f"features-{name}.pt", road.needed("tower")
    if path.exists() and path.stat().st_mtime >= tower.stat().st_mtime:
        kept: Tensor = torch.load(path, weights_only=True, mmap=True)
        return kept
    features = features_of(model, pool.pixels)
    _save(features, path)
    return features


def _demonstrations(road: Road) -> None:
    prompts = PromptSet.load(CHECKPOINTS / "final" / "prompts")
    count = demonstrate_all(
        road.work / "demonstrations.jsonl",
        prompts,
        count=road.recipe.demonstrations,
        seed=road.recipe.seed,
        report=road.report,
    )
    road.result("demonstrations").write_text(f"{count}\n")


def _tune(road: Road, *, direct: bool) -> None:
    road.needed("polish")
    road.needed("demonstrations")
    out = road.work / ("direct" if direct else "final")
    recipe = road.recipe
    report = tune(
        road.work / "base",
        out,
        road.work / "demonstrations.jsonl",
        road.pool,
        settings(recipe.tuning_steps, recipe.tuning_batch, learning_rate=recipe.learning_rate, seed=recipe.seed),
        replayed=recipe.replayed,
        direct=direct,
    )
    if not direct:
        shutil.copytree(CHECKPOINTS / "final" / "prompts", out / "prompts", dirs_exist_ok=True)
    road.report(f"{out.name}: {report.steps} steps, {report.samples} samples, {report.seconds / 60:.1f} min")


def _save(value: object, path: Path) -> None:
    """Write so that a file that is there is whole."""
    part = path.with_suffix(".part")
    torch.save(value, part)
    os.replace(part, path)


_DO: dict[Stage, Callable[[Road], None]] = {
    "tower": _tower,
    "lists": lambda road: _language(road, "lists"),
    "digits": lambda road: _language(road, "digits"),
    "mixture": lambda road: _language(road, "mixture"),
    "polish": lambda road: _language(road, "polish"),
    "demonstrations": _demonstrations,
    "sft": lambda road: _tune(road, direct=False),
    "direct": lambda road: _tune(road, direct=True),
}
