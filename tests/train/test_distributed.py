"""Two processes, really: what they train is what one process trains. Spread models: `test_distributed_spread`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import distributed_worker
import launched
import numpy as np
import pytest
import run_recipes
import samples
from distributed_worker import made_samples

from thyme.errors import UsageError
from thyme.families import load_family
from thyme.train import distributed
from thyme.train.batches.dummy_vision import unseen_image, with_unseen_image
from thyme.train.encode import encode

pytestmark = [
    pytest.mark.timeout(800),  # a hang ends earlier: see `launched.start`
]

RECIPES = {
    "ddp": {"distributed_type": "MULTI_GPU"},
    "fsdp2": {"distributed_type": "FSDP"},
    "fsdp2_offload": {"distributed_type": "FSDP"},
    "zero2": {"distributed_type": "DEEPSPEED"},
    "zero3": {"distributed_type": "DEEPSPEED"},
}


def test_one_process_is_the_main_one_of_one_and_loads_no_torch() -> None:
    code = (
        "import sys; from thyme.train import distributed as d;"
        "assert (d.rank(), d.world_size(), d.is_main()) == (0, 1, True); d.barrier(); d.connect(); d.leave();"
        "assert d.gather('a') == ['a'] and d.broadcast('b') == 'b' and not d.sharding();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_launchers_ranks_count_before_the_processes_are_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (3, 8, False)
    assert str(distributed.own_device(cpu=False)) == "cuda:1"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert str(distributed.own_device(cpu=False)) == "cpu"


@pytest.mark.parametrize("name", RECIPES)
def test_accelerate_reads_the_launch_recipes(name: str) -> None:
    """Through its own parser, which refuses keys that it does not know."""
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    config = load_config_from_file(str(distributed.launcher(name)))
    assert isinstance(config, ClusterConfig)
    assert config.num_processes == 8
    assert config.distributed_type == RECIPES[name]["distributed_type"]
    assert config.mixed_precision == "no", "the recipe of the training decides, not the launcher"
    assert name in distributed.launcher(name).read_text(), "it says how it is used"


def test_there_is_a_command_that_says_where_a_launch_recipe_lies() -> None:
    command = [sys.executable, "-m", "thyme.train.distributed"]
    found = subprocess.run([*command, "fsdp2"], capture_output=True, text=True, check=True, timeout=60)
    assert Path(found.stdout.strip()).samefile(distributed.launcher("fsdp2"))
    wrong = subprocess.run([*command, "fsdp"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2
    assert "no launch recipe 'fsdp'; there are: ddp, fsdp2" in wrong.stderr
    with pytest.raises(UsageError, match="zero3"):
        distributed.launcher("zero4")


def test_the_image_that_nobody_looks_at_is_behind_the_shortest_row(tiny_checkpoint: Path) -> None:
    family = load_family(tiny_checkpoint)
    short, long = (encode(samples.trajectory(r, family=family, images=[]), family) for r in ([], [samples.crop(1)]))
    text_only = made_samples(family, "none", 3)
    rows = [[text_only[0], text_only[1]], [short]]
    first, second = with_unseen_image(rows, family)
    assert first == rows[0]
    assert np.array_equal(second[0].ids[: len(short)], short.ids)
    assert second[0].images == (unseen_image(),)
    added = second[0].ids[len(short) :]
    assert (added == family.image_token_id).sum() == family.image_tokens(second[0].grids[0])
    assert not second[0].loss_mask[len(short) :].any()
    assert second[0].trained == short.trained
    assert with_unseen_image([[short], [long]], family) == [[short], [long]], "there is an image already"


PLANS: dict[str, dict[str, Any]] = {
    "images here and there, tower frozen": {"mixture": "some"},
    "tower trained, activations recomputed": {"freeze_vision": False, "gradient_checkpointing": True},
    "adapters": {"lora": {"rank": 2}},
    "two forwards a step": {"accumulation": 2, "mixture": "some"},
}
MORE: dict[str, dict[str, Any]] = {
    "tower trained": {"freeze_vision": False},
    "no image at all, tower trained": {"mixture": "none", "freeze_vision": False},
    "kept features": {"cache": "features"},
    "packed": {"packing": True, "packed_tokens": 300, "mixture": "some"},
}
OF_TWO: dict[str, dict[str, Any]] = {
    "whole": {"mixture": "some", "save_steps": 2},
    "resumed": {"mixture": "some", "save_steps": 2, "resume_from": (len(PLANS), 2)},
    "streamed": {"mixture": "some", "save_steps": 2, "streamed": True, "max_steps": 4},
    "streamed, resumed": {
        "mixture": "some",
        "save_steps": 2,
        "streamed": True,
        "max_steps": 4,
        "resume_from": (len(PLANS) + 2, 2),
    },
}
"""Runs of two processes that are held against each other."""


Runs = tuple[Path, dict[str, list[list[Any]]]]


def in_this_process(plans: Sequence[launched.Plan], out: Path) -> list[list[Any]]:
    """The reports of one process."""
    placed = [launched.placed(plan, out, place, 1) for place, plan in enumerate(plans)]
    return [[distributed_worker.run(plan)] for plan in placed]


@pytest.fixture(scope="module")
def runs(tiny_qwen2_5_vl: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every plan by one process and by two, their folders ``one`` and ``ddp``."""
    out = tmp_path_factory.mktemp("processes")
    plans = [launched.plan(tiny_qwen2_5_vl, **changes) for changes in PLANS.values()]
    more = [launched.plan(tiny_qwen2_5_vl, **changes) for changes in OF_TWO.values()]
    recipe = run_recipes.lay_out(tmp_path_factory.mktemp("recipe"), tiny_qwen2_5_vl, evaluated=True)
    more.append(launched.plan(tiny_qwen2_5_vl, recipe=recipe))
    return out, {
        "one": in_this_process(plans, out / "one"),
        "ddp": launched.reports([*plans, *more], out / "ddp", "ddp"),
    }


