"""The recipes and the document of the run, and a small run as the commands make it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from nano_serving import serving
from typer.testing import CliRunner

from thyme.cli import app
from thyme.cli.data_work import WORLDS
from thyme.config import load
from thyme.config.data import DataRecipe
from thyme.config.sft_recipe import SFTRecipe
from thyme.data.factory.draw import plan
from thyme.data.factory.folder import read_records
from thyme.data.scenarios import SCENARIOS
from thyme.data.sources import open_sources
from thyme.nano.factory.faults import ALL, DEFAULT_RATE, FAULTS, Rates
from thyme.nano.factory.server import MODELS, Classroom
from thyme.store import read_trajectories

DOCUMENT = Path(__file__).parents[2] / "docs" / "data_nano.md"


def test_the_recipe_draws_every_scenario_from_sources_that_serve_it() -> None:
    recipe = load("@nano_data", [], DataRecipe)
    drawn = plan(recipe, open_sources(recipe, WORLDS), SCENARIOS)
    assert drawn.count == 5000
    assert {part.scenario for part in drawn.parts} == set(SCENARIOS) == set(ALL)
    assert recipe.check.judge is not None
    assert {teacher.name for teacher in recipe.teachers.values()} | {recipe.check.judge.name} == set(MODELS)


def test_both_ways_to_learn_are_of_the_same_size() -> None:
    recipe, other = load("@nano_factory", [], SFTRecipe), load("@nano_sft", [], SFTRecipe)
    stages = recipe.stages["records"], other.stages["images"]
    assert len({sum(source.limit or 0 for source in stage.data.values()) for stage in stages}) == 1
    assert stages[0].train == stages[1].train
    assert {name for name, source in stages[0].data.items() if source.format == "trajectories"} == set(SCENARIOS)


def test_the_document_names_every_class_with_its_rate() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, fault in FAULTS.items():
        rate = DEFAULT_RATE if fault.rate is None else fault.rate
        assert f"| `{name}` | {fault.what} | {rate:.1%} |" in text
        for outcome in {one for outcomes in fault.found.values() for one in outcomes.split("|")}:
            assert outcome in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_as_the_commands_make_it(tmp_path: Path) -> None:
    """Eighty records in two processes, every third one with a planted error; half a minute."""
    out, log, taught = tmp_path / "build", tmp_path / "planted.jsonl", tmp_path / "taught"
    rates = Rates(0.02, {"endless_code": 0.0})
    with serving(Classroom(rates=rates, busy=0.1, log=log)) as url:
        models = [f"teachers.rules.model={url}#nano-teacher", f"check.judge.model={url}#nano-checker"]
        quick = ["teachers.rules.backoff_s=0.01", "check.judge.backoff_s=0.01", "count=80", "chunk=20"]
        settings = [word for one in (*models, *quick) for word in ("--set", one)]
        arguments = ["data", "build", "@nano_data", "--out", str(out), "--processes", "2", "--quiet", *settings]
        built = CliRunner().invoke(app, arguments)
    assert built.exit_code == 0, built.output
    told = CliRunner().invoke(app, ["nano", "caught", str(out), "--log", str(log), "--json"])
    table = json.loads(told.stdout)
    passed = Counter({name: one["kept"] for name, one in table["classes"].items() if not one["to_keep"]})
    assert sum(one["planted"] for one in table["classes"].values()) > 8
    assert passed.total() == passed["invented_sight"]  # which the checker may miss
    assert table["unknown"] == 0
    assert set(table["honest"]) <= {"kept", "check/does_not_fit"}
    written = CliRunner().invoke(app, ["nano", "taught", str(out), "--to", str(taught)])
    assert written.exit_code == 0, written.output
    kept = len(list(read_records(out, images=False)))
    assert sum(len(list(read_trajectories(path))) for path in taught.glob("*.jsonl")) == kept
    again = CliRunner().invoke(app, ["nano", "taught", str(out), "--to", str(taught)])
    assert again.exit_code == 2
