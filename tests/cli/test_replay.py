"""`thyme replay` runs stored code again and notices every difference that the model would have seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import sample_records as samples
from command_helpers import CROP, block, thyme
from typer.testing import CliRunner

from thyme.cli import app
from thyme.cli.replay import compare
from thyme.store import read_trajectories, write_trajectories
from thyme.types import ExecutionError, ImageRecord

run = CliRunner()


def saved(folder: Path, picture: Path, model: str) -> Path:
    result = run.invoke(app, ["ask", str(picture), "What?", "--model", model, "--save", str(folder), "--seed", "11"])
    assert result.exit_code == 0
    return folder


def test_the_same_again(tmp_path: Path, street: Path, scripted: Callable[..., str]) -> None:
    """Images, printed draws of both seeded generators, state over blocks, and an error: all as before."""
    model = scripted(
        block(CROP + "\nimport random\nimport numpy\ncount = 3\nprint(random.random(), numpy.random.rand())"),
        block("print(count)\nimage.rotate(90).save('turned.png')\nprint('turned.png')").removeprefix("<think>"),
        block("print(missing)").removeprefix("<think>"),
        "So.</think>\n<answer>1</answer>",
    )
    folder = saved(tmp_path / "saved", street, model)
    done = thyme("replay", folder)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[1:] == [f"  code {n}  same  (output same, images same, error same)" for n in (1, 2, 3)]
    again = run.invoke(app, ["replay", str(folder / "trajectory.jsonl"), "--json"])
    told = json.loads(again.stdout)
    assert told["same"] is True
    assert [block["number"] for block in told["trajectories"][0]["blocks"]] == [1, 2, 3]


def test_what_is_different_is_told(tmp_path: Path, street: Path, scripted: Callable[..., str]) -> None:
    model = scripted(
        block(CROP),
        block("import time\nprint(time.time_ns())").removeprefix("<think>"),
        "So.</think><answer>1</answer>",
    )
    folder = saved(tmp_path / "saved", street, model)
    result = run.invoke(app, ["replay", str(folder)])
    assert result.exit_code == 1
    assert "  code 1  same" in result.stdout
    assert "  code 2  different  (output different, images same, error same)" in result.stdout
    assert "printed '" in result.stdout
    told = json.loads(run.invoke(app, ["replay", str(folder), "--json"]).stdout)
    assert (told["same"], [b["same"] for b in told["trajectories"][0]["blocks"]]) == (False, [True, False])


def test_another_picture_gives_another_image(tmp_path: Path, street: Path, crops: str) -> None:
    """The stored problem is put on another scene: the crop is as large, and shows other pixels."""
    folder = saved(tmp_path / "saved", street, crops)
    (record,) = read_trajectories(folder / "trajectory.jsonl")
    other = ImageRecord.of(samples.picture(text="AB 12"), name="street.png")
    moved = record.model_copy(update={"problem": record.problem.model_copy(update={"images": (other,)})})
    write_trajectories(folder / "trajectory.jsonl", [record, moved])
    result = run.invoke(app, ["replay", str(folder)])
    assert result.exit_code == 1
    assert result.stdout.count("code 1  same") == 1
    assert "images before: 340 × 90; now: 340 × 90, other pixels" in result.stdout


def test_every_kind_of_difference() -> None:
    before = samples.good_execution()
    crop = before.images[0]
    error = ExecutionError(type="ValueError", message="no", line=2)
    assert compare(1, before, before.model_copy(update={"duration_s": 9.0, "isolation": "landlock"})).same
    changes = {
        "stdout": before.model_copy(update={"stdout": "other"}),
        "images": before.model_copy(update={"images": (crop, crop)}),
        "error": before.model_copy(update={"error": error}),
    }
    for name, after in changes.items():
        compared = compare(1, before, after)
        assert [part for part in ("stdout", "images", "error") if not getattr(compared, part)] == [name]
        assert len(compared.details) == 1
        assert not compared.same


def test_a_folder_is_as_good_as_its_only_file(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "trajectories.jsonl", [samples.trajectory(executions=())])
    assert run.invoke(app, ["replay", str(tmp_path)]).exit_code == 0
    (tmp_path / "more.jsonl").touch()
    result = run.invoke(app, ["replay", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds 2 files of trajectories (.jsonl); name a file" in result.stderr


def test_no_code_is_nothing_to_compare(tmp_path: Path) -> None:
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory(executions=())])
    result = run.invoke(app, ["replay", str(tmp_path / "t.jsonl")])
    assert result.exit_code == 0
    assert "no code ran" in result.stdout


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").touch()
    result = run.invoke(app, ["replay", str(tmp_path / "t.jsonl")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "holds no trajectory" in result.stderr
