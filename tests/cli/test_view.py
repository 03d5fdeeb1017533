"""`thyme view` prints, writes a page or serves; whatever is wrong with a file is said by name and line."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import sample_records as samples
from typer.testing import CliRunner

from thyme.cli import app
from thyme.store import write_trajectories

run = CliRunner()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    records = [samples.trajectory(id="a"), samples.trajectory(id="b", answer="KX 41", question="And the other sign?")]
    write_trajectories(folder / "trajectory.jsonl", records)
    return folder


def test_it_prints(saved: Path) -> None:
    """A file or its folder; nothing that acts on a terminal where there is none."""
    by_file = run.invoke(app, ["view", str(saved / "trajectory.jsonl")])
    assert by_file.exit_code == 0
    assert by_file.stdout.index("What does the sign say?") < by_file.stdout.index("And the other sign?")
    assert "answer     KX 47" in by_file.stdout
    assert "\x1b" not in by_file.stdout
    assert run.invoke(app, ["view", str(saved)]).stdout == by_file.stdout


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--verdict", "wrong"], [False, True]),
        (["--search", "OTHER"], [False, True]),
        (["--limit", "1"], [True, False]),
        (["--kind", "zoom", "--rounds", "1", "--stop", "answer"], [True, True]),
    ],
)
def test_filters(saved: Path, options: list[str], shown: list[bool]) -> None:
    printed = run.invoke(app, ["view", str(saved), *options]).stdout
    assert [text in printed for text in ("What does the sign say?", "And the other sign?")] == shown


def test_one_page(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = run.invoke(app, ["view", str(saved), "--html", str(out)])
    assert (result.exit_code, result.stdout) == (0, "")
    page = out.read_text(encoding="utf-8")
    assert "1 right, 1 wrong" in page
    assert page.count("data:image/") >= 4
    refused = run.invoke(app, ["view", str(saved), "--html", str(tmp_path / "no" / "page.html")])
    assert (refused.exit_code, "name another file" in refused.stderr) == (2, True)


def test_what_is_wrong_is_said(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").touch()
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes((saved / "trajectory.jsonl").read_bytes() + b"{cut\n")
    (saved / "images").rename(tmp_path / "images")
    for arguments, code, told in (
        ([tmp_path / "none.jsonl"], 2, "none.jsonl: no such file"),
        ([tmp_path / "empty"], 2, "holds 0 files of trajectories"),
        ([tmp_path / "empty.jsonl"], 1, "no trajectory in there"),
        ([damaged], 1, "line 3: damaged"),
        ([damaged, "--verdict", "failed", "--skip-damaged"], 1, "none of 2 records matches"),
        ([saved], 1, "an image of"),
        ([saved, "--serve", "--html", tmp_path / "x"], 2, "choose one"),
        ([], 2, "Missing argument"),
    ):
        result = run.invoke(app, ["view", *map(str, arguments)])
        assert (result.exit_code, told in result.stderr) == (code, True), (arguments, result.stderr)
        assert "Traceback" not in result.stderr
    skipped = run.invoke(app, ["view", str(damaged), "--skip-damaged"])
    assert (skipped.exit_code, "line 3" in skipped.stderr) == (0, True)


def test_it_serves_until_interrupted(saved: Path) -> None:
    """On a port that is free; the damaged line is said and left out."""
    with (saved / "trajectory.jsonl").open("a") as file:
        file.write("{cut\n")
    command = [Path(sys.executable).with_name("thyme"), "view", str(saved), "--serve", "--verdict", "wrong"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert url is not None, line
            listing = httpx.get(url.group(0), timeout=20).text
            assert "1 record " in listing
            assert "And the other sign?" in listing
            port = url.group(0).rpartition(":")[2].strip("/")
            taken = run.invoke(app, ["view", str(saved), "--serve", "--port", port])
            assert (taken.exit_code, "name another with --port" in taken.stderr) == (2, True)
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
    assert "line 3" in errors
    assert "Traceback" not in errors
