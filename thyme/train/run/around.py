"""What every training run does around its trainer: the model, the checkpoint to go on from, the model in the end."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thyme.config.training import TrainingSettings
from thyme.errors import ConfigError, TrainingStoppedError, UsageError
from thyme.families import Family
from thyme.families.checkpoint import find_checkpoint
from thyme.train.arguments import CHECKPOINTS, on_cpu, vision_modules
from thyme.train.batches.vision import FreshPixels, ImageSource, KeptFeatures, KeptPixels
from thyme.train.distributed import agreed, barrier, is_main, own_device
from thyme.train.run.checkpoint import check_same_run, last_checkpoint, load_model, rename, save_final


def starting_folder(model: str | Path | nn.Module, base: Path | None) -> Path:
    """The checkpoint whose tokenizer, processor and prompts a run uses: the model's own, or `base` of one in memory.

    Args:
        model: Checkpoint folder or hub id; or a model in memory.
        base: Checkpoint folder.

    Raises:
        UsageError: The model is in memory, and there is no base.
        ModelNotFoundError: There is no such checkpoint.
    """
    if not isinstance(model, nn.Module):
        return find_checkpoint(model)
    if base is None:
        raise UsageError("a model in memory needs the folder of its tokenizer and processor: give base")
    return find_checkpoint(base)


def starting_model(model: str | Path | nn.Module, folder: Path, settings: TrainingSettings) -> Any:
    """The model to train, on its device, under a name that may be stored, the vision part frozen or not.

    Args:
        model: Checkpoint folder or hub id; or a model in memory, which is taken as it is.
        folder: Its `starting_folder`.
        settings: Those of the run.
    """
    prepared: Any = model
    name = folder.name
    if not isinstance(model, nn.Module):
        dtype = dtype_of(settings.weights_dtype) or torch.float32
        prepared = load_model(folder, dtype=dtype, attention=settings.attention)
        name = folder.name if Path(model).expanduser().is_dir() else str(model)
    rename(prepared, name)
    for part in vision_modules(prepared).values():
        part.requires_grad_(not settings.freeze_vision)
    return prepared.to(own_device(cpu=on_cpu(settings)))


def dtype_of(name: str | None) -> torch.dtype | None:
    """A type of weights by its name in the settings."""
    return None if name is None else {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def image_source(model: Any, family: Family, settings: TrainingSettings) -> ImageSource:
    """Where batches get their images from, by the settings."""
    if settings.cache == "features":
        return KeptFeatures(model, family, dtype=dtype_of(settings.cache_dtype) or torch.float32)
    return KeptPixels(family) if settings.cache == "pixels" else FreshPixels(family)


def checkpoint_to_resume(trainer: Any, out: Path, *, resume: bool) -> Path | None:
    """The checkpoint to go on with, the same in every process, and the trainer told of it; None: start anew.

    Args:
        trainer: One of ours.
        out: Folder of the run.
        resume: Whether to go on.

    Raises:
        ConfigError: There is one and the run is not to be resumed, or it belongs to another run.
    """
    found = agreed(lambda: _found(trainer.run_description, out, resume=resume))
    if found is not None:
        trainer.go_on_from(found)
    return found


def _found(description: str, out: Path, *, resume: bool) -> Path | None:
    checkpoint = last_checkpoint(out / CHECKPOINTS)
    if checkpoint is None:
        return None
    if not resume:
        raise ConfigError(
            f"'{out.name}' has checkpoints of an earlier run, the last one {checkpoint.name}; resume that run, give "
            f"another output folder, or remove its folder '{CHECKPOINTS}'"
        )
    check_same_run(checkpoint, description)
    return checkpoint


def train_until_asked(trainer: Any, checkpoint: Path | None, out: Path) -> None:
    """Train, to the end or until the process is asked to end.

    Args:
        trainer: One of ours.
        checkpoint: To go on with.
        out: Folder of the run.

    Raises:
        TrainingStoppedError: It was asked to end, and did so with a checkpoint.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with trainer.ending.listening() if trainer.settings.save_steps else nullcontext():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.ending.ended:
        step, steps = trainer.state.global_step, trainer.state.max_steps
        raise TrainingStoppedError(
            f"training was asked to end and did so after step {step} of {steps}; a checkpoint lies in "
            f"'{out.name}/{CHECKPOINTS}': start the same run again with resume (--resume) to go on"
        )


def save_model(trainer: Any, base: Path, out: Path, target: Path) -> None:
    """Save the trained model for use, by the main process; all of them must call this.

    Args:
        trainer: One of ours, after training.
        base: Checkpoint of tokenizer, processor and prompts.
        out: Folder of the run.
        target: Folder of the model.
    """
    checkpoints = out / CHECKPOINTS
    model = trainer.final_model()
    if is_main():
        if not any(checkpoints.iterdir()):
            checkpoints.rmdir()  # the trainer makes the folder in any case
        save_final(model, base, target, dtype=dtype_of(trainer.settings.save_dtype))
    barrier()
