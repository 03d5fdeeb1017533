"""Rows by place of Parquet files as they are, and of data sets that Hugging Face's `datasets` saved."""

from __future__ import annotations

import logging
import sys
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from thyme.data.sources.lines import check_index, digest, files_fingerprint
from thyme.data.sources.tables import folder_of
from thyme.errors import ConfigError, MissingExtraError, StoreError

KEPT_BYTES = 1 << 28
"""Row groups that are kept in memory, together. Of a larger one the rows before the wanted one are read each time."""
_BATCH = 8
"""Rows of a large row group that are in memory at once."""
_BUFFER = 1 << 20
"""Bytes that are read of a column at once."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file that fsspec opens; only what is read of it is fetched."""

    url: str

    @property
    def name(self) -> str:
        """Last part of the URL."""
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group."""

    file: int
    number: int
    start: int
    """Its first row, among those of all files."""


class ParquetRows:
    """Rows of Parquet files; nothing is converted or copied.

    A row costs reading its row group, of the columns that are wanted; some row groups are kept in memory
    (`KEPT_BYTES`). What `datasets` writes has row groups of some dozen megabytes.
    """

    def __init__(self, files: Sequence[Path | Remote], root: Path | None = None) -> None:
        """Read the files' footers.

        Args:
            files: All on this machine, or all elsewhere: the URLs of these name the revision, and are what they are
                known by.
            root: Where paths of images start; None: in the folder of the first file, where that is on this machine.

        Raises:
            MissingExtraError: pyarrow is not installed.
            StoreError: One cannot be had or is no Parquet file, or they have different columns.
        """
        here = [file for file in files if isinstance(file, Path)]
        self.fingerprint = files_fingerprint(here) if here else digest(files)
        self.folder = folder_of(here, root) if here else None
        self._files = list(files)
        self.columns: Sequence[str] = []
        self._groups: list[_Group] = []
        self._firsts: list[int] = []
        self._rows = 0
        for number, path in enumerate(self._files):
            self._take(number, path)
        self._starts = [group.start for group in self._groups]
        self._fresh()

    def _take(self, number: int, path: Path | Remote) -> None:
        with _opened(path) as file:
            names = file.schema_arrow.names
            if self.columns and set(names) != set(self.columns):
                raise StoreError(
                    f"{path} has the columns {', '.join(names)}, other than {self._files[0].name}; name files with the "
                    "same ones"
                )
            self.columns = self.columns or names
            self._firsts.append(self._rows)
            for group in range(file.metadata.num_row_groups):
                if rows := file.metadata.row_group(group).num_rows:
                    self._groups.append(_Group(number, group, self._rows))
                    self._rows += rows

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[_Group, tuple[str, ...]], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock and what is kept."""
        return {name: value for name, value in self.__dict__.items() if name not in {"_lock", "_kept"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was, nothing kept."""
        self.__dict__.update(state)
        self._fresh()

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows

    def label(self, index: int) -> str:
        """File and row from 0."""
        file = bisect_right(self._firsts, index) - 1
        return f"{self._files[file].name}, row {index - self._firsts[file]}"

    def row(self, index: int) -> Mapping[str, Any]:
        """A row; see `thyme.data.sources.tables.Table`."""
        return self._read(index, tuple(self.columns))

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row without its images where the file's statistics tell whether it has any (then their number is 1)."""
        group = self._group(index)
        with self._lock, _opened(self._files[group.file]) as file:
            filled = _filled(file.metadata.row_group(group.number), images)
        if filled is None:
            return self.row(index), None
        return self._read(index, tuple(name for name in self.columns if name != images)), int(filled)

    def each(self, wanted: Iterable[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows in order, few at a time, each row group read once however large it is.

        Args:
            wanted: Indices, rising.

        Raises:
            IndexError: There is no such row.
            StoreError: A file is damaged.
        """
        for group, places in _by_group(self._group, wanted):
            with _opened(self._files[group.file]) as file:
                for place, row in _batched(file, group.number, self.columns, places):
                    yield group.start + place, row

    def _group(self, index: int) -> _Group:
        check_index(index, self._rows)
        return self._groups[bisect_right(self._starts, index) - 1]

    def _read(self, index: int, columns: tuple[str, ...]) -> dict[str, Any]:
        group = self._group(index)
        with self._lock:
            table = self._kept.get((group, columns))
            if table is None:
                with _opened(self._files[group.file]) as file:
                    if _bytes_of(file.metadata.row_group(group.number), columns) > KEPT_BYTES:
                        return _streamed(file, group.number, columns, index - group.start)
                    table = file.read_row_group(group.number, columns=list(columns), use_threads=False)
                self._keep((group, columns), table)
            self._kept.move_to_end((group, columns))
        rows: list[dict[str, Any]] = table.slice(index - group.start, 1).to_pylist()
        return rows[0]

    def _keep(self, key: tuple[_Group, tuple[str, ...]], table: Any) -> None:
        self._kept[key] = table
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)


def _streamed(file: Any, group: int, columns: Sequence[str], place: int) -> dict[str, Any]:
    """A row of a row group too large to be in memory: all before it are read, and forgotten."""
    for batch in file.iter_batches(_BATCH, row_groups=[group], columns=list(columns), use_threads=False):
        if place < len(batch):
            rows: list[dict[str, Any]] = batch.slice(place, 1).to_pylist()
            return rows[0]
        place -= len(batch)
    raise StoreError(f"row group {group} ended before its last row; download the file again")


def _by_group(group_of: Callable[[int], _Group], wanted: Iterable[int]) -> Iterator[tuple[_Group, list[int]]]:
    """Row groups with the places in them that are wanted."""
    for group, indices in groupby(wanted, key=group_of):
        yield group, [index - group.start for index in indices]


def _batched(
    file: Any, group: int, columns: Sequence[str], places: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows at rising places of a row group; only those are made Python of."""
    start, left = 0, list(reversed(places))
    for batch in file.iter_batches(_BATCH, row_groups=[group], columns=list(columns), use_threads=False):
        while left and left[-1] < start + len(batch):
            place = left.pop()
            yield place, batch.slice(place - start, 1).to_pylist()[0]
        if not left:
            return
        start += len(batch)


def _chunks(group: Any, columns: Sequence[str]) -> Iterator[Any]:
    chunks = (group.column(number) for number in range(group.num_columns))
    return (chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


def _bytes_of(group: Any, columns: Sequence[str]) -> int:
    return sum(chunk.total_uncompressed_size for chunk in _chunks(group, columns))


def _filled(group: Any, column: str) -> bool | None:
    """Whether all rows of a row group hold something in a column (True), none (False), or nobody knows (None)."""
    empty, counts = True, []
    for chunk in _chunks(group, [column]):
        statistics = chunk.statistics
        if statistics is None or not statistics.has_null_count:
            return None
        counts.append(statistics.null_count)
        empty = empty and statistics.num_values == 0
    if not counts:
        return None
    if min(counts) == 0:
        return True  # of an image's bytes and path, one is always there
    return False if empty else None


@contextmanager
def _opened(path: Path | Remote) -> Iterator[Any]:
    """An open Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        StoreError: It cannot be read, also while it is open.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet files", "data") from error
    try:
        with ExitStack() as opened:
            source = path if isinstance(path, Path) else opened.enter_context(_fetched(path))
            yield opened.enter_context(parquet.ParquetFile(source, buffer_size=_BUFFER))
    except (OSError, ArrowException) as error:
        text = " ".join(str(error).split())[:300]
        raise StoreError(f"{path} cannot be read as a Parquet file ({text}); download it again") from error


@contextmanager
def _fetched(file: Remote) -> Iterator[Any]:
    """What is read of a file elsewhere, its errors as those of a local one."""
    import fsspec
    import httpx

    try:
        with fsspec.open(file.url, "rb") as stream:
            yield stream
    except httpx.HTTPError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class SavedRows:
    """Rows of what ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote, mapped into memory."""

    def __init__(self, path: Path, split: str) -> None:
        """Open it.

        Args:
            path: The folder.
            split: Of a dictionary of splits.

        Raises:
            ConfigError: There is no such split.
            MissingExtraError: `datasets` is not installed.
            StoreError: It is damaged.
        """
        self._table = _plain(_loaded(path, split))
        self._light = self._table.with_format("arrow")
        self._name, self.folder = path.name, path
        self.columns: Sequence[str] = self._table.column_names
        self.fingerprint = digest([self._table._fingerprint, len(self._table)])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._table)

    def row(self, index: int) -> Mapping[str, Any]:
        """A row; see `thyme.data.sources.tables.Table`."""
        check_index(index, len(self))
        row: dict[str, Any] = self._table[index]
        return row

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row without its images, and their number; their bytes stay on the disk."""
        check_index(index, len(self))
        row = self._light[index]
        names = [name for name in self.columns if name != images]
        found = _entries(row.column(images)[0]) if images in self.columns else 0
        plain: list[dict[str, Any]] = row.select(names).to_pylist()
        return plain[0], found

    def label(self, index: int) -> str:
        """Folder and row from 0."""
        return f"{self._name}, row {index}"


def _entries(cell: Any) -> int:
    """Values in a cell of Arrow, however deep in lists; none of them is copied."""
    if not cell.is_valid:
        return 0
    return sum(map(_entries, cell.values)) if _is_list(cell) else 1


def _is_list(cell: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(cell.type) or types.is_large_list(cell.type) or types.is_fixed_size_list(cell.type))


def _loaded(path: Path, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("reading saved data sets", "data") from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise StoreError(f"{path} cannot be read as a saved data set ({text}); save it again") from error
    if not isinstance(found, datasets.DatasetDict):
        return found
    if split not in found:
        raise ConfigError(f"{path} has no split '{split}'; its splits: {', '.join(map(str, found))}")
    return found[split]


def _plain(table: Any) -> Any:
    """Pictures left as the bytes they are."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            table = table.cast_column(name, datasets.List(datasets.Image(decode=False)))
    return table.with_format(None)
