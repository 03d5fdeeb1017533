"""`thyme grpo` from the command line: a whole run, a look at one, its recipes, and what it says where something is
wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_helpers import thyme
from typer.testing import CliRunner

from thyme.cli import app
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.load import RECIPES, load, recipes
from thyme.models import checkpoint_folder

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "train.max_steps=2",
    "train.problems=2",
    "train.group=2",
    "train.batch_size=2",
    "data.world.subset=arithmetic:2,contrast:1",
    "rollout.max_tokens=96",
    "evaluation.data.limit=2",
    "evaluation.data.subset=arithmetic",
    "evaluation.rollout.max_tokens=8",
    "model=nano",
)


def grpo(*arguments: str, small: tuple[str, ...] = SMALL) -> Any:
    given = [part for setting in small for part in ("--set", setting)]
    return CliRunner().invoke(app, ["grpo", *arguments, *given])


def test_the_embedded_model_is_trained_and_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = grpo("@nano_grpo", "--out", str(out), "--tracker", "tensorboard")
    assert done.exit_code == 0, done.output
    report = json.loads((out / "grpo_report.json").read_text())
    assert (report["name"], len(report["steps"])) == ("nano_grpo", 2)
    assert [point["step"] for point in report["evaluations"]] == [0, 2]
    assert list((out / "tracking/tensorboard").iterdir())
    assert re.search(r"step 2 of 2, reward [\d.-]+, right [\d-]+%?, code \d+%", done.stderr)
    again = grpo("@nano_grpo", "--out", str(out))
    assert again.exit_code == 2
    assert "go on with it (--resume)" in again.stderr
    finished = grpo("@nano_grpo", "--out", str(out), "--resume", "--tracker", "tensorboard")
    assert (finished.exit_code, "nothing is left to do" in finished.stderr) == (0, True)
    asked = CliRunner().invoke(app, ["ask", "What is 12 * 12?", "--model", str(out / "model"), "--json"])
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)


def test_a_dry_run_rolls_a_group_out_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    looked = grpo("@nano_grpo", "--dry-run")
    assert looked.exit_code == 0, looked.output
    text = re.sub(r"\s+", " ", looked.stdout)
    for said in (
        "world (nano) without end",
        "2 steps of 2 x 2 rollouts",
        "8 rollouts in all",
        "evaluation: 2 problems (nano)",
        "memory, estimated, longest allowed",
        "memory, estimated, longest seen",
        "rollout 2: reward",
        "advantage",
        "<think>",
    ):
        assert said in text, said
    assert not list(tmp_path.iterdir())


def test_a_dry_run_leaves_the_group_as_a_page_where_a_folder_is_named(tmp_path: Path) -> None:
    out = tmp_path / "looked" / "at"
    looked = grpo("@nano_grpo", "--dry-run", "--out", str(out))
    assert looked.exit_code == 0, looked.output
    assert "group.html" in looked.stdout
    assert [file.name for file in out.iterdir()] == ["group.html"]
    assert (out / "group.html").read_text().count("advantage") >= 2
    (out / "grpo_run.json").write_text("{}")
    of_a_run = grpo("@nano_grpo", "--dry-run", "--out", str(out))
    assert (of_a_run.exit_code, "'at' holds a run" in of_a_run.stderr) == (2, True)


def test_a_dry_run_of_a_model_that_is_not_here_checks_the_rest(tmp_path: Path) -> None:
    rows = tmp_path / "problems.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{i} + 1?", "answer": str(i + 1)}) + "\n" for i in range(130)))
    text = (RECIPES / "grpo/thyme_7b.toml").read_text()
    (tmp_path / "mine.toml").write_text(re.sub(r"\[rewards\.judge\]\n(.+\n)+", "", text))
    small = (
        "model=Qwen/Qwen2.5-VL-7B-Instruct",
        "data.published.format=problems",
        f"data.published.path={rows}",
        "rewards.result_by=rules",
        "rewards.consistency_by=rule",
    )
    done = grpo(f"@{tmp_path / 'mine.toml'}", "--dry-run", small=small)
    assert done.exit_code == 0, done.output
    text = re.sub(r"\s+", " ", done.stdout)
    assert "130 problems, 3 steps of 64 x 4 rollouts" in text
    assert "memory, estimated, longest allowed (10240 tokens a sample)" in text
    assert "and the reference" in text
    assert "nothing can be rolled out" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["@nano_grop"], "did you mean @nano_grpo?"),
        (["@nano_sft"], "@nano_sft is a recipe of `thyme sft`"),
        (["@nano_grpo", "--set", "data.world.limt=3"], "did you mean 'data.world.limit'?"),
        (["@nano_grpo", "--set", "train.groups=3"], "did you mean 'train.group'?"),
        (["@nano_grpo", "--set", "prompts=nowhere"], "there is no folder 'nowhere'"),
        (["@nano_grpo", "--set", "evaluation.data.split=train"], "no measure"),
        (["@nano_grpo", "--set", "data.world.subset=zom"], "no kind 'zom'"),
        (["@nano_grpo", "--set", "train.code_policy=tempered"], "rollout.code_temperature above 0"),
        (["@nano_grpo", "--set", "rewards.result_by=judge"], "judge.model = 'URL#NAME'"),
        (["@nano_grpo", "--set", "train.batch_size=7"], "batch_size"),
        (["@nano_grpo", "--set", "engine.max_pixels=4096"], "engine.max_pixels is that of the run: set max_pixels"),
        (["@nano_grpo", "--set", "engine.device=cpu"], "set train.device"),
        (["@nano_grpo", "--dry-run", "--set", "data.world.format=problems"], "needs a path"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = grpo(*arguments, "--out", str(tmp_path / "run"), small=("model=nano",))
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_judge_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    nobody = "rewards.judge={model='http://127.0.0.1:9/v1#m', retries=0}"
    done = grpo("@nano_grpo", "--out", str(tmp_path / "run"), small=(*SMALL, nobody, "rewards.result_by=judge"))
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/v1 cannot be reached" in done.stderr
    assert not (tmp_path / "run/grpo_run.json").exists()


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "trl.py").write_text("raise ImportError('no trl', name='trl')")
    done = thyme("grpo", "@nano_grpo", "--dry-run", environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert b"pip install 'thyme-vl[train]'" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", recipes(GRPORecipe))
def test_every_recipe_can_be_read_and_says_what_was_run_of_it(name: str) -> None:
    recipe = load(f"@{name}", [], GRPORecipe)
    assert (recipe.train.problems * recipe.train.group) % recipe.train.batch_size == 0
    assert (recipe.rollout.text_temperature, recipe.rollout.code_temperature) == (1.0, 0.0)
    head = (RECIPES / f"grpo/{name}.toml").read_text().split("\nmodel =")[0]
    assert f"thyme grpo @{name}" in head
    assert name == "nano_grpo" or "checked as a configuration; it has not been run" in head


def test_the_recipe_of_the_paper_holds_its_values() -> None:
    paper = load("@thyme_7b", [], GRPORecipe)
    train, rewards = paper.train, paper.rewards
    assert (train.learning_rate, train.epochs, train.beta, train.group) == (5e-7, 1, 0.001, 4)
    assert train.problems * train.group == 256
    assert (rewards.preset, rewards.gating, rewards.result_by) == ("paper", "multiplicative", "rules_then_judge")
    assert (rewards.result, rewards.consistency, rewards.format, rewards.consistency_by) == (1, 0.5, 0.5, "judge")
    assert paper.rollout.repetition.variant == "rolling"


def test_the_recipe_of_the_released_code_holds_its_values() -> None:
    released = load("@thyme_7b_released", [], GRPORecipe)
    train, rewards = released.train, released.rewards
    assert (train.learning_rate, train.epochs, train.beta, train.group) == (5e-7, 2, 0.01, 4)
    assert (train.schedule, train.rate_floor, train.warmup, train.overlong) == ("cosine", 0.1, 0.03, "mask")
    assert (rewards.preset, train.code_policy) == ("released", "keep")
    assert (released.max_pixels, released.rollout.max_tokens, released.rollout.max_rounds) == (2408448, 3196, 4)
    assert (released.rollout.max_images, released.engine.max_context) == (6, 10240)
    assert released.rollout.repetition.variant == "released"
    assert released.engine.vllm.gpu_memory_utilization == 0.55


def test_several_machines_train_as_one_does() -> None:
    one, many = (load(f"@{name}", [], GRPORecipe) for name in ("thyme_7b", "thyme_7b_multinode"))
    assert many.engine.backend == "vllm"
    assert many.train.problems % 32 == 0
    alike = {"engine": {"max_batch"}}
    assert one.model_dump(exclude=alike) == many.model_dump(exclude=alike)


def test_the_embedded_recipe_starts_from_a_shipped_checkpoint() -> None:
    assert checkpoint_folder(load("@nano_grpo", [], GRPORecipe).model).is_dir()
