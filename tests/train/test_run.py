"""A run from its recipe: stages in one command or in several, killed and resumed, and what it leaves behind."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import run_recipes as tiny
import torch
from rich.console import Console

from thyme.config.sft_recipe import SFTRecipe
from thyme.errors import ConfigError, StoreError, UsageError
from thyme.train.evaluate import stored_points
from thyme.train.run import around
from thyme.train.run.checkpoint import STAGE_FILE
from thyme.train.run.records import SFTRunReport
from thyme.train.sft import run as module
from thyme.train.sft import train as sft
from thyme.train.sft.run import run_sft
from thyme.train.sft.stages import prints
from thyme.train.sft.trainer import Trainer


@pytest.fixture
def path(tmp_path: Path, tiny_qwen2_5_vl: Path) -> Path:
    return tiny.lay_out(tmp_path / "data", tiny_qwen2_5_vl)


def run(path: Path, out: Path, *overrides: str, **options: Any) -> SFTRunReport:
    recipe = tiny.read(path, *overrides)
    return run_sft(recipe, "tiny", out, prompts=Path(recipe.prompts), console=Console(file=io.StringIO()), **options)


class Killed(Exception):
    """Stands for the end of the process."""


def killed_before_maths(*args: Any, **kwargs: Any) -> Any:
    if args[3].name == "maths":
        raise Killed
    return sft.train_sft(*args, **kwargs)


def test_one_command_one_stage_at_a_time_and_a_resumed_run_end_in_the_same_weights(
    path: Path, tmp_path: Path, tiny_qwen2_5_vl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(path, tmp_path / "whole")
    assert [stage.name for stage in whole.stages] == ["images", "maths"]
    assert not tiny.same(tmp_path / "whole/images", tiny_qwen2_5_vl)
    assert not tiny.same(tmp_path / "whole/images", tmp_path / "whole/maths")

    one = run(path, tmp_path / "staged", only_stage="images")
    assert [stage.name for stage in one.stages] == ["images"]
    staged = run(path, tmp_path / "staged", only_stage="maths")
    assert [stage.name for stage in staged.stages] == ["images", "maths"]

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_sft", killed_before_maths)
        with pytest.raises(Killed):
            run(path, tmp_path / "killed")
    assert not (tmp_path / "killed/maths").exists()
    resumed = run(path, tmp_path / "killed", resume=True)

    for out in ("staged", "killed"):
        for stage in ("images", "maths"):
            assert tiny.same(tmp_path / "whole" / stage, tmp_path / out / stage), (out, stage)
    for report in (staged, resumed):
        assert [[p.loss for p in s.curve] for s in report.stages] == [[p.loss for p in s.curve] for s in whole.stages]


def test_a_finished_stage_is_not_trained_again_and_an_unfinished_one_goes_on_at_its_step(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the third step of the second stage, one step after its last checkpoint."""
    longer = ("stages.maths.train.max_steps=4", "stages.maths.train.save_steps=2")
    run(path, tmp_path / "whole", *longer)
    compute, steps = Trainer.compute_loss, []

    def counted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        steps.append(self.state.global_step)
        if len(steps) == 6:
            raise Killed
        return compute(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "compute_loss", counted)
    with pytest.raises(Killed):
        run(path, tmp_path / "killed", *longer)
    assert steps == [0, 1, 0, 1, 2, 3]
    assert (tmp_path / "killed/images" / STAGE_FILE).is_file()
    assert not (tmp_path / "killed/maths" / STAGE_FILE).exists()
    run(path, tmp_path / "killed", *longer, resume=True)
    assert steps[6:] == [2, 3]
    assert tiny.same(tmp_path / "whole/maths", tmp_path / "killed/maths")
    run(path, tmp_path / "killed", *longer, resume=True)  # all is there: nothing is trained
    assert len(steps) == 8


