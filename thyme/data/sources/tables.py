"""Rows of files by place: JSON lines, TSV and CSV. Files are read once to find the rows, and never held in memory.

Parquet and saved data sets are in `thyme.data.sources.arrow`, folders of pictures in `thyme.data.sources.pictures`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from thyme.data.sources.lines import Lines, check_index, files_fingerprint
from thyme.delimited import TextLines, next_fields
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
        try:
            with path.open("rb") as file:
                self.fingerprint, self.folder = files_fingerprint([path]), folder_of([path], root)
                self._scan(TextLines(file, path))
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); check the path") from error

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._offsets)

    def row(self, index: int) -> Mapping[str, Any]:
        """A row; see `Table`."""
        check_index(index, len(self))
        try:
            with self._path.open("rb") as file:
                lines = TextLines(file, self._path)
                lines.go(self._offsets[index], self._numbers[index])
                fields = next_fields(lines, self._delimiter) or []
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read any more ({error.strerror}); start again") from error
        return self._named(fields, self._numbers[index])

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row, whole."""
        return self.row(index), None

    def label(self, index: int) -> str:
        """File and line."""
        return f"{self._path.name}, line {self._numbers[index]}"

    def _scan(self, lines: TextLines) -> None:
        self.columns: Sequence[str] = next_fields(lines, self._delimiter) or []
        if not any(self.columns):
            raise StoreError(f"{self._path} is empty; its first line must name the columns")
        while True:
            offset, number = lines.offset, lines.number + 1
            fields = next_fields(lines, self._delimiter)
            if fields is None:
                return
            if fields:
                self._offsets.append(offset)
                self._numbers.append(number)

    def _named(self, fields: Sequence[str], number: int) -> dict[str, str | None]:
        if len(fields) != len(self.columns):
            trouble = f"{len(fields)} fields, the header names {len(self.columns)}"
            raise DamagedRowError(
                f"{self._path}, line {number}: {trouble}; is the file whole, and its delimiter quoted where a field "
                "holds it?",
                trouble=trouble,
            )
        return {name: field or None for name, field in zip(self.columns, fields, strict=True)}
