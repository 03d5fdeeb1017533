"""``thyme studio serve COLLECTION`` by the real command: killed in the middle of the work, and started again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from annotation_parts import FIELDS, write_collection, written
from studio_parts import Client, running
from typer.testing import CliRunner

from thyme.cli import app
from thyme.cli.studio import _lacking

runner = CliRunner()
A = "/api/annotation"


def run(*arguments: object) -> str:
    result = runner.invoke(app, ["studio", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("cli_annotation") / "photos", 2)


@pytest.fixture
def people() -> Iterator[ExitStack]:
    """Closes what they hold."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
def test_killed_and_started_again(folder: Path, people: ExitStack) -> None:
    """Nothing that was answered is lost; who was in is in; only the first start makes a link; settings are given."""
    with running(folder) as server:
        assert "0 new records, 2 new images" in server.told
        lea = Client(server.url)
        people.callback(lea.http.close)
        lea.person = lea.post("/api/join", token=server.link().partition("#")[2], name="Lea")["person"]
        written(lea)
        shot = lea.post(f"{A}/next", queue="annotate")["work"]["id"]
        draft = lea.post(f"{A}/images/{shot}/questions", question="Half a qu")
        invited = run("invite", folder, "Eve", "--role", "expert", "--port", server.url.rpartition(":")[2]).strip()
        server.process.kill()
        assert server.process.wait(60) == -9
    with running(folder, "--set", "annotation.second=0", "--set", "annotation.experts=1") as server:
        assert "new images" not in server.told
        again, eve = Client(server.url), Client(server.url)
        people.callback(again.http.close)
        people.callback(eve.http.close)
        again.http.cookies = lea.http.cookies
        again.person = again.get("/api/me")["person"]
        assert again.get(f"{A}/questions/{draft['id']}")["question"] == "Half a qu"
        saved = again.send("PUT", f"{A}/questions/{draft['id']}", {**FIELDS, "version": draft["version"]})
        assert saved.json()["version"] == 2
        eve.person = eve.post("/api/join", token=invited.partition("#")[2])["person"]
        assert eve.person["roles"] == ["expert"]
        assert eve.get(A)["queues"]["expert"] == 1  # what waited for a second person goes on without one
    found = json.loads(run("progress", folder, "--json"))
    assert (found["states"]["draft"], found["states"]["checked"]) == (1, 1)
    told = run("progress", folder)
    assert "Lea: 1 written (0 came back)" in told
    assert "lacking: 1 experts' verdicts (1 a question; 2 people may give them)" in told


def test_progress_says_what_lacks_and_how_to_get_it() -> None:
    enough = {"each": 1, "lacking": 2, "people": 3}
    told = list(_lacking({"second": enough, "expert": {"each": 3, "lacking": 6, "people": 1}}))
    assert told[0] == "lacking: 2 second answers (1 a question; 3 people may give them)"
    assert "6 experts' verdicts (3 a question; 1 person may give them; `thyme studio invite … --role expert`" in told[1]
    assert "--set annotation.experts=N" in told[1]
    unknown = {"each": None, "lacking": None, "people": 0}
    assert list(_lacking({"second": enough | {"lacking": 0}, "expert": unknown})) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "FOLDER"], "thyme rl-data export"),
        (["invite", "FOLDER", "Bo", "--role", "boss"], "there is no role 'boss'"),
        (["serve", "FOLDER", "--set", "annotation.expert=3"], "annotation.expert"),
        (["serve", "BROKEN"], "restore it"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text("{")
    named = {"FOLDER": str(folder), "BROKEN": str(tmp_path)}
    result = runner.invoke(app, ["studio", *[named.get(one, one) for one in arguments]])
    assert result.exit_code in {1, 2}
    assert message in result.output
