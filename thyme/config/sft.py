"""Settings of supervised fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thyme.config.base import Config

NOT_OF_THE_RUN = {"device", "workers", "log_steps", "save_steps", "keep_checkpoints", "keep_finished", "eval_steps"}
"""Fields of `SFTSettings` that may change between parts of a run, because no weight depends on them."""
DEFAULT_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSettings(Config):
    """Low-rank adapters on the language model."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = DEFAULT_LORA_TARGETS
    """Names of the linear layers that get an adapter; those of the vision tower never do."""


class SFTSettings(Config):
    """How `thyme.train.sft.train_sft` trains. The paper's own values stand beside the fields they belong to."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the samples (paper: 3)."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    batch_size: int = Field(default=8, ge=1)
    """Samples in one forward pass of one process; with `packing`, rows of samples."""
    accumulation: int = Field(default=1, ge=1)
    """Forward passes in one optimiser step. The loss is the mean over the trained tokens of all of them."""
    loss: Literal["chunked", "full"] = "chunked"
    """How the loss is computed. ``chunked``: in tiles, so that logits of all tokens never stand in memory at once.
    ``full``: from the model's own logits; the same figures, for tiny vocabularies and for comparing."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: matrices of the hidden layers by Muon, everything else (embeddings, head, norms) by AdamW."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak rate of AdamW (paper: 1e-5 for images, 1e-6 for the annealing on maths)."""
    muon_learning_rate: float = Field(default=2e-2, gt=0)
    """Peak rate of Muon, where it is used."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape after the warm-up; the first two end at 0."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the rate rises (paper: 0.05)."""
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them."""

    freeze_vision: bool = True
    """Keep everything outside the language model and its head (tower, merger, projector) as it is (as released)."""
    cache: Literal["none", "pixels", "features"] = "none"
    """What is kept in memory of each image. ``none``: each batch processes its images anew. ``pixels``: each image is
    processed once (8 bits a value). ``features``: with a frozen tower, each image goes through it once and never again.
    For small worlds: features of a 7B model at the paper's image sizes would need more than 100 MB a sample."""
    cache_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of kept features; ``bfloat16`` halves the memory and rounds them."""
    lora: LoraSettings | None = None
    """None trains all weights that are not frozen. With adapters and a tower that is not frozen, the tower is trained
    whole beside them."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    bf16: bool | None = None
    """Autocast to bfloat16. None: on a GPU that can, not on a CPU."""
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights while they are trained. bfloat16 loses small updates: for the frozen base under adapters."""
    save_dtype: Literal["float32", "bfloat16"] | None = None
    """Of the final model; None leaves `weights_dtype`."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass; saves memory, costs about a third more time."""

    group_by_length: bool = True
    """Put samples of like length into one batch, so that little is padded."""
    pad_to_multiple: int = Field(default=1, ge=1)
    """Pad batches to a multiple of so many tokens (8 suits tensor cores)."""
    packing: bool = False
    """Put samples whole, one behind the other, into rows that are nearly full, instead of padding each to the longest.
    No sample sees another; a row counts as one of `batch_size`."""
    packed_tokens: int = Field(default=10240, ge=1)
    """Tokens of such a row at most; no sample may be longer."""

    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches; worth it only where images are processed for each batch (``cache = "none"``)."""

    seed: int = 0
    log_steps: int = Field(default=10, ge=1)
    """Steps between points of the report's curve; the first step is always one."""
    save_steps: int | None = Field(default=None, ge=1)
    """Steps between resumable checkpoints; None writes none but the final model."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Resumable checkpoints that are kept; older ones are removed. A run that is asked to end (SIGTERM, Ctrl-C) writes
    one too, where `save_steps` is given."""
    keep_finished: bool = False
    """Whether a run of stages leaves those of a finished stage; nothing needs them any more, and they are large."""
    eval_steps: int | None = Field(default=None, ge=1)
    """Steps between losses on the validation samples, where there are any; None: only at the end."""

    @model_validator(mode="after")
    def _settings_agree(self) -> SFTSettings:
        if self.cache == "features" and not self.freeze_vision:
            raise ValueError("cache = 'features' needs freeze_vision: a trained tower's features change every step")
        if self.packing and self.attention == "flash_attention_2" and self.batch_size > 1:
            raise ValueError(
                "packing with flash_attention_2 needs batch_size = 1: its kernel keeps samples apart in one row only; "
                "give packed_tokens the size instead"
            )
        return self
