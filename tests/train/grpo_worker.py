"""One process of a run of GRPO, alone or of several, for the tests. Not a test."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from distributed_worker import Watcher, bring_checkpoint, main
from grpo_made import MadeProblems, MadeRoller
from rich.console import Console
from safetensors.torch import save_file

from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.config.grpo import GRPOSettings
from thyme.config.rewards import RewardSettings
from thyme.config.vllm import VllmConfig
from thyme.engines.vllm import VllmEngine
from thyme.families import Family, load_family
from thyme.nano.world import KINDS, problem
from thyme.prompts import PromptSet
from thyme.train import distributed
from thyme.train.grpo.groups import Asked, Group, Problems, Roller
from thyme.train.grpo.policies import Policy, TransformersPolicy, VllmPolicy
from thyme.train.grpo.records import Trained
from thyme.train.grpo.roller import GroupRoller
from thyme.train.grpo.train import train_grpo
from thyme.types import Problem


@dataclass(frozen=True)
class NanoProblems:
    """A few of the embedded world."""

    fingerprint: str = "nano"

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int, /) -> Problem:
        return problem("train", 0, index, KINDS[index % len(KINDS)])


class Recorder:
    """Stands in for vLLM: keeps whatever weights it is handed."""

    ended = False

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    async def update_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights}

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class CopyingRoller:
    """Brings a copy of the weights up to date before each roll, and keeps it in a file of each process."""

    inner: MadeRoller
    policy: VllmPolicy
    out: Path
    engine: Recorder = field(default_factory=Recorder)

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        VllmEngine.load = lambda *args, **kwargs: self.engine  # type: ignore[method-assign,assignment,return-value]  # see Recorder
        asyncio.run(self._copy(model, step))
        return self.inner.roll(model, asked, step=step, group=group)

    async def _copy(self, model: Any, step: int) -> None:
        async with self.policy.asking(model, step):
            pass
        self.out.mkdir(parents=True, exist_ok=True)
        save_file(self.engine.weights, self.out / f"copy-{step}-{distributed.rank()}.safetensors")

    def close(self) -> None:
        self.inner.close()


def works(plan: dict[str, Any], base: Path, family: Family, out: Path) -> tuple[Problems, Roller]:
    """What a run asks, and who answers."""
    if plan["real"]:
        engine = EngineConfig(max_batch=8)
        if plan["real"] == "vllm":
            own = VllmConfig(kv_cache_gib=0.25, max_images=8)
            policy: Policy = VllmPolicy(base, engine.model_copy(update={"vllm": own, "max_context": 1024}), name="nano")
        else:
            policy = TransformersPolicy(family, engine, name="nano")
        config = RolloutConfig(text_temperature=1.0, max_tokens=300)
        rewards = RewardSettings()
        return NanoProblems(), GroupRoller(
            policy, PromptSet.load(base / "prompts"), config=config, sandbox=SandboxConfig(), rewards=rewards
        )
    made = MadeRoller(family, **plan["roller"])
    if plan["copies"]:
        return MadeProblems(), CopyingRoller(made, VllmPolicy(base, EngineConfig()), out)
    return MadeProblems(), made


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Train as the plan says; what this process was told."""
    base, out = Path(plan["base"]), Path(plan["out"])
    family = load_family(base)
    bring_checkpoint(plan)
    told: list[dict[str, Any]] = []

    def tell(step: int, trained: Trained, groups: Sequence[Group], seconds: dict[str, float]) -> None:
        names = [[member.trajectory.id for member in group.members] for group in groups]
        told.append({"step": step, "trained": trained.model_dump(mode="json"), "groups": names, "parts": [*seconds]})

    watcher = Watcher(die=plan["die"])
    problems, roller = works(plan, base, family, out)
    try:
        train_grpo(
            problems,
            roller,
            base,
            GRPOSettings(**plan["settings"]),
            out,
            family=family,
            tell=tell,
            resume=plan["resume_from"] is not None or plan["resume"],
            console=Console(file=io.StringIO()),
            callbacks=[watcher],
        )
    finally:
        roller.close()
    return {"told": told, "held": watcher.held}


if __name__ == "__main__":
    main(run)
