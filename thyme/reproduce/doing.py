"""What each kind of step does, with the package's own parts; everything that needs torch stands behind these."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from thyme.config import SandboxConfig
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.load import load
from thyme.config.rollout import RepetitionConfig, RolloutConfig
from thyme.config.sandbox import ALL_REPAIRS
from thyme.config.sft_recipe import SFTRecipe
from thyme.nano import CHECKPOINTS, checkpoint_path
from thyme.nano.asked import Outcome, ask, drawn
from thyme.nano.evaluate import measure
from thyme.nano.rl_problems import training_problems
from thyme.nano.sources import NANO, nano_readers
from thyme.prompts import PromptSet
from thyme.reproduce import ablations, starts
from thyme.reproduce.runner import Doing
from thyme.sandbox.bench import measure as measure_sandbox
from thyme.train.grpo.run import run_grpo
from thyme.train.sft.run import run_sft

Figures = dict[str, Any]
WORDS = CHECKPOINTS / "final" / "prompts"
"""The prompt files that everything here but the baseline is taught and asked with."""
TEST_SEED = 1000
"""Added to a run's seed it is that of its test problems; the ablations and `thyme nano eval` ask others."""
SHIPPED = ("base", "undecided")
"""Arms that are weights of this repository."""
FOLDERS = {
    "blocked": "run/arithmetic",
    "sft": "run/arithmetic",
    "bare": "run/arithmetic",
    "direct": "model",
    "rl": "run/model",
    "rl-code": "run/model",
    "when": "run/model",
    "rl-loop": "run/model",
    "rl-loop-off": "run/model",
    "loop": "model",
    "loop-off": "model",
    "careless": "made/model",
    "careless-bare": "made/model",
}
"""Where the weights of an arm lie in the folder of the step that it builds on."""
LOOP_TOKENS = 768
"""Of a rollout from the looping start while it is trained: `@nano_grpo`'s own bound cuts before the stop can fire."""
_QUIET = Console(file=io.StringIO())
disable_progress_bar()  # type: ignore[no-untyped-call]  # bars of loading weights would break into what is told


def sft_recipe(settings: dict[str, Any]) -> SFTRecipe:
    """`@nano_sft` with a step's sizes and seed; evaluations are steps of their own."""
    said = {
        "train.seed": settings["seed"],
        "train.device": "auto",
        "stages.images.data.demonstrations.limit": settings["demonstrations"],
        "stages.images.data.demonstrations.seed": settings["seed"],
        "stages.images.data.perception.limit": settings["perception"],
        "stages.images.data.perception.seed": settings["seed"],
        "stages.arithmetic.data.demonstrations.limit": settings["arithmetic"],
        "stages.arithmetic.data.demonstrations.seed": settings["seed"],
        "stages.images.train.epochs": settings.get("epochs", 1),
        "stages.arithmetic.train.epochs": min(2, settings.get("epochs", 1)),
        "train.batch_size": settings.get("batch", 16),
    }
    recipe = load("@nano_sft", [f"{name}={value}" for name, value in said.items()], SFTRecipe)
    return recipe.model_copy(update={"evaluation": None})


def grpo_recipe(settings: dict[str, Any]) -> GRPORecipe:
    """`@nano_grpo` with a step's sizes and seed.

    ``stop`` among the settings: from the looping start, with room to loop in. ``code``: plain GRPO, which samples code
    at temperature 1 and trains on its tokens.
    """
    looping = "stop" in settings
    said = {
        **({"rollout.code_temperature": 1.0, "train.code_policy": "keep"} if settings.get("code") else {}),
        **({"rollout.max_round_tokens": LOOP_TOKENS, "rollout.max_tokens": LOOP_TOKENS} if looping else {}),
        "train.max_steps": settings["steps"],
        "train.problems": settings["rollouts"],
        "train.group": settings["rollouts"],
        "train.batch_size": min(16, settings["rollouts"] ** 2),
        "train.seed": settings["seed"],
        "train.device": "auto",
        "data.world.seed": settings["seed"],
        "rollout.repetition.variant": "rolling" if settings.get("stop", True) else "off",
    }
    recipe = load("@nano_grpo", [f"{name}={value}" for name, value in said.items()], GRPORecipe)
    return recipe.model_copy(update={"evaluation": None})


def data(doing: Doing) -> Figures:
    """Draw the demonstrations, whose code runs in the sandbox, and the questions of perception."""
    recipe = sft_recipe(doing.settings)
    reader = readers(doing.folder)[NANO]
    found = {}
    for stage, part in recipe.stages.items():
        for name, source in part.data.items():
            rows = reader(source)
            rows[0]  # draws all that is missing
            found[f"{stage}/{name}"] = {"rows": len(rows), "sha256": _sha256(rows.path)}
    return {"sources": found}


def readers(folder: Path) -> dict[str, Any]:
    """Readers of what a step of data drew."""
    return nano_readers(folder / "rows", checkpoint_path("base"), PromptSet.load(WORDS), lambda _: None)


def sft(doing: Doing) -> Figures:
    """Fine-tune the shipped base in two stages, as ``thyme sft @nano_sft`` does."""
    out = doing.folder / "run"
    report = run_sft(
        sft_recipe(doing.settings),
        "nano_sft",
        out,
        model=checkpoint_path("base"),
        prompts=WORDS,
        readers=readers(doing.store.work(doing.step.inputs[0])),
        resume=out.exists(),
        console=_QUIET,
    )
    stages = {s.name: {"steps": s.steps, "samples": s.samples, "loss": s.curve[-1].loss} for s in report.stages}
    return {"stages": stages, "device": report.device, "weights": _sha256(out / "arithmetic" / "model.safetensors")}


