"""The whole way of the full run at its least, by the command: slow."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from thyme.cli import app
from thyme.reproduce.graph import Store, done
from thyme.reproduce.plan import SMOKE, plan


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_step_of_the_full_run_is_done_once(tmp_path: Path) -> None:
    words = ["reproduce", "--smoke", "--out", str(tmp_path / "run"), "--docs", str(tmp_path / "docs")]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    store, steps = Store(tmp_path / "run"), plan(SMOKE)
    found = done(steps, store)
    assert list(found) == [step.name for step in steps]
    stamps = {step.name: store.path(step.name).stat().st_mtime_ns for step in steps}
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    assert {step.name: store.path(step.name).stat().st_mtime_ns for step in steps} == stamps
    page = (tmp_path / "docs" / "reproduction.md").read_text()
    assert "## Who answers what" in page
    assert "Not finished" not in page
    assert str(tmp_path) not in page
    assert not any(str(tmp_path) in file.read_text() for file in (tmp_path / "docs" / "results").glob("*.json"))
