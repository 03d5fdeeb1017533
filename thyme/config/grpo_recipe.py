"""A recipe of GRPO: model, problems, rollouts, rewards, how to train. See `docs/grpo.md`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from thyme.config.base import Config
from thyme.config.engine import EngineConfig
from thyme.config.grpo import GRPOSettings
from thyme.config.rewards import RewardSettings
from thyme.config.rollout import RolloutConfig
from thyme.config.sandbox import SandboxConfig
from thyme.config.training import DataSource, EvaluationSettings, TrackingSettings

NOT_OF_ENGINE: dict[str, Any] = {
    "model": True,
    "device": True,
    "threads": True,
    "max_batch": True,
    "prefill_tokens": True,
    "max_cached_tokens": True,
    "openai": True,
    "vllm": {"gpu_memory_utilization", "kv_cache_gib", "enforce_eager", "block_size"},
}
"""Fields of `EngineConfig` that may change between parts of a run: how fast it is, and how much memory it takes."""
NOT_OF_SANDBOX = {"pool", "max_sessions", "inputs_mb", "start_timeout_s"}
"""Likewise of `SandboxConfig`."""
NOT_OF_JUDGE = {"concurrency", "timeout_s", "retries", "backoff_s", "cache"}
"""Likewise of `JudgeSettings`. The server too may be another one, as long as its model has the same name."""


_OF_THE_RUN = {
    "model": "model",
    "device": "train.device",
    "min_pixels": "min_pixels",
    "max_pixels": "max_pixels",
}
"""Fields of `EngineConfig` that a recipe says elsewhere, for trainer and engine alike."""


class GRPORecipe(Config):
    """What ``thyme grpo`` reads: the root of a recipe."""

    recipe_folder: ClassVar[str] = "grpo"

    model: str
    """Where training starts: ``nano``, ``nano:undecided``, a checkpoint folder (the end of fine-tuning) or a hub id."""
    out: str | None = None
    """Folder of the run; None is ``runs/`` and the name of the recipe."""
    prompts: str = ""
    """Folder of the prompt files that the model is asked with, saved with it; ``nano`` are those of the embedded model.
    Empty: those that the checkpoint brings, or else the package's own."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Pixels to which smaller images are enlarged; None is the checkpoint's own."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Pixels to which larger images are reduced (released: 2408448); None is the checkpoint's own."""
    data: dict[str, DataSource] = Field(min_length=1)
    """Sources of problems by name; an epoch goes over all of them, mixed."""
    rollout: RolloutConfig = RolloutConfig(text_temperature=1.0, code_temperature=0.0)
    """Adaptive temperature sampling: tau is 1 in text and 0 in code (paper)."""
    engine: EngineConfig = EngineConfig()
    """What generates: ``backend = "transformers"`` is the model in training itself, ``vllm`` a copy kept up to date.
    Model, device and pixel limits are those of the run."""
    sandbox: SandboxConfig = SandboxConfig()
    rewards: RewardSettings = RewardSettings()
    train: GRPOSettings = GRPOSettings()
    evaluation: EvaluationSettings | None = None
    tracking: TrackingSettings = TrackingSettings(project="thyme-grpo")

    @model_validator(mode="after")
    def _the_engine_runs_what_is_trained(self) -> GRPORecipe:
        for name, instead in _OF_THE_RUN.items():
            if name in self.engine.model_fields_set:
                raise ValueError(f"engine.{name} is that of the run: set {instead}")
        return self

    @model_validator(mode="after")
    def _temperatures_fit_the_policy(self) -> GRPORecipe:
        if self.train.code_policy == "tempered" and self.rollout.code_temperature == 0:
            raise ValueError(
                "code_policy = 'tempered' needs rollout.code_temperature above 0 (0.1 to 0.3, say): what is greedy has "
                "no probability to train on; or choose 'mask' or 'keep'"
            )
        if self.rollout.text_temperature == 0:
            raise ValueError("rollout.text_temperature = 0 explores nothing: all rollouts of a group would be the same")
        return self
