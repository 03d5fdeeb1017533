"""``thyme data export``: what it says, what it leaves, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from export_parts import make_build, put
from typer.testing import CliRunner

from thyme.cli import app
from thyme.data.drafts import Draft


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Draft]]:
    out = tmp_path_factory.mktemp("build") / "out"
    return out, asyncio.run(make_build(out))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["data", "export", *map(str, arguments)])


def test_what_was_written_and_replayed_is_said(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    result = run(build[0], "--format", "ms-swift", "--to", tmp_path / "to")
    assert result.exit_code == 0, result.output
    assert f"4 records in {tmp_path / 'to'} (ms-swift)" in result.stdout
    assert "replayed 3 of them, 4 code blocks: all gave what is stored" in result.stdout
    assert len((tmp_path / "to" / "train.jsonl").read_text().splitlines()) == 4


def test_json_is_said_alone(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    result = run(build[0], "--format", "llama-factory", "--to", tmp_path / "to", "--replay", 0, "--json")
    assert json.loads(result.stdout)["written"] == 4
    assert json.loads(result.stdout)["replayed"] == 0


def test_a_scenario_is_written_alone(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    to = tmp_path / "to"
    result = run(build[0], "--format", "trajectories", "--to", to, "--replay", 0, "--scenario", "crop", "--json")
    assert json.loads(result.stdout)["scenarios"] == {"crop": 1}


def test_a_benchmark_file_is_compared_with(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    trajectory = build[1][0].trajectory
    assert trajectory is not None
    held = trajectory.problem.images[0]
    file = BytesIO()
    held.image.save(file, "PNG")
    row = {"image": base64.b64encode(file.getvalue()).decode(), "question": "Which?", "answer": "A", "A": "x", "B": "y"}
    (tmp_path / "bench.jsonl").write_text(json.dumps({"index": 0, **row}) + "\n")
    result = run(
        build[0], "--format", "ms-swift", "--to", tmp_path / "to", "--replay", 0, "--bench", tmp_path / "bench.jsonl"
    )
    assert result.exit_code == 0, result.output
    assert "3 records in" in result.stdout
    assert "left out 1: a picture is one of a benchmark's, or nearly one (benchmark)" in result.stdout
    assert "compared with 1 pictures of benchmarks" in result.stdout


def test_nothing_left_is_a_failure(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    put(tmp_path / "out", [build[1][0].model_copy(update={"trajectory": None})])
    result = run(tmp_path / "out", "--format", "messages", "--to", tmp_path / "to", "--replay", 0)
    assert result.exit_code == 1
    assert "0 records" in result.stdout


def test_what_cannot_be_asked_for_is_said(build: tuple[Path, list[Draft]], tmp_path: Path) -> None:
    cases = {
        "holds no build": (tmp_path, "--format", "messages", "--to", tmp_path / "to"),
        "not empty": (build[0], "--format", "messages", "--to", build[0]),
        "has no scenario 'zoom'; it has crop": (
            *(build[0], "--format", "messages", "--to", tmp_path / "to"),
            *("--scenario", "zoom"),
        ),
        "Invalid value for '--format'": (build[0], "--format", "parquet", "--to", tmp_path / "to"),
    }
    for told, arguments in cases.items():
        result = run(*arguments)
        assert result.exit_code == 2
        assert told in " ".join(result.stderr.split())
