"""``thyme studio``: served by the real command in a process of its own, and asked about its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from studio_parts import Client, no_code, running, write_build
from typer.testing import CliRunner

from thyme.cli import app
from thyme.data.export.reviews import read_reviews
from thyme.studio.database import Database

runner = CliRunner()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("cli_studio") / "build", [no_code(0), no_code(1)])


def run(*arguments: object) -> str:
    result = runner.invoke(app, ["studio", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_served_reviewed_exported(out: Path) -> None:
    with running(out, "--isolation", "landlock") as server:
        assert "2 new records" in server.told
        client = Client(server.url)
        with client.http:
            token = server.link().partition("#")[2]
            client.person = client.post("/api/join", token=token, name="Lea")["person"]
            assert client.person["lead"]
            item = client.post("/api/next")["item"]["id"]
            client.post(f"/api/items/{item}/verdict", verdict="accept", seconds=2)
            for_bo = run("invite", out, "Bo", "--port", server.url.rpartition(":")[2]).strip()
            assert for_bo.startswith(f"{server.url}/join#")
            joined = client.http.post("/api/join", json={"token": for_bo.partition("#")[2]})
            assert joined.json()["person"]["name"] == "Bo"
        assert server.end() == 0
    assert json.loads(run("progress", out, "--json"))["states"]["accept"] == 1
    assert "Lea: 1 accepted" in run("progress", out)
    assert json.loads(run("export", out, "--json"))["accepted"] == 1
    assert [review.reviewers for review in read_reviews(out)] == [("Lea",)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "nowhere"], "holds no build"),
        (["serve", "OUT", "--host", "0.0.0.0"], "--public-url"),
        (["export", "OUT", "--database", "mysql://x"], "not supported"),
        (["progress", "nowhere"], "holds no build"),
        (["progress", "OUT", "--database", "sqlite:///no.db"], "there is no database no.db"),
        (["progress", "OUT", "--database", "OTHER"], "knows no build"),
        (["invite", "OUT", "x" * 101], "a name has 1 to 100"),
        (["serve", "OUT", "--set", "leese_s=3"], "leese_s"),
        (["serve", "OUT", "--public-url", "review.example.org"], "public_url"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], message: str, out: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    if "OTHER" in arguments:
        Database(other).close()
    result = runner.invoke(app, ["studio", *[{"OUT": str(out), "OTHER": other}.get(one, one) for one in arguments]])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
