"""Settings of fine-tuning in the words of TRL."""

from __future__ import annotations

import math
from pathlib import Path

from thyme.config.sft import SFTSettings
from thyme.errors import ConfigError, MissingExtraError
from thyme.train.arguments import on_one_device, shared_arguments
from thyme.train.data.samples import Samples, Stream, is_stream
from thyme.train.distributed import world_size

try:
    from trl.trainer.sft_config import SFTConfig
except ImportError as error:
    raise MissingExtraError("supervised fine-tuning", "train") from error


def steps_of(samples: Samples | Stream, settings: SFTSettings) -> int | None:
    """Optimiser steps of a run, where they must be known beforehand; None: the epochs say it.

    Raises:
        ConfigError: A stream whose end nobody knows, and no `max_steps`.
    """
    return steps_of_stream(samples.rows, settings) if is_stream(samples) else settings.max_steps


def steps_of_stream(rows: int | None, settings: SFTSettings) -> int:
    """Optimiser steps of a run that reads a stream: only full ones, for a stream never runs out within one.

    Args:
        rows: Of one pass over the stream, repeats included; None where nobody knows.
        settings: Batch, accumulation, epochs.

    Raises:
        ConfigError: It is not known how many samples, or packed rows, a pass has, and there is no `max_steps`.
    """
    if settings.max_steps is not None:
        return settings.max_steps
    if rows is None or settings.packing:
        why = "how many packed rows it will make is not known" if settings.packing else "its length is not known"
        raise ConfigError(f"a stream has no end, and {why}: give max_steps")
    step = settings.batch_size * settings.accumulation * world_size()
    return max(1, math.floor(rows * settings.epochs / step))


def arguments(settings: SFTSettings, out: Path, *, steps: int | None, streamed: bool, validated: bool) -> SFTConfig:
    """The settings in TRL's words.

    Args:
        settings: Ours.
        out: Folder of the run.
        steps: Optimiser steps, where they do not follow from the epochs.
        streamed: Whether samples come from a stream, which finds its own place again.
        validated: Whether there are validation samples.
    """
    return on_one_device(
        SFTConfig(
            num_train_epochs=settings.epochs,
            ignore_data_skip=streamed,
            eval_strategy="steps" if validated and settings.eval_steps else "no",
            eval_steps=settings.eval_steps,
            prediction_loss_only=True,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            **shared_arguments(settings, out, steps=steps, accumulation=settings.accumulation),
        )
    )
