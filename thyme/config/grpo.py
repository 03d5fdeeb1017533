"""Settings of GRPO with adaptive temperature sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from thyme.config.base import Config
from thyme.config.training import TrainingSettings

NOT_OF_THE_RUN = {"device", "log_steps", "save_steps", "keep_checkpoints", "keep_trajectories", "alarms", "retries"}
"""Fields of `GRPOSettings` that may change between parts of a run, because no weight depends on them."""

CodePolicy = Literal["keep", "mask", "tempered"]


class AlarmSettings(Config):
    """When a monitor speaks up; every figure is the mean over `window` steps. See docs/monitors.md."""

    window: int = Field(default=10, ge=1)
    """Steps."""
    tool_rate: float = Field(default=0.02, ge=0.0, le=1.0)
    """Least share of trajectories with code, where it was ever above five times that: collapse to no code."""
    executable_rate: float = Field(default=0.5, ge=0.0, le=1.0)
    """Least share of code blocks that run without an error."""
    sampler_kl: float = Field(default=0.01, ge=0.0)
    """Most nats a token between sampler and trainer, on tokens that were sampled (k3): dropped pixels, wrong
    temperatures, stale weights. 0.001 is usual in bfloat16."""
    hacking: float = Field(default=0.9, ge=0.0, le=1.0)
    """Format above this while the result falls: the form is learnt instead of the task."""
    hacking_fall: float = Field(default=0.1, gt=0.0, le=1.0)
    """Least fall of the share of right answers below its best window that counts as falling."""
    read: float = Field(default=0.1, ge=0.0, le=1.0)
    """Most right answers that code printed without having found them out."""
    length_growth: float = Field(default=3.0, gt=1.0)
    """Most growth of generated tokens over the first window."""
    truncated: float = Field(default=0.3, ge=0.0, le=1.0)
    """Most trajectories that were cut at a bound."""
    unscored: float = Field(default=0.2, ge=0.0, le=1.0)
    """Most trajectories without a reward."""
    zero_variance: float = Field(default=0.8, ge=0.0, le=1.0)
    """Most groups whose members all earn the same."""
    entropy: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Least entropy of text, as a share of that of the first window."""
    hysteresis: float = Field(default=0.1, ge=0.0, lt=1.0)
    """An alarm ends once the figure is on the right side of its bound by this share of the bound."""
    stop: bool = False
    """End the run at an alarm, with a checkpoint, instead of going on."""


class GRPOSettings(TrainingSettings):
    """How `thyme.train.grpo` trains. One optimiser step a batch of fresh rollouts: fully on-policy (paper)."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the problems (paper: 1; released: 2)."""
    learning_rate: float = Field(default=5e-7, gt=0)
    """Peak rate of AdamW (paper: 5e-7)."""
    problems: int = Field(default=8, ge=1)
    """Problems in one step, over all processes."""
    group: int = Field(default=4, ge=2)
    """Rollouts of each problem (paper: 4). `problems` times `group` is the paper's batch (256)."""
    beta: float = Field(default=0.001, ge=0)
    """Weight of the KL divergence from the start of the run, k3 (paper: 0.001; released: 0.01). 0: no reference."""
    scale: Literal["group", "none"] = "group"
    """Whether advantages are divided by the standard deviation of their group (paper), or not (Dr. GRPO)."""
    code_policy: CodePolicy = "mask"
    """What code tokens do in the loss. ``keep``: they count, greedy ones by their log-probability at tau = 1 (as
    released). ``mask``: no gradient, not in the normaliser. ``tempered``: they count, and tau is above 0, so that their
    log-probabilities are those they were drawn with."""
    zero_variance: Literal["keep", "resample"] = "keep"
    """What becomes of groups whose members all get one reward, which teach nothing. ``resample``: other problems take
    their places, up to `resample_rounds` times (DAPO)."""
    resample_rounds: int = Field(default=2, ge=1)
    overlong: Literal["keep", "mask", "drop"] = "mask"
    """What becomes of rollouts that were cut at a bound of tokens, context, images or pixels. ``keep``: they count as
    they are scored. ``mask``: they count in the group's mean and not in the loss (released: overlong filter).
    ``drop``: in neither."""
    overturn: Literal["keep", "mask", "drop"] = "keep"
    """The same for rollouts that wanted to run code once more than allowed."""
    sampler_correction: Literal["none", "truncated"] = "none"
    """Weight tokens by trainer's over sampler's probability, at most `sampler_cap` (truncated importance sampling);
    for vLLM in bfloat16. Tokens that were greedy have weight 1."""
    sampler_cap: float = Field(default=2.0, ge=1.0)
    retries: int = Field(default=2, ge=0)
    """How often a rollout is begun again whose sandbox, engine or judge failed; afterwards it is unscored."""
    patience: int = Field(default=3, ge=1)
    """Steps without a single group of two rollouts to compare (not scored, or dropped), after which the run ends."""
    keep_trajectories: int = Field(default=10, ge=1)
    """Steps between those whose trajectories are kept for the report."""
    alarms: AlarmSettings = AlarmSettings()
    log_steps: int = Field(default=1, ge=1)
    """Steps between points of the curves."""

    @model_validator(mode="after")
    def _the_sampler_drops_nothing_out(self) -> GRPOSettings:
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                f"lora.dropout = {self.lora.dropout}: what is dropped out in training was there when the rollouts were "
                "drawn, so log-probabilities would not be theirs; leave it at 0"
            )
        return self

    @model_validator(mode="after")
    def _one_step_is_whole(self) -> GRPOSettings:
        if (self.problems * self.group) % self.batch_size:
            raise ValueError(
                f"problems x group = {self.problems * self.group} rollouts make no whole number of forward passes of "
                f"batch_size = {self.batch_size}"
            )
        return self
