"""TRL's SFTTrainer with encoded samples, a repeatable order, our optimisers, and checkpoints without paths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thyme.config.sft import LoraSettings, SFTSettings
from thyme.errors import MissingExtraError, UsageError
from thyme.families import Family
from thyme.train.checkpoint import RUN_FILE, save_weights
from thyme.train.collate import Batch, collate
from thyme.train.encode import IGNORED, Encoded
from thyme.train.optim import build_optimizer
from thyme.train.sampling import EpochSampler
from thyme.train.vision import ImageSource, model_inputs

try:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer
except ImportError as error:
    raise MissingExtraError("supervised fine-tuning", "train") from error

CHECKPOINTS = "checkpoints"
"""Folder of the resumable checkpoints, inside that of the run."""
_CHECKPOINTING = next(  # the first is what transformers calls it today, the second what it did before
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in SFTConfig.__dataclass_fields__
)
_NOT_OF_THE_RUN = {"device", "workers", "log_steps", "save_steps", "keep_checkpoints", "eval_steps"}
"""Settings that a resumed run may change, because no weight depends on them."""


@dataclass(frozen=True)
class Rows:
    """Collates rows of indices: the trainer's dataset holds nothing else. Validation comes after training."""

    train: list[Encoded]
    validation: list[Encoded]
    images: ImageSource
    family: Family
    pad_to_multiple: int

    def __call__(self, rows: Sequence[dict[str, int]]) -> Batch:
        """The batch of some rows."""
        n = len(self.train)
        chosen = [self.train[i] if i < n else self.validation[i - n] for i in (row["index"] for row in rows)]
        pad = self.family.tokenizer.pad_token_id
        return collate(
            chosen,
            self.images,
            image_token_id=self.family.image_token_id,
            pad_id=0 if pad is None else pad,
            pad_to_multiple=self.pad_to_multiple,
        )

    def indices(self, *, validation: bool) -> Dataset:
        """The dataset as the trainer sees it: one number a row."""
        start, samples = (len(self.train), self.validation) if validation else (0, self.train)
        return Dataset.from_dict({"index": list(range(start, start + len(samples)))})


class Trainer(SFTTrainer):
    """TRL's trainer with our order, optimiser, image features and checkpoint files."""

    model: Any  # the library says "model or nothing", and nothing more of the model

    def __init__(self, model: Any, rows: Rows, settings: SFTSettings, out: Path) -> None:
        self.rows, self.settings = rows, settings
        self.run_description = run_description(rows.train, settings)
        use_cache = vars(model.config).get("use_cache")
        super().__init__(
            model=model,
            args=arguments(settings, out, validated=bool(rows.validation)),
            data_collator=rows,
            train_dataset=rows.indices(validation=False),
            eval_dataset=rows.indices(validation=True) if rows.validation else None,
            processing_class=rows.family.tokenizer,
            peft_config=lora_config(settings.lora) if settings.lora else None,
        )
        self.remove_callback(PrinterCallback)
        # Qwen's classes say they cannot, but TRL computes the loss itself: mean over the tokens of the whole step.
        self.model_accepts_loss_kwargs = True
        # The library writes False there, for good; each forward of a step is told so anyway.
        if use_cache is None:
            vars(model.config).pop("use_cache", None)
        else:
            vars(model.config)["use_cache"] = use_cache
        self._hidden = self.model.config.get_text_config().hidden_size

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        size = self.args.train_batch_size * self.accelerator.num_processes
        lengths = [len(sample) for sample in self.rows.train]
        return EpochSampler(lengths, size, seed=self.settings.seed, group_by_length=self.settings.group_by_length)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Our optimiser instead of one of the library's."""
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model if model is None else model, self.settings)
        return self.optimizer

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, kept features of images put where the model takes them."""
        prepared = model_inputs(inputs, self._hidden)
        return super().compute_loss(model, prepared, *args, **kwargs)  # type: ignore[no-untyped-call]  # as TRL has it

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The loss of a validation batch, weighted so that the mean over the samples is the mean over their tokens."""
        targets = (inputs["labels"] != IGNORED).sum()
        loss, *rest = super().prediction_step(model, inputs, *args, **kwargs)
        samples = self.rows.validation
        weight = len(samples) / sum(sample.trained for sample in samples)
        return loss * targets / len(inputs["labels"]) * weight, *rest

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Weights only: the arguments that the base class would pickle beside them hold paths of this machine."""
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            save_weights(self.model, folder, state_dict=state_dict, for_resuming=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]  # as TRL has it
        if self.args.should_save:
            # Written last: a checkpoint without it was not finished.
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            (folder / RUN_FILE).write_text(self.run_description, encoding="utf-8")

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Left to whoever publishes the model."""

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def final_model(self) -> Any:
        """The trained model as it was before the trainer wrapped its forward."""
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.__dict__.pop("forward", None)
        return model


def run_description(samples: Sequence[Encoded], settings: SFTSettings) -> str:
    """What makes a run the one it is, as JSON; a checkpoint may only be resumed by a run of the same description."""
    described = {
        "samples": len(samples),
        "tokens": sum(len(sample) for sample in samples),
        "trained_tokens": sum(sample.trained for sample in samples),
        "settings": settings.model_dump(mode="json", exclude=_NOT_OF_THE_RUN),
    }
    return json.dumps(described, indent=2, sort_keys=True) + "\n"


def on_cpu(settings: SFTSettings) -> bool:
    """Whether the run is on a CPU.

    Raises:
        UsageError: A GPU is asked for and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here; use device = 'auto' or 'cpu'")
    return settings.device == "cpu" or not torch.cuda.is_available()


def lora_config(settings: LoraSettings) -> Any:
    """The adapters in peft's words: linear layers of the language model only."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a factor; any number will do
        lora_dropout=settings.dropout,
        target_modules=rf".*language_model\..*\.({'|'.join(settings.targets)})",
        task_type="CAUSAL_LM",
    )


def arguments(settings: SFTSettings, out: Path, *, validated: bool) -> SFTConfig:
    """The settings in TRL's words.

    Args:
        settings: Ours.
        out: Folder of the run.
        validated: Whether there are validation samples.
    """
    cpu = on_cpu(settings)
    checkpointing: dict[str, Any] = {_CHECKPOINTING: settings.gradient_checkpointing}
    made = SFTConfig(
        output_dir=str(out / CHECKPOINTS),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=cpu,
        bf16=(not cpu and torch.cuda.is_bf16_supported()) if settings.bf16 is None else settings.bf16,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=not cpu,
        logging_steps=settings.log_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        save_total_limit=settings.keep_checkpoints,
        eval_strategy="steps" if validated and settings.eval_steps else "no",
        eval_steps=settings.eval_steps,
        prediction_loss_only=True,
        seed=settings.seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **checkpointing,
    )
    if made.n_gpu > 1:
        # One process drives one GPU; several GPUs are for `accelerate launch`.
        made._n_gpu = 1
    return made
