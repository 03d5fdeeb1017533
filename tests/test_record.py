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
    assert record.command_of("speed") == (COUNT, (3,), False)


def test_a_command_that_fails_leaves_the_old_record(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.record("speed", COUNT, ())
    before = (records / "speed.json").read_text()
    assert record.record("speed", [sys.executable, "-c", "print(1); raise SystemExit(3)"], ()) == 1
    assert "ended with 3; nothing is recorded" in capsys.readouterr().err
    assert (records / "speed.json").read_text() == before


def test_a_document_shows_what_was_printed_and_where(records: Path) -> None:
    table = "print('Two.\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\n| c |\\n|---|\\n| 3 |')"
    assert record.record("sizes", [sys.executable, "-c", table], (1, 2)) == 0
    page = "Before.\n\n<!-- measured: sizes -->\nold\n<!-- end of measured -->\n\nBehind.\n"
    filled = record.fill(page)
    assert "Two.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n\nPrinted by `" in filled
    assert ", seeds 1, 2; commit " in filled
    assert filled.startswith("Before.\n\n<!--")
    assert filled.endswith("-->\n\nBehind.\n")
    assert "old" not in filled
    assert record.fill(filled) == filled


def test_what_is_no_table_is_shown_as_it_stood(records: Path) -> None:
    record.record("speed", COUNT, ())
    page = "<!-- measured: speed -->\n<!-- end of measured -->\n"
    assert "```text\ntook 5 ms\nand 6 ms\n```\n\nPrinted by" in record.fill(page)


def test_only_tables_are_kept_where_that_is_asked(records: Path) -> None:
    words = [sys.executable, "-c", "print('noise\\n| a |\\n|---|\\n| 5 |')"]
    assert record.record("sizes", words, (), tables=True) == 0
    assert record.read("sizes")[0] == ["| a |", "|---|", "| 5 |"]
    assert record.command_of("sizes") == (words, (), True)
