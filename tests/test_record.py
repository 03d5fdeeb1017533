"""Records of what benchmarks printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts import record

COUNT = [sys.executable, "-c", "print('took 5 ms'); print(); print('and 6 ms')"]


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "RECORDS", tmp_path)
    return tmp_path


def test_what_a_command_printed_is_kept_with_where_it_ran(records: Path) -> None:
    assert record.record("speed", COUNT, (3,)) == 0
    told = json.loads((records / "speed.json").read_text())
    assert told["figures"]["printed"] == ["took 5 ms", "and 6 ms"]
    assert told["how"]["seeds"] == [3]
    assert told["how"]["processor"]
    assert told["how"]["memory_gib"] > 0
    assert record.command_of("speed") == (COUNT, (3,))


def test_a_command_that_fails_leaves_the_old_record(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.record("speed", COUNT, ())
    before = (records / "speed.json").read_text()
    assert record.record("speed", [sys.executable, "-c", "print(1); raise SystemExit(3)"], ()) == 1
    assert "ended with 3; nothing is recorded" in capsys.readouterr().err
    assert (records / "speed.json").read_text() == before
