"""The commands and recipes that the pages on fine-tuning show are run, small, as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import published_rows
import pytest
from typer.testing import CliRunner

from thyme.cli import app

DOCS = Path(__file__).parents[1] / "docs"
FEW = {
    "sft": (
        "stages.images.data.demonstrations.limit=4",
        "stages.images.data.perception.limit=2",
        "stages.arithmetic.data.demonstrations.limit=2",
        "train.batch_size=2",
        "train.epochs=1",
        "evaluation.data.limit=2",
        "evaluation.rollout.max_tokens=4",
    ),
    "nano": ("--per-kind=1", "--kind=arithmetic"),
}
"""What makes a command small: settings of a recipe, options of another command."""


def section(page: str, heading: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def thyme(line: str, *settings: str) -> Any:
    program, *words = shlex.split(line)
    assert program == "thyme"
    done = CliRunner().invoke(app, [*words, *(part for setting in settings for part in ("--set", setting))])
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done


@pytest.mark.timeout(300)
def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    (thyme .+)$", section("sft.md", "Quick start"), re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        if line.startswith("thyme sft"):
            thyme(line, *FEW["sft"])
        else:
            thyme(f"{line} {' '.join(FEW['nano'])}")
    told = re.findall(r"^\| `([^`]+)`", section("sft.md", "Quick start"), re.MULTILINE)
    assert "report.html" in told
    for name in told:
        assert (tmp_path / "runs/nano_sft" / name.replace("STAGE", "images")).exists() or name == "tracking/", name


def test_the_recipe_for_the_published_data_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded base for the model, which the recipe itself names as a way, and made-up rows for the file."""
    monkeypatch.chdir(tmp_path)
    text = section("sft_data.md", "The published data, step by step")
    recipe = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert recipe
    Path("try.toml").write_text("\n".join(line.removeprefix("   ") for line in recipe[1].splitlines()))
    rows = [published_rows.row_of(i, rounds=2) for i in range(3)]
    published_rows.write_parquet(tmp_path / "Thyme-SFT/data", rows, shards=1, stem="2round")
    command = re.search(r"`(thyme sft @try.toml --dry-run)`", text)
    assert command
    looked = thyme(command[1], "model=nano:base")
    assert "\n3 samples and" in looked.stdout