def test_a_run_killed_between_the_weights_of_a_stage_and_its_record_goes_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage starts from the folder of the one before, whose record must not come along with the tokenizer."""
    out = tmp_path / "out"
    run(path, out, only_stage="images")

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", killed)
        with pytest.raises(Killed):
            run(path, out, only_stage="maths")
    assert list((out / "maths").glob("*.safetensors"))
    assert not (out / "maths" / STAGE_FILE).exists()
    resumed = run(path, out, resume=True)
    assert [stage.name for stage in resumed.stages] == ["images", "maths"]


def test_a_finished_stage_leaves_no_checkpoints_and_is_skipped_without_them(path: Path, tmp_path: Path) -> None:
    """A killed run may leave them behind a finished stage; the next part of the run removes them."""
    often, out = ("train.save_steps=1",), tmp_path / "out"
    run(path, out, *often, only_stage="images")
    assert not (out / "images/checkpoints").exists()
    (out / "images/checkpoints/checkpoint-2").mkdir(parents=True)
    whole = run(path, out, *often, resume=True)
    assert [stage.steps for stage in whole.stages] == [2, 2]
    assert not (out / "images/checkpoints").exists()
    assert not (out / "maths/checkpoints").exists()
    run(path, tmp_path / "kept", *often, "train.keep_finished=true", only_stage="images")
    assert len(list((tmp_path / "kept/images/checkpoints").iterdir())) == 2


def test_a_run_that_no_terminal_shows_says_a_line_for_each_point(path: Path, tmp_path: Path) -> None:
    recipe, said = tiny.read(path), io.StringIO()
    run_sft(recipe, "tiny", tmp_path / "out", prompts=Path(recipe.prompts), console=Console(file=said))
    lines = [line for line in said.getvalue().splitlines() if ": step " in line]
    assert [line.partition(", loss")[0] for line in lines] == [
        f"{stage}: step {step} of 2" for stage in ("images", "maths") for step in (1, 2)
    ]
    assert lines[-1].endswith("less than a minute left")


def test_what_a_run_says_of_itself(path: Path, tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    report = run(path, tmp_path / "out", "stages.maths.validation.held.path=" + str(path.parent / "images.jsonl"))
    out = tmp_path / "out"
    assert SFTRunReport.model_validate_json((out / "sft_report.json").read_text()) == report
    assert (report.name, report.model, report.processes) == ("tiny", tiny_qwen2_5_vl.name, 1)
    images, maths = report.stages
    assert [(s.name, s.rows, s.samples, s.mask) for s in images.sources] == [("shown", 5, 5, "released")]
    assert images.sources[0].rounds == {"0": 2, "1": 2, "2": 1}
    assert [s.mask for s in maths.sources] == ["all"]
    assert (images.steps, len(images.curve), maths.settings.learning_rate) == (2, 2, 2e-4)
    assert [point.step for point in maths.validation] == [2]
    assert report.recipe["stages"]["images"]["data"]["shown"] == {"path": "images.jsonl"}
    assert {"python", "torch", "trl"} <= report.versions.keys()
    for page in ("report.html", "tokens.html"):
        assert "maths" in (out / page).read_text() or page == "tokens.html"
        assert (out / page).stat().st_size > 1000
    assert (out / "maths/prompts/system.txt").read_text() == "Think."
    machine = [tmp_path, tiny_qwen2_5_vl, Path.home(), Path.cwd(), Path(sys.prefix)]
    assert holding(out, machine) == []
    (out / "tell.txt").write_text(str(tmp_path))
    assert holding(out, machine) == ["tell.txt"]  # the search would have found one


def test_a_streamed_source_tells_what_was_read_of_it(path: Path, tmp_path: Path) -> None:
    """Two steps of two samples, and no more than the trainer looks ahead."""
    report = run(path, tmp_path / "out", "streaming=true", "shuffle_buffer=2", only_stage="images")
    (stage,) = report.stages
    (source,) = stage.sources
    assert (source.name, source.format, source.mask) == ("shown", "trajectories", "released")
    assert 4 <= source.samples <= source.rows <= 6
    assert source.drops == {}
    assert sum(source.rounds.values()) == source.samples
    assert source.trained_tokens >= stage.trained_tokens > 0
    assert json.loads((tmp_path / "out/sft_report.json").read_text())["stages"][0]["sources"][0]["rows"] == source.rows


def holding(folder: Path, machine: list[Path]) -> list[str]:
    """Files in which a path of this machine stands."""
    needles = [str(place).encode() for place in machine]
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(f.name for f in files if any(needle in f.read_bytes() for needle in needles))


def test_a_folder_that_holds_a_run_is_not_written_over(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="'maths' starts from the end of 'images', which is not finished"):
        run(path, out, only_stage="maths")
    run(path, out, only_stage="images")
    with pytest.raises(UsageError, match="'images' in it is a finished stage; go on with it"):
        run(path, out)
    with pytest.raises(UsageError, match="a finished stage"):
        run(path, out, only_stage="images")
    with pytest.raises(
        ConfigError, match=r"'images' in 'out' was trained with another recipe \(train.learning_rate\);"
    ):
        run(path, out, "stages.images.train.learning_rate=1e-3", resume=True)
    with pytest.raises(ConfigError, match=r"another recipe \(another model, data, mask"):
        run(path, out, "stages.images.mask=paper", only_stage="maths")
    (out / "maths").mkdir()
    (out / "maths/config.json").write_text("{}")
    with pytest.raises(UsageError, match="the beginning of a stage"):
        run(path, out, only_stage="maths")
    (out / "images" / STAGE_FILE).write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        run(path, out, resume=True)


def test_what_a_stage_depends_on_is_in_its_print_and_nothing_else_is(path: Path) -> None:
    before = prints(tiny.read(path))
    for harmless in ("stages.images.train.log_steps=3", "train.save_steps=7", "tracking.run=x", "out=y"):
        assert prints(tiny.read(path, harmless)) == before, harmless
    for deep in ("stages.images.data.shown.limit=2", "max_pixels=5000", "stages.images.train.seed=1"):
        assert not set(prints(tiny.read(path, deep)).values()) & set(before.values()), deep
    later = prints(tiny.read(path, "stages.maths.train.epochs=9"))
    assert (later["images"] == before["images"], later["maths"] == before["maths"]) == (True, False)


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (("stages.maths.data.shown.path=nowhere.jsonl",), {}, "nowhere.jsonl"),
        (("stages.maths.data.shown.format=parquay",), {}, "unknown format 'parquay'"),
        (("max_tokens=3",), {}, "no sample to train on"),
        (("stages.maths.train.device=cuda",), {}, "no CUDA device"),
        ((), {"only_stage": "math"}, "did you mean 'maths'"),
        (("evaluation.data.format=problem",), {}, "evaluation.data.format 'problem' is none of problems"),
        (
            ("evaluation.data.format=problems", "evaluation.data.path=no.jsonl"),
            {},
            "problems 'no.jsonl' cannot be read",
        ),
    ],
)
def test_what_is_wrong_is_said_before_weights_are_loaded(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: tuple[str, ...],
    options: dict[str, Any],
    message: str,
) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(around, "load_model", never)
    if "cuda" in message.lower() and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises((UsageError, StoreError), match=message):
        run(path, tmp_path / "out", *overrides, **options)
    with pytest.raises(AssertionError, match="weights were loaded"):
        run(path, tmp_path / "other")


def test_a_run_without_evaluation_stores_none(path: Path, tmp_path: Path) -> None:
    report = run(path, tmp_path / "out", only_stage="images")
    assert report.evaluations == ()
    assert stored_points(tmp_path / "out") == []


def test_a_recipe_that_is_shown_holds_no_path(path: Path) -> None:
    shown = json.dumps(module.public_recipe(tiny.read(path, "out=/x/y")))
    assert "/" not in shown.replace('"learning_rate": 2e-05', "")
    hub = SFTRecipe(model="Qwen/Qwen2.5-VL-7B-Instruct", stages={"a": {"data": {"x": {"path": "o/n"}}}})  # type: ignore[dict-item]  # as TOML gives it
    assert module.public_recipe(hub)["model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert module.public_recipe(hub)["stages"]["a"]["data"]["x"]["path"] == "o/n"
