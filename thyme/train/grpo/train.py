"""GRPO with adaptive temperature sampling: one optimiser step a batch of fresh rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from torch import nn

from thyme.config.grpo import GRPOSettings
from thyme.errors import TrainingError, TrainingStoppedError
from thyme.families import Family, load_family
from thyme.train.arguments import CHECKPOINTS
from thyme.train.distributed import connect, is_main
from thyme.train.grpo.groups import Problems, Roller
from thyme.train.grpo.records import Trained
from thyme.train.grpo.step import in_words
from thyme.train.grpo.trainer import GRPO, Tell, World
from thyme.train.run.around import (
    checkpoint_to_resume,
    save_model,
    starting_folder,
    starting_model,
    train_until_asked,
)
from thyme.train.run.progress import ProgressBar
from thyme.train.sharded import prepare_to_spread

if TYPE_CHECKING:
    from transformers import TrainerCallback

MODEL = "model"
"""Folder of the final checkpoint, inside that of the run."""


def train_grpo(
    problems: Problems,
    roller: Roller,
    model: str | Path | nn.Module,
    settings: GRPOSettings,
    out: Path,
    *,
    base: Path | None = None,
    family: Family | None = None,
    tell: Tell | None = None,
    resume: bool = False,
    console: Console | None = None,
    note: Callable[[], str] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[tuple[int, Trained]]:
    """Train a model by reinforcement and save it.

    In `out`, ``model`` becomes a checkpoint folder, complete with the base's tokenizer, processor and prompt files; of
    adapters the merged weights, and they themselves in ``model/adapter``. ``checkpoints`` has those to resume from.

    Args:
        problems: What is asked; `thyme.train.grpo.draws` says which of them at which step.
        roller: Rolls out and has scored this process's places; it is not closed here.
        model: Checkpoint folder or hub id; or a model in memory, which is trained in place.
        settings: How.
        out: Folder of the run.
        base: Checkpoint of tokenizer, processor and prompts; needed where `model` is in memory.
        family: That of `base`, if it is at hand already, with the pixel limits of the rollouts.
        tell: Called in every process, before a checkpoint of the step is written.
        resume: Go on with the last checkpoint in `out`; start anew where there is none.
        console: Where progress is shown; None is standard error.
        note: What progress says of the last step, in place of its loss.
        callbacks: More of transformers' callbacks.

    Returns:
        Every step and what it was, those before a resumed checkpoint included.

    Raises:
        UsageError: The device asked for is missing.
        ConfigError: The checkpoint to resume belongs to another run, `out` has checkpoints and is not to be resumed, a
            step cannot be shared out evenly, or there is no problem.
        TrainingError: The loss or a gradient is not a number, or nothing could be scored for `settings.patience` steps.
        TrainingStoppedError: The process was asked to end (SIGTERM, Ctrl-C), or a callback ended the run.
    """
    connect()
    prepare_to_spread(settings)
    folder = starting_folder(model, base)
    world = World(problems, roller, family or load_family(folder))
    trainer = GRPO(starting_model(model, folder, settings), world, settings, out, tell)
    trainer.add_callback(bar := ProgressBar(console or Console(stderr=True, quiet=not is_main()), out.name, note))
    for callback in callbacks:
        trainer.add_callback(callback)
    try:
        train_until_asked(trainer, checkpoint_to_resume(trainer, out, resume=resume), out)
        _check_whole(trainer, out)
    finally:
        bar.close()
    save_model(trainer, folder, out, out / MODEL)
    return trainer.trained


def _check_whole(trainer: GRPO, out: Path) -> None:
    """See that the run came to its end."""
    step, steps = trainer.state.global_step, trainer.state.max_steps
    left = f"a checkpoint lies in '{out.name}/{CHECKPOINTS}'; go on with it by resume (--resume)"
    if len(trainer.starved) >= trainer.settings.patience:
        reasons = in_words(sum(trainer.starved, Counter()))
        raise TrainingError(
            f"in the last {len(trainer.starved)} steps, up to step {step}, not one group had two rollouts to "
            f"compare, and no weight was changed: {reasons}. Put that right; {left}"
        )
    if step < steps:
        raise TrainingStoppedError(f"training was ended after step {step} of {steps}; {left}")
