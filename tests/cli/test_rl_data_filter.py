"""``thyme rl-data filter``: what it says of wrong settings, and that it makes what a recipe or a path asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app
from thyme.config.load import load, recipes
from thyme.config.rl_filter import FilterRecipe

ANSWERS = ["<think>It is there.</think>\n<answer>red</answer>"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Four questions about four pictures."""
    lines = []
    for number in range(4):
        Image.effect_noise((64, 48), 10 + 60 * number).convert("RGB").save(tmp_path / f"{number}.png")
        answer = "red" if number % 2 else "blue"
        lines.append(
            json.dumps({"image": f"{number}.png", "question": f"Which colour has {number}?", "answer": answer})
        )
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["rl-data", "filter", *map(str, words)])
    return result.exit_code, result.output


def test_a_path_is_filtered_by_the_defaults(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = run(rows, "--out", out, "--quiet", "--set", "processes=1")
    assert code == 0, said
    assert said.splitlines() == [f"4 of 4 problems kept: {out}", f"report: {out / 'report.html'}"]
    lines = (out / "problems" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"rows-{number}" for number in range(4)]
    assert str(tmp_path) not in (out / "problems" / "train.jsonl").read_text()


def test_a_model_is_asked_and_problems_that_it_always_solves_are_dropped(rows: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps(ANSWERS))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'processes = 1\n[sources.mine]\npath = "{rows}"\n[difficulty]\nextremes = true\nhigh = 0.5\n')
    out = tmp_path / "out"
    words = (f"@{recipe}", "--out", out, "--model", f"scripted:{script}", "--samples", 2, "--quiet")
    code, said = run(*words)
    assert code == 0, said
    figures = json.loads((out / "filter.json").read_text())["figures"]
    assert figures["dropped"] == {"difficulty": {"too_easy": 2}}
    assert figures["kept"] == 2
    script.unlink()
    assert run(*words)[0] == 0, "nothing is missing, so nobody is asked"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["@nothing"], 2, "no recipe or file '@nothing'"),
        (["nowhere.jsonl"], 2, "nowhere.jsonl: no such file or folder"),
        (["ROWS", "--set", "resolutoin.min_side=3"], 2, "did you mean 'resolution'?"),
        (["ROWS", "--set", "difficulty.low=0.9", "--set", "difficulty.high=0.1"], 2, "no problem could be kept"),
        (["ROWS", "--set", "language.languages=['english']"], 2, "such as en or zh"),
        (["ROWS", "--set", "balance.shares.ocr=0"], 2, "must be above 0"),
        (["ROWS", "--set", "benchmarks.names=['NoBench']"], 2, "NoBench: no NoBench.tsv"),
        (["ROWS", "--set", "difficulty.prompts=nowhere"], 2, "no folder 'nowhere'"),
        (["ROWS", "--model", "scripted:nowhere.json"], 2, "nowhere.json"),
        (["BROKEN"], 1, "not JSON"),
    ],
)
def test_what_cannot_be_is_said(rows: Path, tmp_path: Path, words: list[str], code: int, told: str) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{\n" + rows.read_text())
    named = [{"ROWS": str(rows), "BROKEN": str(broken)}.get(word, word) for word in words]
    found, said = run(*named, "--out", tmp_path / "out", "--quiet", "--set", "processes=1")
    assert (found, told in said) == (code, True), said


def test_shipped_recipes_are_settings() -> None:
    assert recipes(FilterRecipe) == ["high_resolution", "nano_filter", "thyme_rl"]
    for name in recipes(FilterRecipe):
        assert load(f"@{name}", [], FilterRecipe).sources
