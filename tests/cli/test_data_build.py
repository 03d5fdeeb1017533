"""``thyme data build``: what it says of wrong recipes, and that it makes what a recipe asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app, data_work
from thyme.config.data import BudgetSettings, DataRecipe
from thyme.config.load import load, recipes
from thyme.data.factory.build import Build
from thyme.data.factory.manifest import Manifest

RECIPE = """
count = 4
[sources.pictures]
path = "{rows}"
[scenarios]
no_code = 1
[teachers.one]
model = "http://127.0.0.1:9/v1#none"
retries = 0
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of four rows, with a teacher that nobody reaches."""
    rows = tmp_path / "rows.jsonl"
    lines = []
    for number in range(4):
        Image.new("RGB", (32, 24), (number * 60, 90, 20)).save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "question": f"Which colour has {number}?", "answer": "red"}))
    rows.write_text("\n".join(lines) + "\n")
    path = tmp_path / "small.toml"
    path.write_text(RECIPE.format(rows=rows))
    return path


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "build", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["@nothing"], "no recipe or file '@nothing'"),
        (["--set", "scenarios.zoom=1"], "there is no scenario 'zoom'"),
        (["--set", "sources.pictures.path=nowhere.jsonl"], "nowhere.jsonl"),
        (["--set", "teachers.one.model=gpt"], "URL#NAME"),
        (["--set", "buget.usd=3"], "did you mean 'budget'?"),
        (["--set", "benchmarks=['NoBench']"], "give the path of the file instead of its name"),
    ],
)
def test_what_cannot_be_is_said_with_exit_code_2(recipe: Path, tmp_path: Path, words: list[str], told: str) -> None:
    first = [] if words[0].startswith("@") else [f"@{recipe}"]
    code, said = run(*first, *words, "--out", tmp_path / "out", "--processes", 1, "--quiet")
    assert told in said
    assert code == 2


def test_a_teacher_that_cannot_be_reached_is_exit_code_1_and_keeps_the_folder(recipe: Path, tmp_path: Path) -> None:
    code, said = run(f"@{recipe}", "--out", tmp_path / "out", "--processes", 1, "--quiet")
    assert code == 1
    assert "127.0.0.1:9" in said
    held = Manifest.model_validate_json((tmp_path / "out/build.json").read_bytes())
    assert (held.state, held.count) == ("failed", 4)


def test_a_spent_budget_says_how_to_go_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = load(f"@{recipe}", [], DataRecipe).model_copy(update={"budget": BudgetSettings(usd=5, requests=30)})
    spent = Manifest(recipe=asked, count=4, state="spent", kept=2, rejected=1)

    def run_build(build: Build, *, progress: bool) -> Manifest:
        return spent

    reported: list[Path] = []
    monkeypatch.setattr(data_work, "run_build", run_build)
    monkeypatch.setattr(data_work, "write_report", reported.append)
    data_work.build(asked, tmp_path, progress=False)
    said = capsys.readouterr().err
    assert "2 records, 1 rejected, of 4" in said
    assert reported == [tmp_path]
    assert f"what came in, what went out, and why: {tmp_path / 'report.html'}" in said
    assert (
        "used up after 3 of 4; the same command with a larger one (--set budget.usd=10 --set budget.requests=60)"
        in said
    )


def test_pictures_of_benchmarks_are_hashed(recipe: Path, tmp_path: Path) -> None:
    asked = load(f"@{recipe}", [f"benchmarks=['{tmp_path / 'rows.jsonl'}']"], DataRecipe)
    found = data_work.held_out(asked)
    assert len(found.ids) == 4
    assert found.hashes


def test_shipped_recipes_are_recipes() -> None:
    assert "thyme_sft" in recipes(DataRecipe)
    for name in recipes(DataRecipe):
        assert load(f"@{name}", [], DataRecipe).count > 0
