"""Supervised fine-tuning on encoded samples, on TRL's SFTTrainer.

`train_sft` puts four things around TRL's step: samples that are already encoded (nothing is tokenised or truncated
here), an order that a resumed run repeats, features of a frozen vision tower kept over the epochs, and checkpoints that
load anywhere. The loss is the mean negative log-likelihood over the trained tokens of an optimiser step, whatever the
number of forward passes it is made of.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch import nn

from thyme.config.sft import SFTSettings
from thyme.errors import ConfigError, UsageError
from thyme.families import Family, load_family
from thyme.train.arguments import CHECKPOINTS
from thyme.train.batches.vision import ImageSource
from thyme.train.data.samples import ListSamples, Samples, Stream, is_by_place, is_stream
from thyme.train.distributed import barrier, connect, gather, is_main
from thyme.train.encode import Encoded
from thyme.train.run.around import (
    checkpoint_to_resume,
    image_source,
    save_model,
    starting_folder,
    starting_model,
    train_until_asked,
)
from thyme.train.run.checkpoint import REPORT_FILE
from thyme.train.run.disk import write_atomically
from thyme.train.run.progress import ProgressBar
from thyme.train.run.records import Point, StageReport, ValidationPoint
from thyme.train.sft.trainer import Data, Trainer
from thyme.train.sharded import prepare_to_spread
from thyme.types import ImageRecord

if TYPE_CHECKING:
    from transformers import TrainerCallback

__all__ = ["CHECKPOINTS", "train_sft"]


def train_sft(
    samples: Iterable[Encoded] | Samples | Stream,
    model: str | Path | nn.Module,
    settings: SFTSettings,
    out: Path,
    *,
    base: Path | None = None,
    family: Family | None = None,
    validation: Iterable[Encoded] | Samples = (),
    resume: bool = False,
    console: Console | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> StageReport:
    """Fine-tune a model and save it.

    `out` becomes a checkpoint folder: weights, configuration and the base's tokenizer, processor and prompt files; with
    adapters the merged weights, and the adapters in ``adapter``. Resumable checkpoints lie in ``checkpoints``.

    Args:
        samples: What to train on: samples by place, a stream, or simply some samples. An iterator is read once; where
            images are kept (``settings.cache``) the pixels of each sample are let go as soon as it is read, so a
            generator needs little memory.
        model: Checkpoint folder or hub id; or a model in memory, which is trained in place.
        settings: How.
        out: Folder of the run.
        base: Checkpoint of tokenizer, processor and prompts; needed where `model` is in memory.
        family: That of `base`, if it is at hand already.
        validation: Samples whose loss is measured, never trained on.
        resume: Go on with the last checkpoint in `out`; start anew where there is none.
        console: Where progress is shown; None is standard error.
        callbacks: More of transformers' callbacks; they get the model in training, the step and what is logged.

    Raises:
        UsageError: There is no sample, the device asked for is missing, or a sample is longer than a packed row.
        ConfigError: The checkpoint to resume belongs to another run, `out` has checkpoints and is not to be resumed,
            the model cannot be trained on packed samples, or a stream is given without what it needs.
        TrainingError: The loss or a gradient is not a number.
        TrainingStoppedError: The process was asked to end (SIGTERM, Ctrl-C) in a run with ``save_steps``; a
            checkpoint was written.
    """
    connect()
    prepare_to_spread(settings)
    folder = starting_folder(model, base)
    family = family or load_family(folder)
    trained = starting_model(model, folder, settings)
    images = image_source(trained, family, settings)
    trainer = Trainer(trained, _data(samples, validation, images, family, settings), settings, out)
    trainer.add_callback(bar := ProgressBar(console or Console(stderr=True, quiet=not is_main()), out.name))
    for callback in callbacks:
        trainer.add_callback(callback)
    try:
        train_until_asked(trainer, checkpoint_to_resume(trainer, out, resume=resume), out)
    finally:
        bar.close()
    report = _report(trainer, out.name)
    _save(trainer, folder, out, report)
    return report


def _save(trainer: Trainer, base: Path, out: Path, report: StageReport) -> None:
    """The final model and the report, by the main process."""
    save_model(trainer, base, out, out)
    if is_main():
        write_atomically(out / REPORT_FILE, report.model_dump_json(indent=2) + "\n")
    barrier()


def _data(
    samples: Iterable[Encoded] | Samples | Stream,
    validation: Iterable[Encoded] | Samples,
    images: ImageSource,
    family: Family,
    settings: SFTSettings,
) -> Data:
    """What the trainer reads, every image handed to what keeps images."""
    measured = _by_place(validation, images, settings)
    train: Samples | Stream = samples if is_stream(samples) else _by_place(samples, images, settings)
    if is_stream(train):
        if settings.cache != "none":
            raise ConfigError("a stream is read once, so there is nothing to keep of its images: set cache = 'none'")
    elif not len(train):
        raise UsageError("there is no sample to train on")
    return Data(train, measured if len(measured) else None, images, family)


def _by_place(samples: Iterable[Encoded] | Samples, images: ImageSource, settings: SFTSettings) -> Samples:
    """Samples as they are where they are read from disk again and again; else in memory, rid of pixels kept apart."""
    if not is_by_place(samples):
        return ListSamples(list(_taken(samples, images, settings)))
    if settings.cache == "none":
        return samples
    return ListSamples(list(_taken((samples[i] for i in range(len(samples))), images, settings)))


def _taken(samples: Iterable[Encoded], images: ImageSource, settings: SFTSettings) -> Iterable[Encoded]:
    """The samples, each handed to the image source; without their pixels where that keeps what it needs."""
    for sample in samples:
        images.add(sample.images)
        yield sample if settings.cache == "none" else replace(sample, images=tuple(map(_bare, sample.images)))


def _bare(image: ImageRecord) -> ImageRecord:
    return ImageRecord(**image.model_dump())


def _report(trainer: Trainer, name: str) -> StageReport:
    data, settings, history = trainer.data, trainer.settings, trainer.state.log_history
    if data.validation is not None and trainer.state.global_step not in _measured(history):
        trainer.evaluate()
    seconds = max(gather(trainer.clock.seconds))
    read, seen, trained = (sum(gather(count)) for count in trainer.seen)
    samples, tokens, targets = _sizes(data.train) or (read, seen, trained)
    return StageReport(
        name=name,
        sources=trainer.sources(),
        samples=samples,
        tokens=tokens,
        trained_tokens=targets,
        steps=trainer.state.global_step,
        seconds=round(seconds, 3),
        samples_per_second=round(read / seconds, 3) if seconds else 0.0,
        tokens_per_second=round(seen / seconds, 1) if seconds else None,
        peak_memory_bytes=max(gather(_peak_memory())),
        curve=tuple(_curve(history)),
        validation=tuple(ValidationPoint(step=step, loss=loss) for step, loss in _measured(history).items()),
        settings=settings,
    )


def _sizes(samples: Samples | Stream) -> tuple[int, int, int] | None:
    """Samples, their tokens and the trained ones of them; None of a stream, of which only what was read is known."""
    if is_stream(samples):
        return None
    return len(samples), sum(samples.lengths), sum(samples.trained)


def _measured(history: Sequence[dict[str, float]]) -> dict[int, float]:
    """Validation loss by step."""
    return {int(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry}


def _curve(history: Sequence[dict[str, float]]) -> Iterable[Point]:
    for entry in history:
        if "loss" in entry:
            yield Point(
                step=int(entry["step"]),
                loss=entry["loss"],
                learning_rate=entry["learning_rate"],
                token_accuracy=entry.get("mean_token_accuracy"),
                grad_norm=entry.get("grad_norm"),
            )


def _peak_memory() -> int:
    """Bytes: the most that was ever held, on the GPU where there is one, else by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
