"""Files of fields, tab or comma between them, read a row at a time and from any place in them.

Fields may be quoted and hold line breaks. A line that needs no quotes is split without `csv`, which reads sign by sign;
nearly every row with an image is one.
"""

from __future__ import annotations

import csv
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Self

from thyme.errors import StoreError

FIELD_CHARS = 1 << 29
"""Longest field, characters: 400 MB of image. A quote that is never closed ends here."""


class TextLines:
    """Lines of a file as text, and how many bytes of it were read; no more than the rows need.

    Raises:
        StoreError: A line is not UTF-8; file and line are named.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Read from the start. Lifts the limit that `csv` has on fields, which is the process's, to `FIELD_CHARS`.

        Args:
            file: Open for reading.
            path: For errors.
        """
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARS))
        self._file, self.path = file, path
        self.number, self.offset = 0, 0
        """Of the last line that was read, from 1; bytes up to its end."""

    def go(self, offset: int, number: int) -> None:
        """Read on from a place, where the line with this number begins."""
        self._file.seek(offset)
        self.offset, self.number = offset, number - 1

    def __iter__(self) -> Self:
        """Itself; it can be read once."""
        return self

    def __next__(self) -> str:
        """The next line, with its line break."""
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.number, first = self.number + 1, self.offset == 0
        self.offset += len(line)
        try:
            return line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(
                f"{self.path}, line {self.number}: not UTF-8 ({error.reason}); write the file as UTF-8"
            ) from error


def next_fields(lines: TextLines, delimiter: str = "\t") -> list[str] | None:
    """Fields of the next row; none of an empty line, None at the end of the file.

    Raises:
        StoreError: It cannot be read as a row; file and line are named.
    """
    line = next(lines, None)
    if line is None:
        return None
    plain = line.rstrip("\r\n")
    if '"' not in plain and "\r" not in plain:
        return plain.split(delimiter) if plain else []
    start = lines.number
    try:
        return next(csv.reader(chain([line], lines), delimiter=delimiter), None)
    except csv.Error as error:
        raise StoreError(f"{lines.path}, line {start}: {error}; is the file whole, and every quote closed?") from error
