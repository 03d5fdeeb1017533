"""``thyme nano problems`` draws what it is asked for, ``thyme nano eval`` measures it; both refuse what is wrong."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from thyme.cli.nano import KindName, app
from thyme.nano.world import KINDS


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command_knows_every_kind():
    assert tuple(kind.value for kind in KindName) == KINDS


def test_problems_are_drawn_into_a_folder(run, tmp_path):
    done = run("problems", str(tmp_path / "out"), "--kind", "zoom", "--kind", "arithmetic", "--seed", "3")
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in (tmp_path / "out" / "problems.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["zoom", "arithmetic"]
    assert records[1]["images"] == []
    with Image.open(tmp_path / "out" / records[0]["images"][0]) as drawn:
        assert drawn.size == (1024, 1024)


def test_an_unknown_kind_and_a_file_for_a_folder_are_refused(run, tmp_path):
    assert run("problems", str(tmp_path), "--kind", "sideways").exit_code == 2
    (tmp_path / "file").write_text("")
    assert run("problems", str(tmp_path / "file")).exit_code != 0


def test_weights_that_are_missing_are_an_error_before_anything_is_asked(run, tmp_path):
    failed = run("eval", "--per-kind", "1", "--kind", "arithmetic", "--final", str(tmp_path), "--quiet")
    assert failed.exit_code != 0
    assert not list(tmp_path.iterdir())


def test_with_tools_only_the_other_columns_stay_empty(run, tmp_path):
    figures = tmp_path / "figures.json"
    done = run("eval", "--per-kind", "1", "--kind", "arithmetic", "--tools-only", "--quiet", "--json", str(figures))
    assert done.exit_code == 0, done.output
    assert "-" in done.output.split("arithmetic")[1]
    arms = json.loads(figures.read_text())["kinds"]["arithmetic"]
    assert arms["tools"]["tool_rate"] == 1
    assert arms["no_tools"]["accuracy"] is arms["direct"]["accuracy"] is None
