"""Items that ask the same of nearly the same picture as an earlier one: found in the order of the draw.

Two items are duplicates when they are of one scenario, ask the same question, and the perceptual hashes of their first
pictures differ in few bits (those of any others in none). Another question about the same picture is none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from thyme.data.factory.shuffle import number
from thyme.data.hashes import distance, pieces
from thyme.errors import StoreError

_TABLE = "CREATE TABLE seen (key INTEGER, hash INTEGER, item INTEGER)"
_INDEX = "CREATE INDEX by_key ON seen (key)"


class Duplicates:
    """Remembers what was seen in a temporary file of SQLite's, so that memory does not grow with the build.

    Each hash is kept under its `thyme.data.hashes.pieces`, and only those that share one with it are compared.
    """

    def __init__(self, bits: int) -> None:
        """Begin with nothing.

        Args:
            bits: In which two hashes may differ to be those of duplicates, 0 to 64.
        """
        self._bits = bits
        self._pieces = pieces(bits)
        self._base = sqlite3.connect("")  # a file of its own that is gone with the connection
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute(_TABLE)
        self._base.execute(_INDEX)

    def add(self, item: int, scenario: str, question: str, hashes: Sequence[int]) -> int | None:
        """Look at an item, and remember it unless it is a duplicate.

        Args:
            item: Its index; give them in order.
            scenario: Of the item.
            question: Of the row, as it was read.
            hashes: Perceptual hashes of its pictures, in order.

        Returns:
            The earlier item that it is a duplicate of, or None.

        Raises:
            StoreError: The temporary file cannot be written.
        """
        group = number("question", scenario, " ".join(question.split()).casefold(), len(hashes), *hashes[1:])
        first = hashes[0] if hashes else 0
        keys = [number(group, place, first >> low & mask) >> 1 for place, (low, mask) in enumerate(self._pieces)]
        marks = ",".join("?" * len(keys))
        try:
            found = self._base.execute(f"SELECT hash, item FROM seen WHERE key IN ({marks}) ORDER BY item", keys)
            near = next((other for value, other in found if distance(_unsigned(value), first) <= self._bits), None)
            if near is None:
                rows = [(key, _signed(first), item) for key in keys]
                self._base.executemany("INSERT INTO seen VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise StoreError(
                f"the temporary file of what was seen cannot be written ({error}) after {item} items; make room in the "
                "folder for temporary files, or name another one (SQLITE_TMPDIR), and run the same command again"
            ) from error
        return near

    def close(self) -> None:
        """Forget everything."""
        self._base.close()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _unsigned(value: int) -> int:
    return value % (1 << 64)
