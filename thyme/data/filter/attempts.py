"""What a model answered, by problem and sample: kept in a file of SQLite's, so that a run that is killed goes on.

A key is a hash of whatever an attempt depends on: question, options, pictures, reference, model, prompts, temperatures,
sandbox, and how answers are compared. Other settings have other keys, and may share the file.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thyme.errors import StoreError

FILE: Final = "attempts.sqlite"
_TABLE = """CREATE TABLE IF NOT EXISTS attempts (
    key TEXT, sample INTEGER, value REAL, answer TEXT, stop TEXT, rounds INTEGER, tokens INTEGER, seconds REAL,
    PRIMARY KEY (key, sample)) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rollout."""

    value: float | None
    """1 right, 0 wrong; None where a judge gave no verdict."""
    answer: str
    stop: str
    """See `thyme.types.StopReason`."""
    rounds: int = 0
    """Code blocks that ran."""
    tokens: int = 0
    """Generated."""
    seconds: float = 0.0


class Attempts:
    """Attempts by key and sample. SQLite serialises the threads that use it."""

    def __init__(self, folder: Path) -> None:
        """Open the file, which is made where missing.

        Raises:
            StoreError: It cannot be opened, or is no such file.
        """
        self._path = folder / FILE
        try:
            self._base = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(_TABLE)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot be opened ({error}); move it away to ask again") from error

    def add(self, key: str, sample: int, attempt: Attempt) -> None:
        """Keep an attempt.

        Raises:
            StoreError: The disk is full.
        """
        told = (attempt.value, attempt.answer, attempt.stop, attempt.rounds, attempt.tokens, attempt.seconds)
        try:
            self._base.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, sample, *told))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: an attempt cannot be written ({error}); is the disk full?") from error

    def of(self, key: str) -> dict[int, Attempt]:
        """Attempts at a problem, by sample.

        Raises:
            StoreError: The file is damaged.
        """
        columns = "sample, value, answer, stop, rounds, tokens, seconds"
        try:
            rows = self._base.execute(
                f"SELECT {columns} FROM attempts WHERE key = ? ORDER BY sample", (key,)
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot be read ({error}); move it away to ask again") from error
        return {row[0]: Attempt(*row[1:]) for row in rows}

    def close(self) -> None:
        """Close the file."""
        self._base.close()
