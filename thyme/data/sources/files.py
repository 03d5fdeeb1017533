"""Find out what a path is, and read its rows as problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from thyme.config.data import SourceSettings
from thyme.data.sources.arrow import ParquetRows, SavedRows
from thyme.data.sources.base import Facts
from thyme.data.sources.columns import Columns
from thyme.data.sources.lines import check_index, digest
from thyme.data.sources.pictures import Pictures
from thyme.data.sources.tables import DAMAGED_ROW, DamagedRowError, Delimited, JsonLines, Table
from thyme.errors import ConfigError, EncodeError
from thyme.images import MAX_PIXELS
from thyme.types import ImageRecord, Problem

METADATA: Final = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files that say what is known of the pictures of a folder, as Hugging Face's ImageFolder has them."""
_SPLITS: Final = ("train", "test", "testmini", "validation", "valid", "val", "dev")


def _tsv(files: Sequence[Path], root: Path | None) -> Table:
    return Delimited(_only(files), "\t", root)


def _csv(files: Sequence[Path], root: Path | None) -> Table:
    return Delimited(_only(files), ",", root)


def _only(files: Sequence[Path]) -> Path:
    if len(files) != 1:
        raise ConfigError(f"{files[0].parent} holds {len(files)} {files[0].suffix} files; name one of them")
    return files[0]


_READERS: Final[dict[str, Callable[[Sequence[Path], Path | None], Table]]] = {
    ".parquet": ParquetRows,
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".tsv": _tsv,
    ".csv": _csv,
}
"""By ending; in folders looked for in this order."""


class FileSource:
    """Problems of files."""

    def __init__(self, name: str, table: Table, columns: Columns, count: int | None = None) -> None:
        """Take a table.

        Args:
            name: In the recipe; ids of problems begin with it.
            table: Of the rows.
            columns: What the rows mean.
            count: Rows at most, the first ones.
        """
        self._table, self._columns = table, columns
        self.name = name
        self._count = min(len(table), count or len(table))
        self.fingerprint = digest([table.fingerprint, self._count, sorted(columns.named.items()), columns.question])

    def __len__(self) -> int:
        """Number of rows."""
        return self._count

    def facts(self, index: int) -> Facts:
        """What is known of a row without its pixels; see `thyme.data.sources.base.Source`."""
        check_index(index, self._count)
        column = self._columns.images_of(self._table.columns)
        if column is None:
            return self._columns.facts(self._table.row(index))
        return self._columns.facts(*self._table.light(index, column))

    def problem(self, index: int) -> Problem:
        """A row, its images decoded; see `thyme.data.sources.base.Source`."""
        check_index(index, self._count)
        return self._columns.problem(
            self._table.row(index),
            id=f"{self.name}-{index}",
            label=self._table.label(index),
            folder=self._table.folder,
        )

    def each(
        self, wanted: Iterable[int], known: Callable[[int], Sequence[ImageRecord]] = lambda index: ()
    ) -> Iterator[tuple[int, Problem | EncodeError]]:
        """Rows in order, few in memory at a time; the error of a row that cannot be used instead of it.

        Args:
            wanted: Indices, rising.
            known: What the images of a row were found to be before, where they are not to be decoded again.

        Raises:
            IndexError: There is no such row.
            StoreError: The file is damaged or has changed.
        """
        for index, row in self._rows(wanted):
            if isinstance(row, EncodeError):
                yield index, row
                continue
            label = self._table.label(index)
            try:
                problem = self._columns.problem(
                    row, id=f"{self.name}-{index}", label=label, folder=self._table.folder, known=known(index)
                )
            except EncodeError as error:
                yield index, error
            else:
                yield index, problem

    def _rows(self, wanted: Iterable[int]) -> Iterator[tuple[int, Mapping[str, Any] | EncodeError]]:
        if isinstance(self._table, ParquetRows):
            return self._table.each(wanted)
        return ((index, self._row(index)) for index in wanted)

    def _row(self, index: int) -> Mapping[str, Any] | EncodeError:
        try:
            return self._table.row(index)
        except DamagedRowError as error:
            return EncodeError(f"{self._table.label(index)}: {error.trouble}", reason=DAMAGED_ROW)


def open_files(
    name: str, settings: SourceSettings, *, table: Table | None = None, max_pixels: int = MAX_PIXELS
) -> FileSource:
    """Problems of a path.

    Args:
        name: In the recipe.
        settings: What the rows are.
        table: The rows, where they are open already; None opens the path.
        max_pixels: Largest picture that is decoded, width times height.

    Raises:
        ConfigError: There is nothing that can be read, no such split, or no such column.
        MissingExtraError: Parquet or a saved data set without the extra ``data``.
        StoreError: What is there is damaged.
    """
    path = Path(settings.path).expanduser()
    table = table or open_table(path, settings.split)
    if not len(table):
        raise ConfigError(f"{path} holds no rows; name another file or folder (sources.{name}.path)")
    columns = Columns(settings.columns, settings.question, max_pixels)
    columns.check(table.columns, str(path))
    if not settings.question and columns.column("question", set(table.columns)) is None:
        raise ConfigError(
            f"{path} has no column for the question, but {', '.join(table.columns)}; name one "
            f"(sources.{name}.columns.question), or a question for all (sources.{name}.question)"
        )
    return FileSource(name, table, columns, settings.count)


def open_table(path: Path, split: str) -> Table:
    """Rows of a file or a folder; the errors are those of `open_files`."""
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise ConfigError(f"{path}: no such file or folder; check the path")
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return SavedRows(path, split)
    for folder in (path / split, path):
        for name in METADATA:
            if (folder / name).is_file():
                return _READERS[(folder / name).suffix]([folder / name], folder)
    for ending, reader in _READERS.items():
        if files := _of_split(sorted(path.rglob(f"*{ending}")), path, split):
            return reader(files, path)
    return Pictures(path)


def _of_file(path: Path) -> Table:
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        return reader([path], None)
    hint = "write one object a line as .jsonl (jq -c '.[]')" if path.suffix == ".json" else "convert it"
    raise ConfigError(f"{path} is no {', '.join(_READERS)} file and no folder; {hint}")


def _of_split(files: Sequence[Path], root: Path, split: str) -> list[Path]:
    """The files that belong to a split by their names; all, where their names say nothing of splits."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[/._-]", file.relative_to(root).as_posix())
        by_split.setdefault(next((word for word in words if word in _SPLITS or word == split), ""), []).append(file)
    if not files or split in by_split:
        return by_split.get(split, [])
    if set(by_split) == {""}:
        return by_split[""]
    raise ConfigError(f"{root} has no split '{split}'; its splits: {', '.join(sorted(filter(None, by_split)))}")
