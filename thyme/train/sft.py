"""Supervised fine-tuning on encoded samples, on TRL's SFTTrainer.

`train_sft` puts four things around TRL's step and leaves the step alone: samples that are already encoded (nothing is
tokenised, truncated or packed here), an order that a resumed run repeats, features of a frozen vision tower kept over
the epochs, and checkpoints that load anywhere. The loss is the mean negative log-likelihood over the trained tokens of
an optimiser step, whatever the number of forward passes it is made of.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from torch import nn

from thyme.config.sft import SFTSettings
from thyme.errors import UsageError
from thyme.families import Family, load_family
from thyme.families.checkpoint import find_checkpoint
from thyme.train.checkpoint import (
    REPORT_FILE,
    check_same_run,
    last_checkpoint,
    load_model,
    rename,
    save_final,
)
from thyme.train.encode import Encoded
from thyme.train.progress import ProgressBar
from thyme.train.trainer import CHECKPOINTS, Rows, Trainer, on_cpu
from thyme.train.vision import FreshPixels, ImageSource, KeptFeatures, KeptPixels
from thyme.types import ImageRecord


class Point(BaseModel):
    """One logged step."""

    model_config = ConfigDict(frozen=True)

    step: int
    loss: float
    """Mean over the trained tokens of the steps since the last point, nats."""
    learning_rate: float
    token_accuracy: float | None = None
    """Share of the trained tokens that are the most probable one."""


class SFTReport(BaseModel):
    """What a run did; ``sft_report.json`` in its folder. Holds no path."""

    model_config = ConfigDict(frozen=True)

    samples: int
    tokens: int
    """Tokens of all samples, once each."""
    trained_tokens: int
    """Those of them that are trained on."""
    steps: int
    seconds: float
    """Of training, without loading and preparing images; of the last part only where the run was resumed."""
    samples_per_second: float
    curve: tuple[Point, ...]
    validation_loss: float | None
    """Nats a trained token; None without validation samples."""
    settings: SFTSettings


def train_sft(
    samples: Iterable[Encoded],
    model: str | Path | nn.Module,
    settings: SFTSettings,
    out: Path,
    *,
    base: Path | None = None,
    family: Family | None = None,
    validation: Iterable[Encoded] = (),
    resume: bool = False,
    console: Console | None = None,
) -> SFTReport:
    """Fine-tune a model and save it.

    `out` becomes a checkpoint folder: weights, configuration and the base's tokenizer, processor and prompt files; with
    adapters the merged weights, and the adapters in ``adapter``. Resumable checkpoints lie in ``checkpoints``.

    Args:
        samples: What to train on. An iterator is read once; where images are kept (``settings.cache``) the pixels of
            each sample are let go as soon as it is read, so a generator needs little memory.
        model: Checkpoint folder or hub id; or a model in memory, which is trained in place.
        settings: How.
        out: Folder of the run.
        base: Checkpoint of tokenizer, processor and prompts; needed where `model` is in memory.
        family: That of `base`, if it is at hand already.
        validation: Samples whose loss is measured, never trained on.
        resume: Go on with the last checkpoint in `out`; start anew where there is none.
        console: Where progress is shown; None is standard error.

    Raises:
        UsageError: There is no sample, or the device asked for is missing.
        ConfigError: The checkpoint to resume belongs to another run.
    """
    source = model if isinstance(model, str | Path) else _needed(base)
    folder = find_checkpoint(source)
    family = family or load_family(folder)
    module = model if isinstance(model, nn.Module) else _loaded(folder, settings)
    trained = _prepared(module, folder.name if Path(source).is_dir() else str(source), settings)
    images = _image_source(trained, family, settings)
    rows = Rows(
        train=list(_taken(samples, images, settings)),
        validation=list(_taken(validation, images, settings)),
        images=images,
        family=family,
        pad_to_multiple=settings.pad_to_multiple,
    )
    if not rows.train:
        raise UsageError("there is no sample to train on")
    trainer = Trainer(trained, rows, settings, out)
    checkpoint = last_checkpoint(out / CHECKPOINTS) if resume else None
    if checkpoint is not None:
        check_same_run(checkpoint, trainer.run_description)
    report = _run(trainer, checkpoint, console or Console(stderr=True))
    if not settings.save_steps:
        (out / CHECKPOINTS).rmdir()  # the trainer makes the folder in any case
    save_final(trainer.final_model(), folder, out, dtype=_dtype(settings.save_dtype))
    (out / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return report


def _run(trainer: Trainer, checkpoint: Path | None, console: Console) -> SFTReport:
    bar = ProgressBar(console, "sft")
    trainer.add_callback(bar)
    first = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    started = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        bar.close()
    seconds = time.perf_counter() - started
    rows, settings = trainer.rows, trainer.settings
    validated = trainer.evaluate()["eval_loss"] if rows.validation else None
    seen = (trainer.state.global_step - first) * settings.batch_size * settings.accumulation
    return SFTReport(
        samples=len(rows.train),
        tokens=sum(len(sample) for sample in rows.train),
        trained_tokens=sum(sample.trained for sample in rows.train),
        steps=trainer.state.global_step,
        seconds=round(seconds, 3),
        samples_per_second=round(seen / seconds, 3),
        curve=tuple(_curve(trainer.state.log_history)),
        validation_loss=validated,
        settings=settings,
    )


def _curve(history: Sequence[dict[str, float]]) -> Iterable[Point]:
    for entry in history:
        if "loss" in entry:
            yield Point(
                step=int(entry["step"]),
                loss=entry["loss"],
                learning_rate=entry["learning_rate"],
                token_accuracy=entry.get("mean_token_accuracy"),
            )


def _needed(base: Path | None) -> Path:
    if base is None:
        raise UsageError("a model in memory needs the folder of its tokenizer and processor: give base")
    return base


def _loaded(folder: Path, settings: SFTSettings) -> nn.Module:
    dtype = _dtype(settings.weights_dtype) or torch.float32
    model: nn.Module = load_model(folder, dtype=dtype, attention=settings.attention)
    return model


def _prepared(model: nn.Module, name: str, settings: SFTSettings) -> Any:
    """The model on its device, under a name that may be stored, the vision tower frozen or not."""
    prepared: Any = model
    rename(prepared, name)
    prepared.model.visual.requires_grad_(not settings.freeze_vision)
    return prepared.to("cpu" if on_cpu(settings) else "cuda")


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _image_source(model: nn.Module, family: Family, settings: SFTSettings) -> ImageSource:
    if settings.cache == "features":
        return KeptFeatures(model, family, dtype=_dtype(settings.cache_dtype) or torch.float32)
    return KeptPixels(family) if settings.cache == "pixels" else FreshPixels(family)


def _taken(samples: Iterable[Encoded], images: ImageSource, settings: SFTSettings) -> Iterable[Encoded]:
    """The samples, each handed to the image source; without their pixels where that keeps what it needs."""
    for sample in samples:
        images.add(sample.images)
        yield sample if settings.cache == "none" else replace(sample, images=tuple(map(_bare, sample.images)))


def _bare(image: ImageRecord) -> ImageRecord:
    return ImageRecord(**image.model_dump())
