"""GRPO with weights that FSDP2 or DeepSpeed spread over two processes, over gloo on the CPU.

They learn what one process learns from the same rollouts, with a reference and with adapters; a copy of the model that
is brought up to date in each step is whole in every process; and what cannot be is said. That vLLM takes such a copy is
tested in tests/vllm; what FSDP2 and DeepSpeed do on a GPU otherwise than on a CPU is not seen here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpo_launched
import launched
import pytest
import torch
from safetensors.torch import load_file

from thyme.nano import checkpoint_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
SPREAD = [
    "fsdp2",
    pytest.param("zero2", marks=needs_deepspeed),
    pytest.param("zero3", marks=needs_deepspeed),
]
HOLDS_PARTS = {"fsdp2", "zero3"}
PLANS: dict[str, dict[str, Any]] = {
    "images here and there": {"copies": True},
    "one process sees no image": {"roller": {"mixture": "halves"}, "copies": True},
    "one process sees no image, tower trained": {"roller": {"mixture": "halves"}, "freeze_vision": False},
    "against the start": {"beta": 0.05, "code_policy": "keep"},
    "adapters against the start": {"beta": 0.05, "lora": {"rank": 2}, "learning_rate": 1e-2, "copies": True},
    "one process has no score": {"roller": {"paid": "not the second half"}},
    "one process has no score, against the start": {"roller": {"paid": "not the second half"}, "beta": 0.05},
    "recomputed activations": {"gradient_checkpointing": True, "freeze_vision": False},
}


@pytest.fixture(scope="module")
def plans(tiny_qwen2_5_vl: Path, tiny_qwen3_vl: Path) -> list[launched.Plan]:
    made = [grpo_launched.plan(tiny_qwen2_5_vl, **changes) for changes in PLANS.values()]
    return [*made, grpo_launched.plan(tiny_qwen3_vl, beta=0.05, copies=True)]


@pytest.fixture(scope="module")
def alone(plans: list[launched.Plan], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[Any]]]:
    out = tmp_path_factory.mktemp("alone")
    return out, grpo_launched.reports(plans, out, patience=600)


@pytest.mark.parametrize("recipe", SPREAD)
def test_a_spread_model_learns_what_a_whole_one_learns(
    recipe: str, plans: list[launched.Plan], alone: tuple[Path, list[list[Any]]], tmp_path: Path
) -> None:
    """Every figure of every step, final weights and files, and the copies of the weights before each step."""
    folder, reports = alone
    for at, (two, (one,)) in enumerate(
        zip(grpo_launched.reports(plans, tmp_path, recipe, patience=600), reports, strict=True)
    ):
        for process in two:
            for told, expected in zip(process["told"], one["told"], strict=True):
                grpo_launched.assert_alike(told["trained"], expected["trained"])
        assert launched.distance(folder / str(at) / "model", tmp_path / str(at) / "model") < 5e-5, plans[at]
        assert launched.files(folder / str(at)) == without_copies_of_others(launched.files(tmp_path / str(at)))
        held = sum(process["held"] for process in two) / one["held"]
        # Parts are padded to equal sizes; without parts both hold everything.
        assert held == pytest.approx(1.0 if recipe in HOLDS_PARTS else 2.0, abs=0.05), plans[at]
        for copy in sorted((folder / str(at)).glob("copy-*-0.safetensors")):
            whole = load_file(copy)
            for rank in (0, 1):
                gathered = load_file(tmp_path / str(at) / copy.name.replace("-0.", f"-{rank}."))
                assert gathered.keys() == whole.keys(), plans[at]
                for name, tensor in whole.items():
                    torch.testing.assert_close(gathered[name], tensor, rtol=0, atol=5e-5)


def without_copies_of_others(files: list[str]) -> list[str]:
    return [name for name in files if not (name.startswith("copy-") and name.endswith("-1.safetensors"))]


@pytest.mark.parametrize("recipe", SPREAD)
@pytest.mark.parametrize("changes", [{"beta": 0.05}, {"beta": 0.05, "lora": {"rank": 2}}], ids=["full", "adapters"])
def test_a_killed_run_ends_and_goes_on_where_it_was(
    recipe: str, changes: dict[str, Any], tiny_qwen2_5_vl: Path, tmp_path: Path
) -> None:
    plan = grpo_launched.plan(tiny_qwen2_5_vl, save_steps=1, max_steps=4, **changes)
    whole = grpo_launched.reports([plan], tmp_path / "whole", recipe)[0]
    killed = grpo_launched.start([plan | {"die": True}], tmp_path / "killed", recipe)
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    resumed = grpo_launched.reports([plan | {"resume": True}], tmp_path / "killed", recipe)[0]
    for one, other in zip(whole, resumed, strict=True):
        assert [told["groups"] for told in other["told"]] == [told["groups"] for told in one["told"][2:]]
        for told, expected in zip(other["told"], one["told"][2:], strict=True):
            grpo_launched.assert_alike(told["trained"], expected["trained"])
    assert launched.distance(tmp_path / "whole" / "0" / "model", tmp_path / "killed" / "0" / "model") < 1e-6


def test_rollouts_by_the_spread_model_itself_are_refused(tmp_path: Path) -> None:
    done = grpo_launched.start([grpo_launched.plan(checkpoint_path(), real=True)], tmp_path, "fsdp2")
    assert done.returncode != 0
    assert "engine.backend = 'vllm'" in done.stderr


def test_kept_features_are_refused(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    done = grpo_launched.start([grpo_launched.plan(tiny_qwen2_5_vl, cache="features")], tmp_path, "fsdp2")
    assert done.returncode != 0
    assert "cache = 'features' needs the whole vision tower" in done.stderr


@pytest.mark.parametrize("recipe", ["ddp", "fsdp2"])
def test_two_nodes_learn_what_one_process_learns(recipe: str, tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    """The commands of docs/scale.md for several nodes, both nodes on this machine."""
    plan = grpo_launched.plan(tiny_qwen2_5_vl, beta=0.05)
    (one,) = grpo_launched.reports([plan], tmp_path / "one")[0]
    two = grpo_launched.nodes([plan], tmp_path / "two", recipe)[0]
    for process in two:
        for told, expected in zip(process["told"], one["told"], strict=True):
            grpo_launched.assert_alike(told["trained"], expected["trained"])
    assert launched.distance(tmp_path / "one" / "0" / "model", tmp_path / "two" / "0" / "model") < 5e-5
