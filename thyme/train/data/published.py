"""The published data as a source: parquet files, a hub id, or JSON lines with paths of images.

By place, rows come from an Arrow copy that `datasets` makes of the files once and maps into memory (about as large as
they are, in its own cache). In order, they come from the files as they are, or from the hub as they arrive.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path, PurePath
from typing import Any, Generic, TypeVar

import httpx

from thyme.config.training import DataSource
from thyme.data.published import COLUMNS, to_trajectory
from thyme.data.sources.lines import Lines, digest, files_fingerprint
from thyme.errors import ConfigError, MissingExtraError, StoreError
from thyme.train.data.rows import Draw, Item, Parts, RandomParts, block, find_files
from thyme.types import Trajectory

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ENDINGS = (".parquet", ".jsonl")
FEW = 256
"""Rows that are read from the files as they are and kept in memory, where a source is limited to so few."""
_BUFFER = 1 << 20
"""Bytes that are read of a column at once."""
_FOOTERS_AT_ONCE = 8
_BATCH = 32
"""Rows of a parquet file that are in memory at once: 4K images in base64 are megabytes a row, and a thousand of them
more than one Arrow column can hold."""


T = TypeVar("T")


@dataclass(frozen=True)
class Layout(Generic[T]):
    """What the rows of a published set look like."""

    columns: tuple[str, ...]
    """Those that are read."""
    images: str
    """The one with the images."""
    convert: Callable[..., T]
    """Makes an item of a row; called as `thyme.data.published.to_trajectory`."""
    optional: tuple[str, ...] = ()
    """Columns that are read where they are there."""


SFT: Layout[Any] = Layout(COLUMNS, "image", to_trajectory)
"""Kwai-Keye/Thyme-SFT."""


class PublishedLines(Generic[T]):
    """Rows of JSON lines; images are paths beside the file, or base64."""

    def __init__(self, files: Sequence[Path], layout: Layout[T]) -> None:
        """Find the lines.

        Raises:
            StoreError: A file cannot be read.
        """
        self._layout, self._lines = layout, Lines(files)
        self.fingerprint = self._lines.fingerprint

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._lines)

    def __getitem__(self, index: int) -> T:
        """A row with pixels; see `thyme.data.published.to_trajectory`.

        Raises:
            EncodeError: The row cannot be used.
            StoreError: The line is no JSON object.
        """
        return self._made(index, pixels=True)

    def __iter__(self) -> Iterator[T]:
        """All rows in order; stops at the first that cannot be used."""
        return (self[index] for index in range(len(self)))

    def peek(self, index: int) -> T:
        """A row without pixels; raises as `__getitem__`."""
        return self._made(index, pixels=False)

    def name(self, index: int) -> str:
        """File and line for messages."""
        return self._lines.name(index)

    def _made(self, index: int, *, pixels: bool) -> T:
        path, number, line = self._lines.read(index)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path}, line {number}: not JSON ({error}); delete the line") from error
        if not isinstance(row, Mapping):
            raise StoreError(
                f"{path}, line {number}: not an object with {', '.join(self._layout.columns)}; delete the line"
            )
        return self._layout.convert(row, name=self.name(index), folder=path.parent, pixels=pixels)


class PublishedTable(Generic[T]):
    """Rows of a table of `datasets`, or a few rows in memory."""

    def __init__(self, table: Any, fingerprint: str, names: Sequence[tuple[str, int]], layout: Layout[T]) -> None:
        """Take a table.

        Args:
            table: A `datasets.Dataset` with the published columns, or a list of rows.
            fingerprint: Hash of what it was read from.
            names: Name and number of rows of each file, in order.
            layout: Of the rows.
        """
        self._table, self.fingerprint, self._layout = table, fingerprint, layout
        self._names = [name for name, _ in names]
        self._starts = [0, *accumulate(rows for _, rows in names)][:-1]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._table)

    def __getitem__(self, index: int) -> T:
        """A row with pixels; raises `EncodeError` where it cannot be used."""
        return self._layout.convert(self._table[index], name=self.name(index))

    def __iter__(self) -> Iterator[T]:
        """All rows in order; stops at the first that cannot be used."""
        return (self[index] for index in range(len(self)))

    def peek(self, index: int) -> T:
        """A row without pixels; raises as `__getitem__`."""
        return self._layout.convert(self._table[index], name=self.name(index), pixels=False)

    def name(self, index: int) -> str:
        """File and row from 0, for messages."""
        return _row_name(self._names, self._starts, index)


class ParquetParts:
    """Rows of parquet files in order, in parts that follow each other; nothing is written, row groups are the units."""

    def __init__(
        self, files: Sequence[str], fingerprint: str, limit: int | None = None, layout: Layout[Any] = SFT
    ) -> None:
        """Read the files' footers.

        Args:
            files: Paths, or URLs that fsspec can open.
            fingerprint: Hash of what the files are.
            limit: Rows to read, the first ones; None is all.
            layout: Of the rows.

        Raises:
            StoreError: One is no parquet file, or has other columns.
        """
        self._files, self._layout = list(files), layout
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            counts = list(pool.map(partial(_rows_of, columns=layout.columns), self._files))
        self.names = [(PurePath(file).name, rows) for file, rows in zip(self._files, counts, strict=True)]
        """Name and number of rows of each file, in order."""
        self.rows = min(sum(counts), limit or sum(counts))
        self.fingerprint = digest([fingerprint, self.rows])

    def part(self, index: int, count: int) -> Iterator[Draw]:
        """The rows of one part."""
        return (
            partial(self._layout.convert, row, name=name) for name, row in self._read(block(self.rows, index, count))
        )

    def all(self) -> list[dict[str, Any]]:
        """All rows, as they are."""
        return [row for _, row in self._read(range(self.rows))]

    def _read(self, wanted: range) -> Iterator[tuple[str, dict[str, Any]]]:
        start = 0
        for file, (name, size) in zip(self._files, self.names, strict=True):
            first, last = max(wanted.start - start, 0), min(wanted.stop - start, size)
            # pyarrow passes over columns that a file does not have
            rows = _parquet_rows(file, first, last, (*self._layout.columns, *self._layout.optional))
            yield from ((f"{name}, row {number}", row) for number, row in rows)
            start += size


def open_published(source: DataSource) -> PublishedLines[Trajectory] | PublishedTable[Trajectory]:
    """Samples of Thyme-SFT by place; see `open_layout`."""
    return open_layout(source, SFT)


def open_layout(source: DataSource, layout: Layout[T]) -> PublishedLines[T] | PublishedTable[T]:
    """Rows by place: of parquet or JSON-lines files (a file, a folder, a glob), or of a hub dataset.

    Where ``limit`` is at most `FEW`, no more than those rows are read, or downloaded, and nothing is converted.

    Args:
        source: Of a local folder, ``subset`` picks the files that have it in their name; of a hub dataset ``subset``
            is a configuration or a split, ``split`` a split.
        layout: Of the rows.

    Raises:
        ConfigError: There is nothing of that name, or files of several kinds.
        StoreError: A file is no such file, or the hub cannot be asked.
    """
    files = _files(source)
    if files and files[0].suffix != ".parquet":
        return PublishedLines(files, layout)
    if source.limit is not None and source.limit <= FEW and (parts := _parquet_parts(source, files, layout)):
        return PublishedTable(parts.all(), parts.fingerprint, parts.names, layout)
    if files:
        names = [(path.name, _rows_of(str(path), layout.columns)) for path in files]
        return PublishedTable(
            _plain(_load(source, files), source.path, layout), files_fingerprint(files), names, layout
        )
    table = _load(source)
    label = f"{source.path} ({table.split})"
    fingerprint = digest([label, source.subset, table._fingerprint])
    return PublishedTable(_plain(table, label, layout), fingerprint, [(label, len(table))], layout)


def stream_published(source: DataSource) -> Parts:
    """Rows in order, for data that does not fit on the disk; the arguments and errors of `open_published`."""
    files = _files(source)
    if files and files[0].suffix != ".parquet":
        rows: PublishedLines[Item] = PublishedLines(files, SFT)
        return RandomParts(rows, source.limit)
    parts = _parquet_parts(source, files, SFT)
    if parts is None:
        raise StoreError(f"'{source.path}' holds other files than parquet ones; set streaming = false to convert them")
    return parts


def _parquet_parts(source: DataSource, files: Sequence[Path], layout: Layout[Any]) -> ParquetParts | None:
    """Local files, or those of the hub; None where the latter are no parquet files."""
    if files:
        return ParquetParts([str(file) for file in files], files_fingerprint(files), source.limit, layout)
    urls = hub_files(source)
    if any(not url.endswith(".parquet") for url in urls):
        return None
    return ParquetParts(urls, digest(urls), source.limit, layout)  # the revision stands in the URLs


def hub_files(source: DataSource) -> list[str]:
    """URLs of the files of a hub dataset's split, in order, with their revision; none is downloaded.

    Raises:
        ConfigError: There is no such subset or split.
        StoreError: The hub cannot be asked, or has no such dataset.
    """
    builder, split = _hub(source)
    return [str(file) for file in builder.config.data_files[split]]


def _hub(source: DataSource) -> tuple[Any, str]:
    """What `datasets` knows of a hub dataset, and the split that is meant: a subset may be the name of a split."""
    split = source.split
    try:
        builder = _asked("load_dataset_builder", source, path=source.path, name=source.subset or None)
    except StoreError as error:
        if not source.subset or not isinstance(error.__cause__, ValueError):
            raise
        builder, split = _asked("load_dataset_builder", source, path=source.path), source.subset
    known = [str(name) for name in builder.config.data_files or {}]
    if split not in known:
        raise ConfigError(f"'{source.path}' has no split '{split}'; its splits: {', '.join(known) or 'none'}")
    return builder, split


def _files(source: DataSource) -> list[Path]:
    """The files of a local source; none where it is a hub id."""
    files = find_files(source, _ENDINGS)
    if len({file.suffix == ".parquet" for file in files}) > 1:
        raise ConfigError(
            f"'{source.path}' holds parquet and JSON files; name one kind, e.g. '{source.path}/*.parquet'"
        )
    exists = Path(source.path).expanduser().exists()
    if not files and (exists or source.path.endswith(_ENDINGS) or not _HUB_ID.fullmatch(source.path)):
        subset = f" with '{source.subset}' in its name" if source.subset else ""
        raise ConfigError(
            f"'{source.path}' is neither a parquet or JSON-lines file, nor a folder or glob with one{subset}, "
            "nor a hub id (OWNER/NAME)"
        )
    return files


def _load(source: DataSource, files: Sequence[Path] = ()) -> Any:
    """A table of files, or of a split of a hub dataset."""
    if files:
        paths = [str(file) for file in files]
        return _asked("load_dataset", source, path="parquet", data_files=paths, split="train", batch_size=_BATCH)
    builder, split = _hub(source)
    return _asked("load_dataset", source, path=source.path, name=builder.config.name, split=split)


def _asked(function: str, source: DataSource, **arguments: Any) -> Any:
    """What a function of `datasets` gives, its errors in our words."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("reading the published data", "train") from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # a dozen lines of retries before the error
    try:
        return getattr(datasets, function)(**arguments)
    except (OSError, ValueError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        nothing = ", and nothing of that name is here" if function == "load_dataset_builder" else ""
        raise StoreError(f"'{source.path}' cannot be read as a dataset: {_one_line(error)}{nothing}") from error


def _plain(table: Any, label: str, layout: Layout[Any]) -> Any:
    """The published columns, pictures left as the bytes they are."""
    from datasets import Image, List

    _check_columns(table.column_names, label, layout.columns)
    feature = table.features[layout.images]
    if isinstance(getattr(feature, "feature", None), Image):
        table = table.cast_column(layout.images, List(Image(decode=False)))
    elif isinstance(feature, Image):
        table = table.cast_column(layout.images, Image(decode=False))
    return table.select_columns([*layout.columns, *(name for name in layout.optional if name in table.column_names)])


def _check_columns(names: Sequence[str], label: object, columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in names]:
        raise StoreError(f"{label} has no column '{missing[0]}'; published rows have {', '.join(columns)}")


def _rows_of(file: str, columns: Sequence[str]) -> int:
    """Rows of a parquet file by its footer, its columns checked."""
    with _parquet(file) as opened:
        _check_columns(opened.schema_arrow.names, file, columns)
        return int(opened.metadata.num_rows)


@contextmanager
def _parquet(file: str) -> Iterator[Any]:
    """An open parquet file.

    Raises:
        StoreError: It cannot be read, also while it is open.
    """
    import fsspec
    from pyarrow import ArrowException, parquet

    try:
        with fsspec.open(file, "rb") as stream, parquet.ParquetFile(stream, buffer_size=_BUFFER) as opened:
            yield opened
    except (OSError, ArrowException, httpx.HTTPError) as error:
        raise StoreError(f"{file} cannot be read as a parquet file ({_one_line(error)}); download it again") from error


def _parquet_rows(file: str, first: int, last: int, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows ``first`` to ``last`` of a file with their numbers; row groups outside of that are not read."""
    if first >= last:
        return
    with _parquet(file) as opened:
        sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
        starts = [0, *accumulate(sizes)]
        groups = [i for i, size in enumerate(sizes) if starts[i] < last and starts[i] + size > first]
        number = starts[groups[0]]
        for batch in opened.iter_batches(_BATCH, row_groups=groups, columns=list(columns), use_threads=False):
            begin, end = max(number, first), min(number + len(batch), last)
            if begin < end:
                yield from zip(range(begin, end), batch.slice(begin - number, end - begin).to_pylist(), strict=True)
            number += len(batch)


def _row_name(names: Sequence[str], starts: Sequence[int], index: int) -> str:
    file = bisect_right(starts, index) - 1
    return f"{names[file]}, row {index - starts[file]}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
