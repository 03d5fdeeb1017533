"""Settings that both trainers share: the step, the weights, the machine; and where a run reads and reports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thyme.config.base import Config
from thyme.config.rollout import RolloutConfig
from thyme.config.sandbox import SandboxConfig

MaskName = Literal["all", "released", "paper"]
"""See `thyme.train.encode.MaskPolicy`."""
Tracker = Literal["tensorboard", "wandb", "trackio"]
DEFAULT_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSettings(Config):
    """Low-rank adapters on the language model."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = DEFAULT_LORA_TARGETS
    """Names of the linear layers that get an adapter; those of the vision tower never do."""


class TrainingSettings(Config):
    """What fine-tuning and reinforcement learning have in common. The paper's own values stand beside the fields."""

    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides `epochs`."""
    batch_size: int = Field(default=8, ge=1)
    """Samples in one forward pass of one process; with `packing`, rows of samples."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: matrices of the hidden layers by Muon, everything else (embeddings, head, norms) by AdamW."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak rate of AdamW (paper: 1e-5 for images, 1e-6 for the annealing on maths)."""
    muon_learning_rate: float = Field(default=2e-2, gt=0)
    """Peak rate of Muon, where it is used."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape after the warm-up; the first two end at 0, or `rate_floor`."""
    rate_floor: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak rate at which ``cosine`` ends (released, in its second stage: 0.1)."""
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
    pad_to_multiple: int = Field(default=1, ge=1)
    """Pad batches to a multiple of so many tokens (8 suits tensor cores)."""
    seed: int = 0
    log_steps: int = Field(default=10, ge=1)
    """Steps between points of the report's curve; the first step is always one."""
    save_steps: int | None = Field(default=None, ge=1)
    """Steps between resumable checkpoints; None writes none but the final model."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Resumable checkpoints that are kept; older ones are removed. A run that is asked to end (SIGTERM, Ctrl-C) writes
    one too, where `save_steps` is given."""

    @model_validator(mode="after")
    def _features_are_of_a_frozen_tower(self) -> TrainingSettings:
        if self.cache == "features" and not self.freeze_vision:
            raise ValueError("cache = 'features' needs freeze_vision: a trained tower's features change every step")
        return self

    @model_validator(mode="after")
    def _a_floor_is_of_a_cosine(self) -> TrainingSettings:
        if self.rate_floor and self.schedule != "cosine":
            raise ValueError(f"rate_floor is for schedule = 'cosine', and this one is '{self.schedule}'")
        return self


class DataSource(Config):
    """Where samples, or problems to evaluate on, come from."""

    format: str = "trajectories"
    """What the rows are: ``trajectories`` (this package's JSON lines), ``thyme-sft`` (the published rows: image,
    question, response), ``nano`` (drawn by the embedded world); for evaluation ``problems`` or ``nano``."""
    path: str = ""
    """File, folder, glob, or hub id of a dataset; not needed for ``nano``."""
    subset: str = ""
    """Configuration of a hub dataset, or the kinds of ``nano``, separated by commas."""
    split: str = "train"
    """Split of a hub dataset or of the embedded world."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many rows, the first ones; how many are drawn for ``nano``."""
    repeat: int = Field(default=1, ge=1)
    """How often one epoch goes over them."""
    mask: MaskName | None = None
    """Which rounds are trained on; None is the stage's."""
    seed: int = 0
    """Of what is drawn."""
    max_pixels: int = Field(default=400_000_000, ge=1)
    """Largest image of a problem that is decoded, width times height: what `thyme rl-data collect` takes by default."""


class EvaluationSettings(Config):
    """Questions that the model in training is asked, with code and sandbox, by the package's own evaluation."""

    data: DataSource
    """The problems."""
    every_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps between evaluations; None: only before the first stage and after each."""
    concurrency: int = Field(default=8, ge=1)
    """Rollouts under way at once."""
    examples: int = Field(default=4, ge=0)
    """Problems whose trajectories the report shows before and after training."""
    rollout: RolloutConfig = RolloutConfig()
    sandbox: SandboxConfig = SandboxConfig()


class TrackingSettings(Config):
    """Where curves are sent besides the report. Nothing is sent anywhere by default."""

    trackers: tuple[Tracker, ...] = ()
    project: str = "thyme-sft"
    run: str | None = None
    """Name of the run; None is that of the output folder."""
