"""A table beside the pictures is read in any usual form, or the error says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thyme.data.collect.sidecar import Sidecar, read_sidecar
from thyme.data.collect.told import Told
from thyme.errors import UsageError

ROWS = [
    {"file": "a.jpg", "licence": "CC0-1.0", "source": "https://example.org/a", "creator": "Ada"},
    {"file": "deep/b.jpg", "licence": "CC-BY-4.0"},
]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", json.dumps(ROWS)),
        ("t.json", json.dumps({row["file"]: row for row in ROWS})),
        ("t.jsonl", "\n".join(map(json.dumps, ROWS))),
        (
            "t.csv",
            "\ufefffile_name,license,url,author\r\na.jpg,CC0-1.0,https://example.org/a,Ada\r\n./deep/b.jpg,CC-BY-4.0,,\r\n",
        ),
    ],
)
def test_every_form_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    sidecar = read_sidecar(write(tmp_path, name, text))
    assert len(sidecar) == 2
    assert sidecar.of("a.jpg") == Told("CC0-1.0", "https://example.org/a", "Ada")
    assert sidecar.of("elsewhere/a.jpg") == sidecar.of("a.jpg")
    assert sidecar.of("deep/b.jpg") == Told("CC-BY-4.0")
    assert sidecar.of("b.jpg") == sidecar.of("c.jpg") == Told()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "name,licence\na.jpg,CC0", r"has the columns name, licence; it needs one that names the files"),
        ("t.csv", "file,colour\na.jpg,red", r"it needs .*licence, source or creator"),
        ("t.json", '{"a": 3}', r"row 1: a int, not an object"),
        ("t.json", '"a"', "neither a list nor an object"),
        ("t.json", "{", "is damaged"),
        ("t.json", "[" * 100_000, "is damaged"),
        ("t.jsonl", "{", "is damaged"),
        ("t.xlsx", "", r"is no \.csv, \.json, \.jsonl file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_sidecar(write(tmp_path, name, text))


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"file,licence\ncaf\xe9.jpg,CC0")
    for name in ("latin.csv", "gone.csv"):
        with pytest.raises(UsageError, match=f"{name} cannot be read.*--sidecar"):
            read_sidecar(tmp_path / name)


def test_a_hash_tells_tables_apart() -> None:
    one, other = Sidecar({"a": Told("x")}), Sidecar({"a": Told("y")})
    assert one.fingerprint == Sidecar({"a": Told("x")}).fingerprint != other.fingerprint
