"""A table beside the pictures that says of each where it comes from and what allows its use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from thyme.data.collect.told import Told, plain
from thyme.data.sources.lines import digest
from thyme.errors import UsageError

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "file": ("file", "file_name", "filename", "path", "image"),
    "licence": ("licence", "license"),
    "source": ("source", "url", "source_url"),
    "creator": ("creator", "author", "artist", "credit"),
}
"""Columns by what they tell, any of these spellings."""


class Sidecar:
    """What a table says, by path in the folder of the pictures, or by a file's name alone."""

    def __init__(self, rows: Mapping[str, Told]) -> None:
        """Take what is told by file."""
        self._rows = dict(rows)

    def __len__(self) -> int:
        """Number of files that it tells of."""
        return len(self._rows)

    @property
    def fingerprint(self) -> str:
        """Hash of what it says."""
        return digest(f"{file} {told}" for file, told in sorted(self._rows.items()))

    def of(self, path: str) -> Told:
        """What is told of a path, with ``/`` between folders; the whole path counts before the name."""
        return self._rows.get(path) or self._rows.get(path.rpartition("/")[2]) or Told()


def read_sidecar(path: Path) -> Sidecar:
    """Read a table: CSV with a head, a JSON list of objects, a JSON object by file, or JSON lines.

    Raises:
        UsageError: It cannot be read, or no column names the files, or none says anything.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); name a CSV or JSON file in UTF-8 with --sidecar") from error
    readers = {".csv": _csv, ".json": _json, ".jsonl": _json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is no {', '.join(readers)} file; write what is known of the pictures as one of those")
    try:
        rows = list(reader(text))
    except (ValueError, csv.Error, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}); put it right") from error
    return Sidecar(_by_file(path, rows))


def _by_file(path: Path, rows: Iterable[object]) -> dict[str, Told]:
    found: dict[str, Told] = {}
    columns: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise UsageError(f"{path}, row {number}: a {type(row).__name__}, not an object with columns; put it right")
        known = {str(name).strip().lower(): value for name, value in row.items()}
        columns |= dict.fromkeys(known)
        file = _of(known, "file")
        if file:
            told = Told(**{name: plain(_of(known, name)) for name in ("licence", "source", "creator")})
            found[str(file).removeprefix("./")] = told
    if not found or not any(name in columns for key in ("licence", "source", "creator") for name in _NAMES[key]):
        raise UsageError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; it needs one that names the files (file) and "
            "licence, source or creator"
        )
    return found


def _of(row: Mapping[str, Any], what: str) -> object:
    return next((row[name] for name in _NAMES[what] if row.get(name)), None)


def _csv(text: str) -> Iterable[object]:
    return csv.DictReader(io.StringIO(text), strict=True)


def _json(text: str) -> Iterable[object]:
    read = json.loads(text)
    if isinstance(read, Mapping):
        return [{**row, "file": name} if isinstance(row, Mapping) else row for name, row in read.items()]
    if isinstance(read, list):
        return read
    raise ValueError("neither a list nor an object")


def _json_lines(text: str) -> Iterable[object]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]
