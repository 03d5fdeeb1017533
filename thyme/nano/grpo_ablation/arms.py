"""The arms of the ablation of GRPO-ATS: what differs between them, and which differences answer the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from thyme.config import RolloutConfig, SandboxConfig
from thyme.config.base import Config
from thyme.config.grpo import CodePolicy, GRPOSettings
from thyme.config.rewards import RewardSettings
from thyme.config.sandbox import ALL_REPAIRS

Gating = Literal["multiplicative", "additive", "none"]
StartName = Literal["weak", "injected", "careless"]

START = "start"
"""The arm that is not trained: the start itself, asked what the others are asked."""
BASELINE = "tau0_mask"
"""The arm that the groups of temperatures and of gates have in common."""
NEED_CODE = ("zoom", "rotation", "contrast", "arithmetic", "two_round")
"""Kinds that cannot be answered without code, or hardly."""


@dataclass(frozen=True)
class Arm:
    """One way of reinforcement learning."""

    title: str
    tau: float = 0.0
    """Temperature of code while rolling out; that of text is 1."""
    policy: CodePolicy = "mask"
    """What code tokens do in the loss."""
    gating: Gating = "multiplicative"
    repairs: bool = True
    """Whether the sandbox repairs code while the policy is trained."""
    trained: bool = True


ARMS: dict[str, Arm] = {
    START: Arm("the start, not trained", trained=False),
    "tau0_keep": Arm("τ 0, code kept (as released)", policy="keep"),
    BASELINE: Arm("τ 0, code masked"),
    "tau0.3_tempered": Arm("τ 0.3, code tempered", tau=0.3, policy="tempered"),
    "tau1_keep": Arm("τ 1, code kept (plain GRPO)", tau=1.0, policy="keep"),
    "tau1_mask": Arm("τ 1, code masked", tau=1.0),
    "additive": Arm("additive consistency", gating="additive"),
    "ungated": Arm("no consistency", gating="none"),
    "tau1_keep_bare": Arm("τ 1, code kept, no repairs", tau=1.0, policy="keep", repairs=False),
}
"""Every arm differs from another one of its group in one thing."""

GROUPS: dict[str, tuple[str, ...]] = {
    "temperature": ("tau0_keep", BASELINE, "tau0.3_tempered", "tau1_keep", "tau1_mask"),
    "gating": (BASELINE, "additive", "ungated"),
    "repairs": ("tau1_keep", "tau1_keep_bare"),
}
"""Arms that are compared; an arm of two groups runs once. Whether repairs breed dependence is asked where code tokens
are in the loss, from a start whose code is often in need of one: greedy masked code is not paid for directly."""

STARTS: dict[StartName, tuple[str, tuple[str, ...]]] = {
    "weak": ("naturally weak: fine-tuned on clean demonstrations, too few steps", ("temperature", "gating")),
    "injected": ("injected errors: code tokens of its demonstrations replaced at random", ("temperature",)),
    "careless": ("careless: lines that import were left out of its demonstrations at random", ("repairs",)),
}
"""What each start is, and the groups that are run from it unless arms are named."""


def arms_of(start: StartName, named: Sequence[str] = ()) -> list[str]:
    """Arms that run from a start, in the order of `ARMS`, the start itself among them."""
    wanted = {START, *(named or (arm for group in STARTS[start][1] for arm in GROUPS[group]))}
    return [name for name in ARMS if name in wanted]


@dataclass(frozen=True)
class Comparison:
    """A difference between two arms, named before anything was run."""

    group: str
    one: str
    other: str
    measure: str
    """Name in `thyme.nano.grpo_ablation.stats.MEASURES`."""
    expected: Literal[-1, 0, 1] = 0
    """The sign that the paper leads one to expect of one minus other; 0: it says nothing."""
    claim: str = ""
    """What the paper says, in the terms of this world."""


_RUNS = "code written at τ 0 runs more often than code written at τ 1"
_USES = "at τ 1 the model gives code up, at τ 0 it keeps using it"
_LEARNS = "at τ 0 the same rollouts teach more"
_TEMPERATURES = (
    Comparison("temperature", BASELINE, "tau1_mask", "executable rate", 1, _RUNS),
    Comparison("temperature", BASELINE, "tau1_mask", "tool rate", 1, _USES),
    Comparison("temperature", BASELINE, "tau1_mask", "accuracy", 1, _LEARNS),
    Comparison("temperature", "tau0_keep", "tau1_keep", "executable rate", 1, _RUNS),
    Comparison("temperature", "tau0_keep", "tau1_keep", "tool rate", 1, _USES),
    Comparison("temperature", "tau0_keep", "tau1_keep", "accuracy", 1, _LEARNS),
    *(
        Comparison("temperature", *pair, measure)
        for pair in ((BASELINE, "tau0_keep"), (BASELINE, "tau0.3_tempered"), ("tau1_keep", "tau1_mask"))
        for measure in ("executable rate", "tool rate", "accuracy")
    ),
)
_GATED = "a consistency that pays only where the answer is right keeps the model from being consistent and wrong"
_GATES = (
    Comparison("gating", BASELINE, "additive", "accuracy", 1, _GATED),
    Comparison("gating", BASELINE, "additive", "consistent and wrong", -1, _GATED),
    Comparison("gating", BASELINE, "ungated", "accuracy", 1, "a gated consistency helps"),
    Comparison("gating", "additive", "ungated", "accuracy"),
)
_REPAIRS = (
    Comparison("repairs", "tau1_keep", "tau1_keep_bare", "accuracy"),
    Comparison("repairs", "tau1_keep", "tau1_keep_bare", "accuracy without repairs"),
    Comparison("repairs", "tau1_keep", "tau1_keep_bare", "lost without repairs"),
    Comparison("repairs", "tau1_keep", "tau1_keep_bare", "greedy executable rate without repairs"),
    Comparison("repairs", "tau1_keep", "tau1_keep_bare", "tool rate"),
)
COMPARISONS: tuple[Comparison, ...] = (*_TEMPERATURES, *_GATES, *_REPAIRS)
"""The questions, each written down before its arms ran. Whatever else the tables hold was not asked beforehand."""


class GRPOAblationSettings(Config):
    """How much of everything, the same for every arm and seed."""

    steps: int = Field(default=30, ge=1)
    """Optimiser steps of each arm."""
    problems: int = 7
    """In a step; kinds are drawn alike."""
    group: int = 8
    batch: int = 8
    """Rollouts in one forward pass."""
    learning_rate: float = 1e-4
    """Of AdamW, constant after the warm-up; no KL, and advantages are not divided by a standard deviation."""
    window: int = Field(default=10, ge=1)
    """Steps at the end, and at the beginning, that rates of training are counted over."""
    asked: int = 30
    """Test problems of each kind a seed, asked greedily at the end; other ones for each seed, the same for all arms."""
    measured: int = 20
    """Test problems of each kind that a start is asked at each temperature of code."""
    rows: int = 1200
    """Demonstrations of the undecided teacher that the starts learn from."""
    replayed: int = 400
    """Rows of perception among them."""
    sft_batch: int = 8
    weak_steps: int = 300
    """Of fine-tuning the shipped base on clean demonstrations."""
    weak_rate: float = 1e-3
    """Peak rate of AdamW in that, linear to 0; Muon's is eight times that."""
    injected_steps: int = 100
    """Of fine-tuning the shipped undecided weights on demonstrations whose code has errors injected."""
    injected_rate: float = 2e-4
    injected: float = Field(default=0.03, gt=0, lt=1)
    """Chance that a token of code is replaced by another one."""
    careless: float = Field(default=0.5, gt=0, le=1)
    """Chance that a code block loses its line of imports, which a repair makes up for; steps and rate as for
    `injected_steps`."""
    max_round_tokens: int = 256
    max_tokens: int = 512

    def rollout(self, arm: Arm) -> RolloutConfig:
        """How an arm rolls out while it is trained."""
        return RolloutConfig(
            text_temperature=1.0,
            code_temperature=arm.tau,
            max_rounds=3,
            max_round_tokens=self.max_round_tokens,
            max_tokens=self.max_tokens,
        )

    def training(self, arm: Arm, seed: int) -> GRPOSettings:
        """How an arm is trained; arms of a seed differ in the code policy only."""
        return GRPOSettings(
            max_steps=self.steps,
            problems=self.problems,
            group=self.group,
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            schedule="constant",
            warmup=min(0.1, 5 / self.steps),
            betas=(0.9, 0.95),
            beta=0.0,
            scale="none",
            code_policy=arm.policy,
            cache="features",
            device="cpu",
            bf16=False,
            seed=seed,
        )


def rewards(arm: Arm) -> RewardSettings:
    """What an arm is paid for: the paper's weights, by rules alone."""
    return RewardSettings(gating=arm.gating, consistency_by="rule")


def sandbox(repairs: bool) -> SandboxConfig:
    """Where code runs, with every repair or with none."""
    return SandboxConfig(repairs=ALL_REPAIRS if repairs else ())


SMOKE = GRPOAblationSettings(
    steps=2,
    problems=2,
    group=2,
    batch=2,
    window=1,
    asked=1,
    measured=1,
    rows=8,
    replayed=2,
    sft_batch=4,
    weak_steps=2,
    injected_steps=2,
    injected=0.2,
    max_round_tokens=24,
    max_tokens=32,
)
"""Goes all the way in a minute and learns nothing: for tests."""
