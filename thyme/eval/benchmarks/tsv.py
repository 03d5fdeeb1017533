"""TSV files of VLMEvalKit: fields of any size, quoted line breaks, images that another row holds.

A file is read a row at a time. The place of each row is remembered, so that a row whose image column names another row
can fetch that row's image with a second handle, wherever it stands.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from thyme.errors import StoreError
from thyme.eval.benchmarks.cells import REFERENCE_CHARS, RowError

FIELD_CHARS = 1 << 29
"""Longest field, characters: 400 MB of image. A quote that is never closed ends here."""


class _Lines:
    """Lines of a file as text, and how many bytes of it were read; no more than the rows need."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.number, self.offset = file, path, 0, 0

    def go(self, offset: int, number: int) -> None:
        """Read on from a place: bytes, and the number of the line there."""
        self.file.seek(offset)
        self.offset, self.number = offset, number - 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            raise StopIteration
        self.number, first = self.number + 1, self.offset == 0
        self.offset += len(line)
        try:
            return line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.path}, line {self.number}: not UTF-8 ({error.reason})") from error


class Tsv:
    """An open file; iterate over it for line numbers (from 1) and rows.

    Raises:
        StoreError: It cannot be read, has no header, or a row is not of its width; file and line are named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._known, self._next_line = 0, 1
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARS))
        with ExitStack() as files:
            try:
                self._lines, self._back = (_Lines(files.enter_context(path.open("rb")), path) for _ in range(2))
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
            self.columns = _fields(self._lines) or []
            if not any(self.columns):
                raise StoreError(f"{path} is empty; its first line must name the columns, separated by tabs")
            self._files = files.pop_all()

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def __enter__(self) -> Tsv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        while True:
            place, number = self._lines.offset, self._lines.number + 1
            fields = _fields(self._lines)
            if fields is None:
                return
            if fields:
                row = self._row(fields, number)
                self._remember(row, place, number)
                yield number, row

    def image_of(self, index: str) -> str:
        """The image column of the row with this index.

        Raises:
            RowError: There is no such row, or it has no image of its own.
        """
        while index not in self._places and self._look_ahead():
            pass
        if index not in self._places:
            raise RowError(f"its image is that of row {index!r}, which is not in the file")
        offset, number = self._places[index]
        self._back.go(offset, number)
        fields = _fields(self._back)
        image = self._row(fields or [], number).get("image", "")
        if len(image) <= REFERENCE_CHARS:
            raise RowError(f"its image is that of row {index!r}, which has none of its own")
        return image

    def _look_ahead(self) -> bool:
        """Remember where one more row stands; False at the end of the file."""
        lines = self._back
        place, number = max((self._known, self._next_line), (self._lines.offset, self._lines.number + 1))
        lines.go(place, number)
        fields = _fields(lines)
        if fields:
            self._remember(self._row(fields, number), place, number)
        self._known, self._next_line = lines.offset, lines.number + 1
        return fields is not None

    def _remember(self, row: dict[str, str], place: int, number: int) -> None:
        self._places.setdefault(row.get("index", ""), (place, number))

    def _row(self, fields: list[str], number: int) -> dict[str, str]:
        if len(fields) != len(self.columns):
            raise StoreError(
                f"{self.path}, line {number}: {len(fields)} fields, the header names {len(self.columns)}; "
                "is the file whole, and a tab in a field quoted?"
            )
        return dict(zip(self.columns, fields, strict=True))


def _fields(lines: _Lines) -> list[str] | None:
    """Fields of the next row; none of an empty line, None at the end of the file."""
    line = next(lines, None)
    if line is None:
        return None
    plain = line.rstrip("\r\n")
    if '"' not in plain and "\r" not in plain:  # nearly every row with an image; csv reads it sign by sign
        return plain.split("\t") if plain else []
    start = lines.number
    try:
        return next(csv.reader(chain([line], lines), delimiter="\t"), None)
    except csv.Error as error:
        raise StoreError(f"{lines.path}, line {start}: {error}") from error