def direct(doing: Doing) -> Figures:
    """Train the same base on the same problems and for as many steps to answer at once."""
    sources = [source for part in sft_recipe(doing.settings).stages.values() for source in part.data.values()]
    reader = readers(doing.store.work(doing.step.inputs[0]))[NANO]
    out = doing.folder / "model"
    report = starts.train_direct((row for source in sources for row in reader(source)), doing.settings, out)
    return {"steps": report.steps, "samples": report.samples, "weights": _sha256(out / "model.safetensors")}


def reinforce(doing: Doing) -> Figures:
    """Train by reinforcement, as ``thyme grpo @nano_grpo`` does, from where the step says."""
    before = next(iter(doing.step.inputs), None)
    inner = "model" if doing.step.kind == "rl-looping" else "run/arithmetic"
    start = checkpoint_path("undecided") if before is None else doing.store.work(before) / inner
    out = doing.folder / "run"
    recipe = grpo_recipe(doing.settings).model_copy(update={"model": before or "nano:undecided"})
    report = run_grpo(
        recipe,
        "nano_grpo",
        out,
        model=start,
        prompts=WORDS,
        readers={NANO: training_problems},
        resume=(out / "steps.jsonl").exists(),
        console=_QUIET,
    )
    curves = {name: [step.metrics.get(name) for step in report.steps] for name in CURVES}
    return {
        "steps": len(report.steps),
        "device": report.device,
        "curves": curves,
        "weights": _sha256(out / "model" / "model.safetensors"),
    }


CURVES = ("length/generated", "stop/truncated", "stop/repetition")
"""Metrics of the steps that are kept, where a run has them."""


def way(arm: str, max_tokens: int) -> tuple[RolloutConfig, SandboxConfig]:
    """How an arm is asked: greedily, but for the looping start, which is sampled as in training."""
    rollout = RolloutConfig(
        tools=arm not in {"blocked", "direct"},
        text_temperature=1.0 if arm in {"loop", "loop-off"} else 0.0,
        max_round_tokens=max_tokens if "loop" in arm else min(256, max_tokens),
        max_tokens=max_tokens,
        repetition=RepetitionConfig(variant="off" if arm == "loop-off" else "rolling"),
    )
    return rollout, SandboxConfig(repairs=() if arm in {"bare", "careless-bare"} else ALL_REPAIRS)


def asked(doing: Doing) -> Figures:
    """Ask the test problems of a seed, the same for all arms."""
    arm, how = doing.settings["arm"], doing.settings
    ours = CHECKPOINTS / arm if arm in SHIPPED else None
    folder = ours or doing.store.work(doing.step.inputs[0]) / FOLDERS[arm]
    words = PromptSet.load(folder / "prompts" if arm == "direct" else WORDS)
    problems = drawn(TEST_SEED + how["seed"], how["problems"])
    (outcomes,) = asyncio.run(ask(folder, problems, words, (way(arm, how["max_tokens"]),)))
    return {"kinds": compact(outcomes)}


def compact(outcomes: tuple[Outcome, ...]) -> dict[str, dict[str, list[float]]]:
    """Outcomes by kind and by what was counted, in the order in which they were asked."""
    kinds: dict[str, dict[str, list[float]]] = {}
    for outcome in outcomes:
        row = kinds.setdefault(outcome.kind, {name: [] for name in COUNTED})
        for name, count in COUNTED.items():
            row[name].append(count(outcome))
    return kinds


COUNTED: dict[str, Callable[[Outcome], float]] = {
    "right": lambda o: o.right,
    "blocks": lambda o: o.blocks,
    "ran": lambda o: o.ran,
    "repaired": lambda o: o.repaired,
    "tokens": lambda o: o.tokens,
    "looped": lambda o: float(o.stop == "repetition"),
    "cut": lambda o: float(o.stop in {"max_tokens", "max_round_tokens", "context"}),
}
"""What is kept of each problem."""


def looping(doing: Doing) -> Figures:
    """Make the start that goes round in circles."""
    found = starts.train_looping(doing.settings, doing.folder, WORDS)
    return {**found, "weights": _sha256(doing.folder / FOLDERS["loop"] / "model.safetensors")}


def careless(doing: Doing) -> Figures:
    """Make the start of the ablation of GRPO that leaves out its imports."""
    found = starts.train_careless(doing.folder, smoke=doing.settings["smoke"])
    return {**found, "weights": _sha256(doing.folder / FOLDERS["careless"] / "model.safetensors")}


def latency(doing: Doing) -> Figures:
    """Time the sandbox on this machine."""
    report = asyncio.run(measure_sandbox(SandboxConfig(), doing.settings["n"]))
    return {"isolation": report.isolation, **{name: round(value, 3) for name, value in report.figures().items()}}


def shipped(doing: Doing) -> Figures:
    """Ask the shipped weights as ``thyme nano eval`` does."""
    found = measure(seed=doing.settings["seed"], per_kind=doing.settings["per_kind"], progress=False).as_json()
    found.pop("seconds")  # it is no figure of the model
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


DO: dict[str, Callable[[Doing], Figures]] = {
    "data": data,
    "sft": sft,
    "direct": direct,
    "rl": reinforce,
    "when": reinforce,
    "rl-code": reinforce,
    "rl-looping": reinforce,
    "asked": asked,
    "looping": looping,
    "careless": careless,
    "latency": latency,
    "shipped": shipped,
    "sft-arms": ablations.sft_arms,
    "sft-ablation": ablations.sft_ablation,
    "grpo-starts": ablations.grpo_starts,
    "grpo-arms": ablations.grpo_arms,
    "grpo-ablation": ablations.grpo_ablation_together,
}
"""By kind of step."""
