"""GRPO with vLLM in the process: what it samples with are the weights in training, step after step, adapters too."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from thyme.config import EngineConfig, RolloutConfig
from thyme.config.grpo import GRPOSettings
from thyme.config.rewards import RewardSettings
from thyme.config.sandbox import SandboxConfig
from thyme.config.training import LoraSettings
from thyme.config.vllm import VllmConfig
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.nano.world import problem
from thyme.train.grpo.groups import Asked, Group
from thyme.train.grpo.policies import VllmPolicy
from thyme.train.grpo.records import Trained
from thyme.train.grpo.roller import GroupRoller
from thyme.types import Problem

sys.path.append(str(Path(__file__).parent.parent / "train"))  # grpo_rollers: what the tests of rollers share

FINAL = checkpoint_path("final")
CONFIG = EngineConfig(backend="vllm", vllm=VllmConfig(kv_cache_gib=0.5, block_size=32))
KINDS = ("zoom", "contrast", "two_round", "arithmetic")


class Nano:
    """Problems of the embedded world."""

    fingerprint = "nano"

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int, /) -> Problem:
        return problem("train", 5, index, KINDS[index % len(KINDS)])  # type: ignore[arg-type]  # kinds they are


@pytest.fixture(scope="module")
def roller() -> Iterator[GroupRoller]:
    """Hot enough that the members of a group differ."""
    from grpo_rollers import nano_prompts

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    opened = GroupRoller(
        VllmPolicy(FINAL, CONFIG, name="nano"),
        nano_prompts(FINAL),
        config=RolloutConfig(text_temperature=1.3, max_round_tokens=160, max_tokens=400),
        sandbox=SandboxConfig(pool=1),
        rewards=RewardSettings(),
    )
    yield opened
    opened.close()
    torch.set_num_threads(threads)
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("thyme-")]:
        thread.join(30)
        assert not thread.is_alive()


def train(roller: GroupRoller, out: Path, **settings: Any) -> tuple[list[tuple[int, Trained]], list[list[Group]]]:
    from thyme.train.grpo.train import train_grpo

    groups: list[list[Group]] = []
    chosen = GRPOSettings(
        max_steps=3,
        problems=4,
        group=6,
        batch_size=6,
        learning_rate=2e-3,
        schedule="constant",
        warmup=0.0,
        beta=0.0,
        device="cpu",
        **settings,
    )
    steps = train_grpo(
        Nano(), roller, FINAL, chosen, out, tell=lambda step, trained, made, seconds: groups.append(made)
    )
    return steps, groups


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=8)], ids=["full", "lora"])
def test_the_weights_in_vllm_are_those_in_training(
    lora: LoraSettings | None, roller: GroupRoller, tmp_path: Path
) -> None:
    """Of every step, on drawn and on greedy tokens; and the weights do change from step to step."""
    steps, groups = train(roller, tmp_path, lora=lora, code_policy="keep")
    assert [step for step, _ in steps] == [1, 2, 3]
    for _, trained in steps:
        assert trained.loss != 0
        assert trained.gaps["text"].tokens > 100
        assert trained.gaps["greedy"].tokens > 50
        for gap in trained.gaps.values():
            assert gap.largest < 2e-3
            assert gap.mean < 1e-4
    prints = [{member.trajectory.fingerprints.model for group in made for member in group.members} for made in groups]
    assert [len(found) for found in prints] == [1, 1, 1]
    assert len(set.union(*prints)) == 3
    # What the first step sampled with is far from what training ended with.
    assert gap_under(tmp_path / "model", groups[0]) > 0.05
    fresh = roller.roll(loaded(tmp_path / "model"), [Asked(0, Nano()[0])], step=3, group=2)
    assert gap_under(tmp_path / "model", fresh) < 2e-3


def test_an_engine_that_breaks_down_is_started_anew_with_the_weights_of_now(roller: GroupRoller) -> None:
    """Not with those of the checkpoint that it was started from."""
    from test_grpo_policies import largest_gap, nano, step_of_training

    model, family = nano(), load_family(FINAL)
    step_of_training(model, 0.02)
    policy: Any = roller._policy
    roller.roll(model, [Asked(0, Nano()[0])], step=10, group=2)
    started = policy._engine

    def fails() -> None:
        raise RuntimeError("a mistake of ours")

    started._loop._commands.put(fails)
    groups = roller.roll(model, [Asked(0, Nano()[0]), Asked(1, Nano()[1])], step=11, group=2)
    assert policy._engine is not started
    assert roller.counters["unscored"] == 0
    assert largest_gap(model, groups, family) < 2e-3


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def gap_under(folder: Path, groups: list[Group]) -> float:
    """Largest difference in log-probability from a plain forward of a saved model."""
    from test_grpo_policies import largest_gap

    return largest_gap(loaded(folder), groups, load_family(FINAL))