@pytest.fixture(scope="module")
def more(tiny_qwen2_5_vl: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    out = tmp_path_factory.mktemp("more")
    plans = [launched.plan(tiny_qwen2_5_vl, **changes) for changes in MORE.values()]
    return out, {
        "one": in_this_process(plans, out / "one"),
        "ddp": launched.reports(plans, out / "ddp", "ddp"),
    }


@pytest.mark.parametrize("name", PLANS)
def test_two_processes_train_what_one_trains(runs: Runs, name: str) -> None:
    assert_the_same(runs, list(PLANS).index(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_two_processes_train_what_one_trains_in_every_way(more: Runs, name: str) -> None:
    assert_the_same(more, list(MORE).index(name))


def assert_the_same(runs: Runs, at: int) -> None:
    """Loss and gradient norm of every step, validation loss, weights. Samples differ in trained tokens and in images:
    a mean over processes would differ from the mean over the step's tokens, and one process often has no image.
    """
    out, found = runs
    (one,), two = found["one"][at], found["ddp"][at]
    assert len(one["curve"]) >= 2
    for report in two:
        assert [point["loss"] for point in report["curve"]] == pytest.approx(
            [p["loss"] for p in one["curve"]], rel=1e-5
        )
        assert [p["grad_norm"] for p in report["curve"]] == pytest.approx(
            [p["grad_norm"] for p in one["curve"]], rel=1e-4
        )
        assert report["validation"][0]["loss"] == pytest.approx(one["validation"][0]["loss"], rel=1e-5)
        assert (report["samples"], report["tokens"]) == (one["samples"], one["tokens"])
    assert launched.distance(out / "one" / str(at), out / "ddp" / str(at)) < 2e-5
    assert launched.files(out / "one" / str(at)) == launched.files(out / "ddp" / str(at))


@pytest.mark.parametrize("kind", ["whole", "streamed"])
def test_a_resumed_run_of_two_processes_ends_as_the_whole_one(runs: Runs, kind: str) -> None:
    out, found = runs
    names = list(OF_TWO)
    whole = len(PLANS) + names.index(kind)
    for one, other in zip(found["ddp"][whole], found["ddp"][whole + 1], strict=True):
        assert [point["step"] for point in one["curve"]] == [1, 2, 3, 4]
        assert [point["loss"] for point in other["curve"]] == [point["loss"] for point in one["curve"]]
    assert launched.distance(out / "ddp" / str(whole), out / "ddp" / str(whole + 1)) == 0


def test_two_processes_share_a_stream_out(runs: Runs, tiny_qwen2_5_vl: Path) -> None:
    """Four steps of two samples are one pass: every row once, none of them in both processes."""
    _, found = runs
    samples_of_a_pass = made_samples(load_family(tiny_qwen2_5_vl), "some")
    for report in found["ddp"][len(PLANS) + list(OF_TWO).index("streamed")]:
        assert report["samples"] == len(samples_of_a_pass)
        assert report["tokens"] == sum(map(len, samples_of_a_pass))
        assert report["trained_tokens"] == sum(sample.trained for sample in samples_of_a_pass)


def test_two_processes_follow_a_recipe_and_share_the_problems_of_its_evaluation_out(
    runs: Runs,
) -> None:
    """Both stages, asked before, between and after: three problems, each asked by one process, counted by both."""
    out, found = runs
    at = len(PLANS) + len(OF_TWO)
    first, second = found["ddp"][at]
    assert first["processes"] == 2
    assert [point["kinds"]["all"]["n"] for point in first["evaluations"]] == [3, 3, 3]
    assert [point["kinds"] for point in first["evaluations"]] == [point["kinds"] for point in second["evaluations"]]
    assert [stage["sources"] for stage in first["stages"]] == [stage["sources"] for stage in second["stages"]]
    folder = out / "ddp" / str(at)
    assert json.loads((folder / "sft_report.json").read_text())["stages"] == first["stages"]
    for where in ("images-000000", "images-000002", "maths-000002"):
        asked = [
            [json.loads(line)["problem"]["id"] for line in file.read_text().splitlines()]
            for file in sorted((folder / "evaluation").glob(f"{where}-*.jsonl"))
        ]
        assert asked == [["problems-1", "problems-3"], ["problems-2"]]
    assert (folder / "maths" / "model.safetensors").is_file()
    assert (folder / "report.html").is_file()


def test_a_run_of_two_processes_names_no_folder_of_the_machine(runs: Runs, tiny_qwen2_5_vl: Path) -> None:
    out, _ = runs
    for file in (out / "ddp").glob("[0-9]*/**/*"):
        if file.is_file():
            text = file.read_bytes()
            assert str(out).encode() not in text
            assert str(tiny_qwen2_5_vl).encode() not in text
    assert json.loads((out / "ddp" / "0" / "sft_report.json").read_text())["samples"] == 8
