"""``thyme nano problems`` draws what it is asked for, ``thyme nano eval`` measures it; both refuse what is wrong."""

import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from thyme.cli.nano import KindName, app
from thyme.errors import UsageError
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


def test_an_unknown_kind_is_refused(run, tmp_path):
    assert run("problems", str(tmp_path), "--kind", "sideways").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("problems", "FILE"),
        ("mini", "--out", "FILE"),
        ("train", "--smoke", "--out", "FILE"),
        ("ablate-sft", "--smoke", "--out", "FILE"),
        ("ablate-grpo", "--smoke", "--out", "FILE"),
        ("eval", "--json", "FILE/figures.json"),
        ("eval", "--json", "FOLDER"),
        ("teacher", "--log", "FILE/planted.jsonl"),
        ("teacher", "--log", "FOLDER"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_done(run, tmp_path, arguments):
    (tmp_path / "file").write_text("")
    places = {"FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path)}
    refused = run(*(re.sub("FILE|FOLDER", lambda found: places[found.group()], word) for word in arguments))
    assert isinstance(refused.exception, UsageError)
    assert str(tmp_path) in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_records_of_no_build_leave_no_folder_behind(run, tmp_path):
    refused = run("taught", str(tmp_path / "gone"), "--to", str(tmp_path / "taught"))
    assert isinstance(refused.exception, UsageError)
    assert not (tmp_path / "taught").exists()


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
