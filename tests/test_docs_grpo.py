"""The commands that the page on reinforcement shows are run, small, or at least read, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from published_rows import file_of
from typer.testing import CliRunner

from thyme.cli import app
from thyme.cli.training import TrackerName, read_recipe
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.load import recipes
from thyme.config.training import DataSource
from thyme.train.grpo.monitors import METRICS
from thyme.train.grpo.problems import READERS, open_problems

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = (Path(__file__).parents[1] / "docs/grpo.md").read_text(encoding="utf-8")
FEW = (
    "model=nano",
    "train.max_steps=1",
    "train.problems=2",
    "train.group=2",
    "train.batch_size=2",
    "data.world.subset=arithmetic",
    "rollout.max_tokens=32",
    "evaluation.data.limit=1",
    "evaluation.rollout.max_tokens=4",
)
"""What makes a run small."""


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def commands() -> list[str]:
    return re.findall(r"^    ((?:thyme|accelerate) .+)$", PAGE, re.MULTILINE)


def invoke(line: str, *settings: str) -> Any:
    program, *words = shlex.split(line)
    assert program == "thyme"
    done = CliRunner().invoke(app, [*words, *(part for setting in settings for part in ("--set", setting))])
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done


@pytest.mark.timeout(300)
def test_the_quick_start_runs_and_can_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = re.findall(r"^    (thyme .+)$", section("Quick start"), re.MULTILINE)
    again = re.findall(r"^    (thyme .+)$", section("Going on"), re.MULTILINE)
    assert (len(quick), len(again)) == (3, 1)
    for line in (*quick, *again):
        invoke(line, *(FEW if line.startswith("thyme grpo") else ()))
    told = re.findall(r"^\| (`.+?) \|", section("Quick start"), re.MULTILINE)
    names = [name for row in told for name in re.findall(r"`([^`]+)`", row)]
    assert {"report.html", "model/", "steps.jsonl"} <= set(names)
    for name in names:
        assert (tmp_path / "runs/nano_grpo" / name).exists() or name in {"verdicts/", "tracking/"}, name


def test_every_command_of_the_page_can_be_read() -> None:
    assert len(commands()) >= 6
    for line in commands():
        words = shlex.split(line)
        if "grpo" not in words:
            assert words[1] in {"ask", "view"}, line
            continue
        recipe, *rest = words[words.index("grpo") + 1 :]
        settings = [value for flag, value in pairwise(rest) if flag == "--set"]
        assert read_recipe(recipe, settings, [TrackerName.TENSORBOARD], GRPORecipe).train.problems, line


def test_recipes_formats_and_figures_are_those_that_exist() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| .* \| (?:yes|checked)", PAGE, re.MULTILINE)) == set(recipes(GRPORecipe))
    named = re.findall(r"^- `([\w-]+)`:", section("Problems"), re.MULTILINE)
    assert set(named) == {*READERS, "nano"}
    watched = re.findall(r"`((?:code|group|gap|reward|result)/\w+)`", section("What to watch"))
    assert len(watched) >= 5
    assert set(watched) <= set(METRICS)
    keys = {key for row in re.findall(r"^\| (`.+?) \|", section("Recipes"), re.MULTILINE) for key in row.split(", ")}
    fields = {key.strip("`[]").partition(".")[0] for key in keys} - set(recipes(GRPORecipe))
    assert fields == set(GRPORecipe.model_fields) - {"out"}


def test_the_problem_on_the_page_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", section("Problems"), re.DOTALL)
    row = json.loads(example)
    (tmp_path / row["images"][0]).write_bytes(file_of(30, 20))
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n")
    problems = open_problems({"mine": DataSource(format="problems", path=str(tmp_path / "mine.jsonl"))})
    assert (problems[0].answer, problems[0].kind, len(problems[0].images)) == ("EXIT", "ocr", 1)


def test_pages_that_are_named_are_there() -> None:
    for name in re.findall(r"\]\((\w+\.md)\)", PAGE):
        assert (Path(__file__).parents[1] / "docs" / name).is_file(), name
