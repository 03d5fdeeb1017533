"""Our settings in the words of TRL and peft."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thyme.config.sft import SFTSettings
from thyme.config.training import TrainingSettings
from thyme.errors import ConfigError, MissingExtraError, UsageError
from thyme.train.data.samples import Samples, Stream, is_stream
from thyme.train.distributed import world_size

try:
    from trl.trainer.sft_config import SFTConfig
except ImportError as error:
    raise MissingExtraError("supervised fine-tuning", "train") from error

CHECKPOINTS = "checkpoints"
"""Folder of the resumable checkpoints, inside that of the run."""
_CHECKPOINTING = next(  # the first is what transformers calls it today, the second what it did before
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in SFTConfig.__dataclass_fields__
)


def on_cpu(settings: TrainingSettings) -> bool:
    """Whether the run is on a CPU.

    Raises:
        UsageError: A GPU is asked for and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here; use device = 'auto' or 'cpu'")
    return settings.device == "cpu" or not torch.cuda.is_available()


def steps_of(samples: Samples | Stream, settings: SFTSettings) -> int | None:
    """Optimiser steps of a run, where they must be known beforehand; None: the epochs say it.

    Raises:
        ConfigError: A stream whose end nobody knows, and no `max_steps`.
    """
    if settings.max_steps is not None or not is_stream(samples):
        return settings.max_steps
    if samples.rows is None or settings.packing:
        why = "how many packed rows it will make is not known" if settings.packing else "its length is not known"
        raise ConfigError(f"a stream has no end, and {why}: give max_steps")
    step = settings.batch_size * settings.accumulation * world_size()
    return max(1, math.floor(samples.rows * settings.epochs / step))


def language_model(model: Any) -> tuple[str, nn.Module]:
    """The part of a model that reads and writes tokens, without its head, and its name in the model."""
    decoder: nn.Module = model.get_decoder()
    return next((name, module) for name, module in model.named_modules() if module is decoder)


def vision_modules(model: Any) -> dict[str, nn.Module]:
    """Everything of a model outside its language model and head, by name: tower, merger, projector.

    Args:
        model: A transformers model with a language model inside.
    """
    text = {language_model(model)[1], model.get_output_embeddings()}

    def outside(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
        for child_name, child in module.named_children():
            full = f"{name}.{child_name}".lstrip(".")
            if child in text:
                continue
            if text & set(child.modules()):
                yield from outside(child, full)
            elif any(True for _ in child.parameters()):
                yield full, child

    return dict(outside(model, ""))


def lora_config(model: Any, settings: TrainingSettings) -> Any:
    """The adapters in peft's words: linear layers of the language model only; a tower that is trained is kept whole."""
    from peft import LoraConfig

    lora = settings.lora
    if lora is None:
        raise UsageError("there are no adapters in these settings")
    name = language_model(model)[0].replace(".", r"\.")
    trained = [] if settings.freeze_vision else list(vision_modules(model))
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a factor; any number will do
        lora_dropout=lora.dropout,
        target_modules=rf"(.*\.)?{name}\..*\.({'|'.join(lora.targets)})",
        modules_to_save=trained or None,
        task_type="CAUSAL_LM",
    )


def arguments(settings: SFTSettings, out: Path, *, steps: int | None, streamed: bool, validated: bool) -> SFTConfig:
    """The settings in TRL's words.

    Args:
        settings: Ours.
        out: Folder of the run.
        steps: Optimiser steps, where they do not follow from the epochs.
        streamed: Whether samples come from a stream, which finds its own place again.
        validated: Whether there are validation samples.
    """
    cpu = on_cpu(settings)
    checkpointing: dict[str, Any] = {_CHECKPOINTING: settings.gradient_checkpointing}
    made = SFTConfig(
        output_dir=str(out / CHECKPOINTS),
        num_train_epochs=settings.epochs,
        max_steps=steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=cpu,
        bf16=(not cpu and torch.cuda.is_bf16_supported()) if settings.bf16 is None else settings.bf16,
        logging_steps=settings.log_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        save_total_limit=None,  # older ones go when the new one is whole, which the library does not wait for
        ignore_data_skip=streamed,
        eval_strategy="steps" if validated and settings.eval_steps else "no",
        eval_steps=settings.eval_steps,
        prediction_loss_only=True,
        seed=settings.seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        # Under DDP, what is trained of a language model is in every forward; of a tower (InternVL's) not all need be.
        ddp_find_unused_parameters=not settings.freeze_vision,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **checkpointing,
    )
    if made.n_gpu > 1:
        # One process drives one GPU; several GPUs are for `accelerate launch`.
        made._n_gpu = 1
    return made
