"""The settings that all trainers share, in the words of transformers and peft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from thyme.config.training import TrainingSettings
from thyme.errors import MissingExtraError, UsageError

try:
    from transformers import TrainingArguments
except ImportError as error:
    raise MissingExtraError("training", "train") from error

Arguments = TypeVar("Arguments", bound=TrainingArguments)

CHECKPOINTS = "checkpoints"
"""Folder of the resumable checkpoints, inside that of the run."""
_KNOWN = TrainingArguments.__dataclass_fields__
_CHECKPOINTING = next(  # the first is what transformers calls it today, the second what it did before
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in _KNOWN
)
_SCHEDULES = {"constant": "constant_with_warmup", "cosine": "cosine", "linear": "linear"}


def on_cpu(settings: TrainingSettings) -> bool:
    """Whether the run is on a CPU.

    Raises:
        UsageError: A GPU is asked for and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here; use device = 'auto' or 'cpu'")
    return settings.device == "cpu" or not torch.cuda.is_available()


def autocast(settings: TrainingSettings) -> bool:
    """Whether products are computed in bfloat16 whatever the type of the weights."""
    if settings.bf16 is not None:
        return settings.bf16
    return not on_cpu(settings) and torch.cuda.is_bf16_supported()


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


def shared_arguments(settings: TrainingSettings, out: Path, *, steps: int | None, accumulation: int) -> dict[str, Any]:
    """What the settings that all trainers share are called by transformers.

    Args:
        settings: Ours.
        out: Folder of the run.
        steps: Optimiser steps, where they do not follow from the epochs.
        accumulation: Forward passes of a process in one of them.
    """
    return {
        "output_dir": str(out / CHECKPOINTS),
        "max_steps": steps or -1,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": _SCHEDULES[settings.schedule] if not settings.rate_floor else "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": settings.rate_floor} if settings.rate_floor else {},
        "warmup_steps": settings.warmup,
        "max_grad_norm": settings.max_grad_norm,
        "use_cpu": on_cpu(settings),
        "bf16": autocast(settings),
        "logging_steps": settings.log_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        "save_total_limit": None,  # older ones go when the new one is whole, which the library does not wait for
        "seed": settings.seed,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        # Under DDP, what is trained of a language model is in every forward; of a tower (InternVL's) not all need be.
        "ddp_find_unused_parameters": not settings.freeze_vision,
        _CHECKPOINTING: settings.gradient_checkpointing,
    }


def on_one_device(made: Arguments) -> Arguments:
    """One process drives one GPU; several GPUs are for `accelerate launch`."""
    if made.n_gpu > 1:
        made._n_gpu = 1
    return made
