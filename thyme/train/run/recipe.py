"""What runs from a recipe have in common: names without paths, prompts, evaluations told, what they ran on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from pydantic import BaseModel
from rich.console import Console

from thyme.config.training import TrainingSettings
from thyme.eval.summary import ALL
from thyme.families.checkpoint import find_checkpoint
from thyme.prompts import FILES
from thyme.train.arguments import on_cpu
from thyme.train.run.records import EvaluationPoint
from thyme.train.run.tracking import evaluated

_LIBRARIES = ("thyme-vl", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm")
_PATHS = ("path", "model", "prompts", "cache", "function")
"""Keys of a recipe that may hold a path of the machine."""


def public_recipe(recipe: BaseModel) -> dict[str, Any]:
    """What a recipe says, paths of the machine reduced to names."""
    said = recipe.model_dump(mode="json", exclude_unset=True, exclude={"out"})
    return {key: _public(key, value) for key, value in said.items()}


def _public(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _public(inner, item) for inner, item in value.items()}
    return public_name(value) if key in _PATHS and isinstance(value, str) else value


def public_name(text: str) -> str:
    """The last part of a path; names of models and data sets as they are."""
    path = Path(text).expanduser()
    return path.name if path.is_absolute() or path.exists() or text.startswith((".", "~")) else text


def own_prompts(model: str | Path) -> Path | None:
    """The prompt files that a checkpoint brings."""
    folder = find_checkpoint(model, weights=False) / "prompts"
    return folder if folder.is_dir() else None


def copy_prompts(source: Path, target: Path) -> None:
    """Put prompt files beside a model that is asked with them."""
    target.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copyfile(source / file, target / file)


def tell_evaluation(console: Console, send: Callable[[Mapping[str, float], int], None], point: EvaluationPoint) -> None:
    """Tell what an evaluation found: to the trackers, and in a line.

    Args:
        console: Gets the line.
        send: Takes figures and their step for the trackers.
        point: What was found.
    """
    send(evaluated(point), point.step)
    rates = [
        f"{kind} {figures['accuracy']:.0%}"
        for kind, figures in point.kinds.items()
        if kind != ALL and figures["accuracy"] is not None
    ]
    whole = point.kinds[ALL]
    right = "nothing scored" if whole["accuracy"] is None else f"{whole['accuracy']:.1%} of {whole['scored']} right"
    failed = f", {whole['failed']} failed" if whole["failed"] else ""
    console.print(
        f"{point.stage}, step {point.step}: {right}{failed} ({', '.join(rates)})", markup=False, soft_wrap=True
    )


def device_name(settings: TrainingSettings) -> str:
    """What a run trains on."""
    return "cpu" if on_cpu(settings) else torch.cuda.get_device_name()


def versions() -> dict[str, str]:
    """Of Python and the libraries that matter."""
    found = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # this package itself, run from its source; vLLM, mostly
            continue
    return found
