"""What a source of samples gives: rows by place, or rows in order where they cannot be had by place."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from thyme.config.training import DataSource
from thyme.data.sources.lines import digest
from thyme.errors import ConfigError
from thyme.train.encode import Dialogue
from thyme.types import Trajectory

Item: TypeAlias = Trajectory | Dialogue
"""What a row becomes, and `thyme.train.encode.encode_item` encodes."""


class Rows(Protocol):
    """Rows by place. May be sent to other processes.

    Rows on disk offer more, by these names: ``peek(index)``, the item with the sizes of its images but without their
    pixels; ``name(index)``, file and row for messages; ``fingerprint``, a hash of what the files are.
    """

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, index: int) -> Item:
        """A row, images with their pixels.

        Raises:
            EncodeError: The row cannot be used; its `reason` is counted.
            StoreError: The file is damaged or has changed.
        """
        ...

    def __iter__(self) -> Iterator[Item]:
        """All rows in order."""
        ...


Reader: TypeAlias = Callable[[DataSource], Rows]
"""Opens a source."""

Draw: TypeAlias = Callable[[], Item]
"""Makes the item of a row that was reached; raises as `Rows.__getitem__`."""


class Parts(Protocol):
    """Rows in order, in as many parts as there are readers: each row is in exactly one. May be sent to processes."""

    @property
    def rows(self) -> int | None:
        """Rows of all parts; None where nobody knows."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of what is read."""
        ...

    def part(self, index: int, count: int) -> Iterator[Draw]:
        """The rows of one part; reaching a row costs reading it, its images are decoded when it is drawn."""
        ...


class RandomParts:
    """Rows by place, in parts that follow each other: reaching a row costs nothing."""

    def __init__(self, rows: Rows, limit: int | None = None) -> None:
        """Take the first `limit` rows, or all."""
        self._rows = rows
        self.rows = min(len(rows), limit or len(rows))
        self.fingerprint = digest([print_of(rows), self.rows])

    def part(self, index: int, count: int) -> Iterator[Draw]:
        """The rows of one part."""
        return (_At(self._rows, row) for row in block(self.rows, index, count))


class _At:
    """A row that is read when it is drawn."""

    __slots__ = ("_index", "_rows")

    def __init__(self, rows: Rows, index: int) -> None:
        self._rows, self._index = rows, index

    def __call__(self) -> Item:
        return self._rows[self._index]


def block(rows: int, index: int, count: int) -> range:
    """Rows of one of `count` parts that follow each other and differ by at most one in size."""
    return range(rows * index // count, rows * (index + 1) // count)


def peek(rows: Rows, index: int) -> Item:
    """A row, without pixels where that is cheaper."""
    cheap: Callable[[int], Item] | None = getattr(rows, "peek", None)
    return rows[index] if cheap is None else cheap(index)


def name_of(rows: Rows, index: int) -> str:
    """File and row for messages."""
    naming: Callable[[int], str] | None = getattr(rows, "name", None)
    return f"row {index}" if naming is None else naming(index)


def print_of(rows: Rows) -> str:
    """Hash of what rows are: their own, else of their number and of the first, the middle and the last one."""
    own: str | None = getattr(rows, "fingerprint", None)
    if own is not None:
        return own
    places = sorted({0, len(rows) // 2, len(rows) - 1}) if len(rows) else []
    return digest([len(rows), *(_text(rows[place]) for place in places)])


def _text(item: Item) -> str:
    if isinstance(item, Trajectory):
        return item.model_dump_json()
    return repr((item.turns, item.system, [image.id for image in item.images]))


def find_files(source: DataSource, endings: Sequence[str]) -> list[Path]:
    """Files of a source in the order of their names: a file, those of a folder (at any depth), or those of a glob.

    Args:
        source: Where a ``subset`` is named, only files with it in their path below ``path`` are taken.
        endings: Of the files that count, e.g. ``.parquet``.

    Returns:
        The files; empty where ``path`` is neither file nor folder nor a glob that finds something.
    """
    path = Path(source.path).expanduser()
    if not source.path:
        found = []
    elif path.is_dir():
        found = [(str(f.relative_to(path)), f) for f in path.rglob("*") if f.suffix in endings]
    elif path.is_file():
        found = [(path.name, path)]
    else:
        found = [(Path(f).name, Path(f)) for f in glob.glob(str(path), recursive=True)]
    visible = (f for f in found if not any(part.startswith(".") for part in Path(f[0]).parts))
    return sorted(file for name, file in visible if source.subset in name and file.is_file())


def need_files(source: DataSource, endings: Sequence[str]) -> list[Path]:
    """`find_files`, of which there must be one.

    Raises:
        ConfigError: There is none.
    """
    if not source.path:
        raise ConfigError(f"a source of the format '{source.format}' needs a path")
    files = find_files(source, endings)
    if not files:
        subset = f" with '{source.subset}' in its name" if source.subset else ""
        raise ConfigError(f"'{source.path}': no such file, nor a folder with a {' or '.join(endings)} file{subset}")
    return files
