"""Label Studio's own library reads what is written for it, where an environment that has it is named."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from exchange_parts import asked, make_collection

from thyme.data.annotation.coco import from_coco
from thyme.data.annotation.export import Export, run_export
from thyme.data.annotation.pictures import Pictures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parents[1] / "outside" / "read_label_studio.py"


def test_label_studio_finds_every_annotation_valid_and_converts_it(tmp_path: Path) -> None:
    python = os.environ.get("THYME_LABEL_STUDIO_PYTHON")
    if not python:
        pytest.skip("THYME_LABEL_STUDIO_PYTHON names no interpreter that has label-studio-sdk")
    photos = make_collection(tmp_path / "photos")
    one, two = photos.items.values()
    given = [
        asked(one, "a"),
        asked(one, "b", answer="B", answer_type="choice", choices=("A", "B"), category="chart", box=(7, 3, 1003, 239)),
        asked(two, "c", hidden_when_small=None),
    ]
    run_export(Export(to=tmp_path / "ls", format="label-studio", sources=[(photos, given)]))
    command = [python, SCRIPT, tmp_path / "ls", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["valid"] == [True, True, True]
    assert [row["question"] for row in told["min"]] == [one.question for one in given]
    assert [row["answer_type"] for row in told["min"]] == ["number", "choice", "number"]
    # What its converter makes of the boxes is read back by our reader of COCO.
    taken = from_coco(told["coco"], Pictures(photos.items.values()))
    assert [(one.box, one.category) for one in taken.annotations] == [(one.box, one.category) for one in given]
