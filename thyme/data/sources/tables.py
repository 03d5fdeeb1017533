"""Rows of files by place: JSON lines, TSV and CSV. Files are read once to find the rows, and never held in memory.

Parquet and saved data sets are in `thyme.data.sources.arrow`, folders of pictures in `thyme.data.sources.pictures`.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from thyme.data.sources.lines import Lines, files_print
from thyme.errors import StoreError

DAMAGED_ROW = "damaged_row"
"""A row that is not what its file should hold, such as a line that is not JSON."""


class DamagedRowError(StoreError):
    """One row of a file is damaged, and the others can be read."""

    def __init__(self, message: str, *, trouble: str = "") -> None:
        """Say what is wrong.

        Args:
            message: In a sentence, which names the row.
            trouble: What is wrong, alone.
        """
        super().__init__(message)
        self.trouble = trouble


FIELD_CHARS = 1 << 29
"""Longest field of a TSV file, characters: 400 MB of image. A quote that is never closed ends here."""


class Table(Protocol):
    """Rows by place; may be sent to other processes, and read in several threads."""

    @property
    def columns(self) -> Sequence[str]:
        """Of the rows; of JSON lines those of the first."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of what is read."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where paths of images start; None: no image is a path."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def row(self, index: int) -> Mapping[str, Any]:
        """A row, whole.

        Raises:
            IndexError: There is none.
            DamagedRowError: This row alone is damaged.
            StoreError: The file is damaged or has changed.
        """
        ...

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row without its column of images where that is cheaper, and their number (None: the row is whole).

        Raises:
            IndexError: There is none.
            StoreError: The file is damaged or has changed.
        """
        ...

    def label(self, index: int) -> str:
        """File and row for messages."""
        ...


def folder_of(files: Sequence[Path], root: Path | None) -> Path:
    """Where paths of images start: the folder that was named, or that of the file."""
    return root if root is not None else files[0].parent


class JsonLines:
    """One JSON object a line."""

    def __init__(self, files: Sequence[Path], root: Path | None = None) -> None:
        """Find the lines.

        Raises:
            StoreError: A file cannot be read, or its first line is no object.
        """
        self._lines = Lines(files)
        self.fingerprint, self.folder = self._lines.fingerprint, folder_of(files, root)
        self.columns: Sequence[str] = list(self.row(0)) if len(self._lines) else []

    def __len__(self) -> int:
        """Number of lines that are not empty."""
        return len(self._lines)

    def row(self, index: int) -> Mapping[str, Any]:
        """A row; see `Table`."""
        path, number, line = self._lines.read(index)
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            trouble = f"not JSON ({error})"
            raise DamagedRowError(f"{where}: {trouble}; delete the line", trouble=trouble) from error
        if not isinstance(row, Mapping):
            trouble = f"a {type(row).__name__}, not an object"
            raise DamagedRowError(f"{where}: {trouble}; delete the line", trouble=trouble)
        return row

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row, whole."""
        return self.row(index), None

    def label(self, index: int) -> str:
        """File and line."""
        return self._lines.name(index)


class Delimited:
    """TSV or CSV: the first line names the columns, fields may be quoted and hold line breaks."""

    def __init__(self, path: Path, delimiter: str = "\t", root: Path | None = None) -> None:
        """Read the file once to find the rows; in memory are their offsets, 16 bytes a row.

        Raises:
            StoreError: It cannot be read or has no header; file and line are named.
        """
        self._path, self._delimiter = path, delimiter
        self._offsets, self._numbers = array("q"), array("q")
        csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARS))
        try:
            with path.open("rb") as file:
                self.fingerprint, self.folder = files_print([path]), folder_of([path], root)
                self._scan(_Text(file, path))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); check the path") from error

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._offsets)

    def row(self, index: int) -> Mapping[str, Any]:
        """A row; see `Table`."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} rows, none with the index {index}")
        try:
            with self._path.open("rb") as file:
                lines = _Text(file, self._path)
                lines.go(self._offsets[index], self._numbers[index])
                fields = self._fields(lines) or []
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read any more ({error.strerror}); start again") from error
        return self._named(fields, self._numbers[index])

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row, whole."""
        return self.row(index), None

    def label(self, index: int) -> str:
        """File and line."""
        return f"{self._path.name}, line {self._numbers[index]}"

    def _scan(self, lines: _Text) -> None:
        self.columns: Sequence[str] = self._fields(lines) or []
        if not any(self.columns):
            raise StoreError(f"{self._path} is empty; its first line must name the columns")
        while True:
            offset, number = lines.offset, lines.number + 1
            fields = self._fields(lines)
            if fields is None:
                return
            if fields:
                self._offsets.append(offset)
                self._numbers.append(number)

    def _fields(self, lines: _Text) -> list[str] | None:
        """Fields of the next row; none of an empty line, None at the end of the file."""
        line = next(lines, None)
        if line is None:
            return None
        plain = line.rstrip("\r\n")
        if '"' not in plain and "\r" not in plain:  # nearly every row with an image; csv reads it sign by sign
            return plain.split(self._delimiter) if plain else []
        start = lines.number
        try:
            return next(csv.reader(chain([line], lines), delimiter=self._delimiter), None)
        except csv.Error as error:
            raise StoreError(f"{self._path}, line {start}: {error}") from error

    def _named(self, fields: Sequence[str], number: int) -> dict[str, str | None]:
        if len(fields) != len(self.columns):
            trouble = f"{len(fields)} fields, the header names {len(self.columns)}"
            raise DamagedRowError(
                f"{self._path}, line {number}: {trouble}; is the file whole, and its delimiter quoted where a field "
                "holds it?",
                trouble=trouble,
            )
        return {name: field or None for name, field in zip(self.columns, fields, strict=True)}


class _Text:
    """Lines of a file as text, and how many bytes of it were read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self.number, self.offset = file, path, 0, 0

    def go(self, offset: int, number: int) -> None:
        """Read on from a place, where the line with this number begins."""
        self._file.seek(offset)
        self.offset, self.number = offset, number - 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.number, first = self.number + 1, self.offset == 0
        self.offset += len(line)
        try:
            return line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"{self._path}, line {self.number}: not UTF-8 ({error.reason})") from error
