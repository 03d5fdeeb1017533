"""ms-swift and LLaMA-Factory themselves read what is written for them, where environments with them are named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from export_parts import make_build, put

from thyme.data.drafts import Draft
from thyme.data.export.run import Export, run_export
from thyme.data.published import images_of
from thyme.types import Observation, Trajectory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPTS = Path(__file__).parents[1] / "outside"


def read(variable: str, script: str, folder: Path, cache: Path) -> Any:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no interpreter that has the package")
    command = [python, SCRIPTS / script, folder, cache]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trajectory]]:
    out = tmp_path_factory.mktemp("build") / "out"
    drafts: list[Draft] = asyncio.run(make_build(out))
    wrong = drafts[1].model_copy(update={"id": "shots-0000004-correction", "scenario": "correction"})
    drafts.append(wrong)  # its first look is not to be learnt
    put(out, drafts)
    return out, [draft.trajectory for draft in drafts if draft.trajectory is not None]


def test_swift_joins_the_turn_and_masks_the_sandbox(build: tuple[Path, list[Trajectory]], tmp_path: Path) -> None:
    run_export(Export(out=build[0], to=tmp_path / "to", format="ms-swift", replay=0.0))
    rows = read("THYME_SWIFT_PYTHON", "read_swift.py", tmp_path / "to", tmp_path / "cache")
    for row, trajectory in zip(rows, build[1], strict=True):
        assert "".join(row["pieces"]) == trajectory.response
        masked = [piece for piece, scale in zip(row["pieces"], row["scales"], strict=True) if not scale]
        expected = [observation.text for observation in trajectory.observations]
        if row is rows[-1]:
            expected[0] = "".join(segment.text for segment in trajectory.segments[:3])
        assert masked == expected
        assert [Path(path).stem for path in row["images"]] == [image.id for image in images_of(trajectory)]


def test_llama_factory_takes_the_turns(build: tuple[Path, list[Trajectory]], tmp_path: Path) -> None:
    run_export(Export(out=build[0], to=tmp_path / "to", format="llama-factory", replay=0.0))
    rows = read("THYME_LLAMA_FACTORY_PYTHON", "read_llama_factory.py", tmp_path / "to", tmp_path / "cache")
    for row, trajectory in zip(rows, build[1], strict=True):
        turns = row["_prompt"] + row["_response"]
        assert row["_system"] == trajectory.prompt.system
        assert "".join(turn["content"] for turn in turns[1:]) == trajectory.response
        observed = [turn["content"] for turn in turns if turn["role"] == "observation"]
        assert observed == [s.text for s in trajectory.segments if isinstance(s, Observation)]
        assert all(Path(path).is_file() for path in row["_images"] or [])
        assert len(row["_images"] or []) == len(images_of(trajectory))
