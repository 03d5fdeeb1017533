"""A step of GRPO end to end on the embedded model: rollouts by the engine, one optimiser step, what is written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import EngineRoller, NanoProblems
from rich.console import Console
from transformers import AutoModelForImageTextToText

from thyme.config.grpo import GRPOSettings
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.prompts import PromptSet
from thyme.train.grpo.groups import Group
from thyme.train.grpo.records import Trained
from thyme.train.grpo.train import train_grpo

# peft still asks transformers by the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan(**changes: Any) -> GRPOSettings:
    usual = {
        "problems": 2,
        "group": 4,
        "batch_size": 4,
        "max_steps": 2,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup": 0.0,
        "device": "cpu",
        "cache": "features",
    }
    return GRPOSettings(**(usual | changes))


def test_steps_are_told_and_the_model_is_saved(tmp_path: Path) -> None:
    start = checkpoint_path("final")
    roller = EngineRoller(load_family(start), PromptSet.load(start / "prompts"))
    told: list[tuple[int, Trained, list[Group], dict[str, float]]] = []
    steps = train_grpo(
        NanoProblems(),
        roller,
        start,
        plan(),
        tmp_path,
        tell=lambda *args: told.append(args),
        console=Console(file=io.StringIO()),
    )
    assert [step for step, _ in steps] == [step for step, *_ in told] == [1, 2]
    before = AutoModelForImageTextToText.from_pretrained(start).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").state_dict()
    assert any((before[name] - after[name]).abs().max() > 0 for name in before)
