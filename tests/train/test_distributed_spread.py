"""Models that are spread over two processes, by FSDP2 and by DeepSpeed, over gloo on the CPU.

They train what one process trains, whichever process has no image; end in the same files; go on after an end; and end
where one of them is killed. What FSDP2 and DeepSpeed do on a GPU otherwise than on a CPU is not seen here.
"""

from __future__ import annotations

import io
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import launched
import pytest
import run_recipes
import torch
from rich.console import Console
from transformers import AutoModelForImageTextToText

from thyme.store import read_trajectories
from thyme.train.sft.run import run_sft

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
SPREAD = [
    "fsdp2",
    pytest.param("zero2", marks=needs_deepspeed),
    pytest.param("zero3", marks=needs_deepspeed),
]
HOLDS_PARTS = {"fsdp2", "zero3"}
MODELS = ("qwen2_5_vl", "qwen3_vl", "internvl")
CHANGES: dict[str, dict[str, Any]] = {
    "tower frozen": {},
    "tower trained": {"freeze_vision": False},
    "tower trained, activations recomputed": {"freeze_vision": False, "gradient_checkpointing": True},
    "no image at all": {"mixture": "none"},
    "images here and there, two forwards a step": {"mixture": "some", "accumulation": 2},
    "adapters": {"lora": {"rank": 2}},
    "kept features": {"cache": "features"},
    "kept pixels, tower trained": {"cache": "pixels", "freeze_vision": False},
    "packed": {"mixture": "some", "packing": True, "packed_tokens": 300},
    "all logits": {"loss": "full"},
}


@pytest.fixture(scope="module")
def plans(request: pytest.FixtureRequest) -> list[launched.Plan]:
    """Every change on the first family, and the tower's two states on the others."""
    first, *others = (request.getfixturevalue(f"tiny_{name}") for name in MODELS)
    made = [launched.plan(first, **changes) for changes in CHANGES.values()]
    return made + [launched.plan(base, freeze_vision=frozen) for base in others for frozen in (True, False)]


@pytest.fixture(scope="module")
def alone(plans: list[launched.Plan], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[Any]]]:
    out = tmp_path_factory.mktemp("alone")
    return out, launched.reports(plans, out, patience=600)


@pytest.mark.parametrize("recipe", SPREAD)
def test_a_spread_model_trains_as_a_whole_one(
    recipe: str, plans: list[launched.Plan], alone: tuple[Path, list[list[Any]]], tmp_path: Path
) -> None:
    """Loss, gradient norm, validation loss, final weights and files of every plan."""
    folder, reports = alone
    for at, (two, (one,)) in enumerate(
        zip(launched.reports(plans, tmp_path, recipe, patience=600), reports, strict=True)
    ):
        for report in two:
            assert [p["loss"] for p in report["curve"]] == pytest.approx([p["loss"] for p in one["curve"]], rel=1e-5)
            norms = [[p["grad_norm"] for p in r["curve"]] for r in (report, one)]
            assert norms[0] == pytest.approx(norms[1], rel=1e-4), plans[at]
            assert report["validation"][0]["loss"] == pytest.approx(one["validation"][0]["loss"], rel=1e-5)
        assert launched.distance(folder / str(at), tmp_path / str(at)) < 5e-5, plans[at]
        assert launched.files(folder / str(at)) == launched.files(tmp_path / str(at))
        for name in ("config.json", "generation_config.json"):
            assert (folder / str(at) / name).read_bytes() == (tmp_path / str(at) / name).read_bytes()
        held = sum(report["held"] for report in two) / one["held"]
        # Parts are padded to equal sizes; without parts both hold everything.
        assert held == pytest.approx(1.0 if recipe in HOLDS_PARTS else 2.0, abs=0.05), plans[at]


@pytest.mark.parametrize("recipe", SPREAD)
def test_a_recipe_is_followed_and_its_evaluation_asks_whole_models(
    recipe: str, tiny_qwen2_5_vl: Path, tmp_path: Path
) -> None:
    """Each process asks its share of the problems: what it is answered is what one process is, before and after."""
    path = run_recipes.lay_out(tmp_path / "data", tiny_qwen2_5_vl, evaluated=True)
    plan = launched.plan(tiny_qwen2_5_vl, recipe=path)
    two = launched.reports([plan], tmp_path / "two", recipe)[0][0]
    one = run_recipes.read(path, "train.batch_size=4")
    run_sft(one, "tiny", tmp_path / "one", prompts=Path(one.prompts), console=Console(file=io.StringIO()))
    assert [(point["stage"], point["step"]) for point in two["evaluations"]] == [
        ("images", 0),
        ("images", 2),
        ("maths", 2),
    ]
    for where in ("images-000000", "maths-000002"):
        answers = [
            {
                trajectory.problem.id: trajectory.generated[0]
                for file in folder.glob(f"evaluation/{where}*.jsonl")
                for trajectory in read_trajectories(file)
            }
            for folder in (tmp_path / "one", tmp_path / "two" / "0")
        ]
        assert answers[0].keys() == answers[1].keys()
        for name, answer in answers[0].items():
            assert answers[1][name].token_ids == answer.token_ids
            assert answers[1][name].logprobs == pytest.approx(answer.logprobs, abs=1e-3)


@pytest.mark.parametrize("recipe", SPREAD)
@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 2}}], ids=["full", "adapters"])
def test_a_killed_run_ends_and_goes_on_where_it_was(
    recipe: str, changes: dict[str, Any], tiny_qwen2_5_vl: Path, tmp_path: Path
) -> None:
    """The other process does not wait for the killed one; the resumed run ends as an undisturbed one does."""
    plan = launched.plan(tiny_qwen2_5_vl, save_steps=1, **changes)
    launched.reports([plan], tmp_path / "whole", recipe)
    started = time.monotonic()
    killed = launched.start([plan | {"die": True}], tmp_path / "killed", recipe, patience=300)
    assert killed.returncode != 0
    assert time.monotonic() - started < 240, "the other process was ended, it did not wait for its own time to run out"
    assert "SIGKILL" in killed.stderr
    assert not (tmp_path / "killed" / "0" / "model.safetensors").exists()
    launched.reports([plan | {"resume": True}], tmp_path / "killed", recipe)
    assert launched.distance(tmp_path / "whole" / "0", tmp_path / "killed" / "0") < 1e-6
    steps = [
        [point["step"] for point in json.loads((tmp_path / name / "0" / "sft_report.json").read_text())["curve"]]
        for name in ("whole", "killed")
    ]
    assert steps[0] == steps[1] == [1, 2, 3, 4]
    texts = [file for file in (tmp_path / "killed").glob("0/**/*") if file.is_file()]
    assert not [file for file in texts if str(tmp_path).encode() in file.read_bytes()]
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "killed" / "0")
    assert all(torch.isfinite(parameter).all() for parameter in loaded.parameters())


def test_what_cannot_be_spread_is_said(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    done = launched.start([launched.plan(tiny_qwen2_5_vl, optimizer="muon")], tmp_path, "fsdp2")
    assert done.returncode != 0
    assert "muon needs whole matrices" in done.stderr
