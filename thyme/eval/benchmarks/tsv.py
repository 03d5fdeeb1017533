"""TSV files of VLMEvalKit: fields of any size, quoted line breaks, images that another row holds.

A file is read a row at a time. The place of each row is remembered, so that a row whose image column names another row
can fetch that row's image with a second handle, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from thyme.delimited import TextLines, next_fields
from thyme.errors import StoreError
from thyme.eval.benchmarks.cells import REFERENCE_CHARS, RowError


class Tsv:
    """An open file; iterate over it for line numbers (from 1) and rows.

    Raises:
        StoreError: It cannot be read, has no header, or a row is not of its width; file and line are named.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._known, self._next_line = 0, 1
        with ExitStack() as files:
            try:
                self._lines, self._back = (TextLines(files.enter_context(path.open("rb")), path) for _ in range(2))
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
            self.columns = next_fields(self._lines) or []
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
            fields = next_fields(self._lines)
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
        fields = next_fields(self._back)
        image = self._row(fields or [], number).get("image", "")
        if len(image) <= REFERENCE_CHARS:
            raise RowError(f"its image is that of row {index!r}, which has none of its own")
        return image

    def _look_ahead(self) -> bool:
        """Remember where one more row stands; False at the end of the file."""
        lines = self._back
        place, number = max((self._known, self._next_line), (self._lines.offset, self._lines.number + 1))
        lines.go(place, number)
        fields = next_fields(lines)
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
