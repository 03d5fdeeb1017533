"""`thyme sft` from the command line: a whole run, a look at one, and what it says where something is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_helpers import thyme
from typer.testing import CliRunner

from thyme.cli import app
from thyme.config.load import load, recipes
from thyme.config.sft_recipe import SFTRecipe
from thyme.families.checkpoint import WEIGHT_FILES
from thyme.nano import checkpoint_path
from thyme.train.data.samples import ListSamples
from thyme.train.encode import Encoded
from thyme.train.memory.estimate import estimate
from thyme.train.memory.layouts import layout
from thyme.train.memory.words import known_config
from thyme.train.run.records import SourceReport
from thyme.train.sft.dry_run import reckon, steps

SMALL = (
    "stages.images.data.demonstrations.limit=5",
    "stages.images.data.perception.limit=3",
    "stages.arithmetic.data.demonstrations.limit=4",
    "train.batch_size=4",
    "train.epochs=1",
    "stages.images.train.epochs=1",
    "stages.arithmetic.train.epochs=1",
    "evaluation.data.limit=2",
    "evaluation.data.subset=arithmetic",
    "evaluation.rollout.max_tokens=8",
)


def sft(*arguments: str, small: tuple[str, ...] = SMALL) -> Any:
    given = [part for setting in small for part in ("--set", setting)]
    return CliRunner().invoke(app, ["sft", *arguments, *given])


def test_the_embedded_base_goes_through_both_stages_of_the_recipe(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = sft("@nano_sft", "--out", str(out), "--tracker", "tensorboard")
    assert done.exit_code == 0, done.output
    report = json.loads((out / "sft_report.json").read_text())
    assert [stage["name"] for stage in report["stages"]] == ["images", "arithmetic"]
    assert [(e["stage"], e["step"]) for e in report["evaluations"]] == [("images", 0), ("images", 2), ("arithmetic", 1)]
    assert list((out / "tracking/tensorboard").iterdir())
    shipped = checkpoint_path("final") / "prompts/system.txt"
    assert (out / "arithmetic/prompts/system.txt").read_text() == shipped.read_text()
    assert "arithmetic, step 1" in done.stderr
    again = sft("@nano_sft", "--out", str(out))
    assert again.exit_code == 2
    assert "go on with it (--resume)" in again.stderr
    assert sft("@nano_sft", "--out", str(out), "--resume", "--quiet").exit_code == 0


def test_a_dry_run_loads_no_weights_and_says_what_a_run_would_do(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(checkpoint_path("base"), base, ignore=shutil.ignore_patterns(*WEIGHT_FILES))
    looked = sft("@nano_sft", "--dry-run", "--out", str(tmp_path / "run"), small=(*SMALL, f"model={base}"))
    assert looked.exit_code == 0, looked.output
    text = re.sub(r"\s+", " ", looked.stdout)
    assert "evaluation: 2 problems" in text
    assert "8 samples and" in text  # exact: all rows were looked at
    assert "2 steps" in text
    assert "a first batch: input_ids 4x" in text
    assert "memory, estimated, longest seen" in text
    assert "cost, estimated" in text
    assert "GPU" not in text  # the recipe trains on the CPU
    assert "<answer>" in text
    assert not (tmp_path / "run/images").exists()
    wrong = sft("@nano_sft", "--dry-run", "--stage", "imges", "--out", str(tmp_path / "run"))
    assert (wrong.exit_code, "did you mean 'images'" in wrong.stderr) == (2, True)


def test_a_dry_run_of_a_stream_counts_all_rows_and_the_steps_of_the_trainer(tmp_path: Path) -> None:
    row = '{"image": [], "question": "1 + 1?", "response": "<answer>2</answer>"}\n'
    (tmp_path / "rows.jsonl").write_text(row * 200)
    recipe = tmp_path / "streamed.toml"
    recipe.write_text(
        f"""model = "{checkpoint_path("base")}"
        streaming = true
        [train]
        device = "cpu"
        batch_size = 3
        epochs = 1
        [stages.maths.data.rows]
        format = "thyme-sft"
        path = "{tmp_path / "rows.jsonl"}"
        repeat = 2
        """
    )
    looked = sft(f"@{recipe}", "--dry-run", small=())
    assert looked.exit_code == 0, looked.output
    text = re.sub(r"\s+", " ", looked.stdout)
    assert "about 400 samples" in text
    assert "about 133 steps" in text  # the last sample alone makes no step
    packed = sft(f"@{recipe}", "--dry-run", small=("train.packing=true",))
    assert (packed.exit_code, "give max_steps" in packed.stderr) == (2, True)


def test_a_folder_of_a_published_models_name_is_reckoned_from_its_own_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen2.5-VL-7B-Instruct"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mine"}')
    assert known_config(str(folder)) == {"model_type": "mine"}
    assert known_config("Qwen/Qwen2.5-VL-7B-Instruct") == layout("qwen2.5-vl-7b")


def test_a_published_model_that_is_not_at_hand_is_reckoned_from_its_layout(tmp_path: Path) -> None:
    (tmp_path / "computation.jsonl").write_text(
        '{"image": [], "question": "1 + 1?", "response": "<answer>2</answer>"}\n'
    )
    path = f"stages.maths.data.computation.path={tmp_path / 'computation.jsonl'}"
    done = sft("@thyme_7b_stage2", "--dry-run", small=(path, "model=Qwen/Qwen2.5-VL-7B-Instruct"))
    assert done.exit_code == 0, done.output
    text = re.sub(r"\s+", " ", done.stdout)
    assert "not at hand: tokenizer and image settings of Qwen/Qwen2.5-VL-7B-Instruct" in text
    assert "computation (thyme-sft): 1 rows" in text
    assert "longest allowed (10240 tokens a sample)" in text


def test_where_the_data_are_out_of_reach_too_memory_is_reckoned_and_the_data_are_named(tmp_path: Path) -> None:
    done = sft("@thyme_7b_stage1", "--dry-run", small=())
    assert done.exit_code == 1
    assert "longest allowed (10240 tokens a sample)" in re.sub(r"\s+", " ", done.stdout)
    assert "'Kwai-Keye/Thyme-SFT' cannot be read as a dataset" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["@nano_stf"], "did you mean @nano_sft?"),
        (["@nano_sft", "--set", "stages.images.data.demonstrations.limt=3"], "demonstrations.limit'?"),
        (["@nano_sft", "--set", "prompts=nowhere"], "there is no folder 'nowhere'"),
        (["@nano_sft", "--set", "evaluation.data.split=train"], "no measure"),
        (["@nano_sft", "--set", "stages.images.data.demonstrations.subset=zom"], "no kind 'zom'"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = sft(*arguments, "--out", str(tmp_path / "run"), small=())
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "trl.py").write_text("raise ImportError('no trl', name='trl')")
    done = thyme("sft", "@nano_sft", "--dry-run", environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert b"pip install 'thyme-vl[train]'" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", recipes(SFTRecipe))
def test_every_recipe_can_be_read(name: str) -> None:
    assert load(f"@{name}", [], SFTRecipe).stages


def test_the_recipes_of_the_paper_hold_its_values() -> None:
    whole = load("@thyme_7b", [], SFTRecipe)
    parts = [load(f"@thyme_7b_stage{number}", [], SFTRecipe) for number in (1, 2)]
    assert whole.stages == {**parts[0].stages, **parts[1].stages}
    assert [stage.train.learning_rate for stage in whole.stages.values()] == [1e-5, 1e-6]
    assert [stage.mask for stage in whole.stages.values()] == ["released", "all"]
    for stage in whole.stages.values():
        train = stage.train
        assert (train.epochs, train.warmup, train.batch_size * train.accumulation * 8) == (3, 0.05, 128)
        assert train.freeze_vision
    assert (whole.max_tokens, whole.max_pixels) == (10240, 3211264)


def test_the_recipe_for_one_gpu_fits_it_by_estimate() -> None:
    recipe = load("@one_gpu_3b_lora", [], SFTRecipe)
    for stage in recipe.stages.values():
        patches = 4 * recipe.max_tokens
        found = estimate(layout("qwen2.5-vl-3b"), stage.train, tokens=recipe.max_tokens, patches=patches)
        assert found.fits(24 * 10**9)


def test_a_source_without_rows_adds_nothing() -> None:
    train = load("@nano_sft", [], SFTRecipe).stages["images"].train
    sample = Encoded(np.arange(10, dtype=np.int32), np.ones(10, dtype=np.bool_))
    reports = [
        SourceReport(name="full", format="trajectories", rows=2, samples=2, tokens=20),
        SourceReport(name="empty", format="trajectories", rows=0, samples=0),
    ]
    found = reckon(reports, [6, 0], ListSamples([sample, sample]), train)
    assert (found.samples, found.tokens, found.exact) == (6, 60, False)


@pytest.mark.parametrize(
    ("rows", "accumulation", "epochs"), [(7, 1, 1), (7, 2, 3), (8, 4, 0.5), (1, 8, 2), (9, 2, 1.5)]
)
def test_steps_are_those_of_the_trainer(rows: int, accumulation: int, epochs: float) -> None:
    """As transformers counts them, from its own function."""
    from transformers import Trainer, TrainingArguments

    settings = load("@nano_sft", [f"train.accumulation={accumulation}", "train.batch_size=2"], SFTRecipe)
    train = settings.stages["images"].train.model_copy(update={"epochs": epochs})
    arguments = TrainingArguments(gradient_accumulation_steps=accumulation, num_train_epochs=epochs, use_cpu=True)
    trainer = Trainer.__new__(Trainer)
    trainer.args, trainer.model, trainer.accelerator = arguments, None, SimpleNamespace(parallelism_config=None)
    trainer.is_deepspeed_enabled, trainer._train_batch_size = False, 2
    counted = trainer.set_initial_training_values(arguments, [None] * -(-rows // 2))
    assert steps(rows, train, 1) == counted[-1], counted
