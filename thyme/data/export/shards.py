"""Parquet files of a published layout: rows in groups of some megabytes, so that whoever writes and reads needs few."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

SHARD_BYTES: Final = 1 << 29
"""Of a Parquet file, before its columns are compressed."""
GROUP_BYTES: Final = 1 << 25
"""Of a row group; whoever wants one row by place reads one."""
_AT_ONCE: Final = 8
"""Rows after which the writer looks whether a page is full; the 1024 of its default are a whole group of pictures."""


class RowShards:
    """Parquet files ``data/train-NNNNN-of-NNNNN.parquet`` that `datasets` reads with their features."""

    def __init__(self, folder: Path, features: Any) -> None:
        """Begin.

        Args:
            folder: Empty.
            features: A `datasets.Features` of the rows.
        """
        self._folder = folder / "data"
        self._schema = features.arrow_schema
        self._rows: list[dict[str, Any]] = []
        self._file: Any = None
        self._shards = self._group_bytes = self._shard_bytes = 0
        self._folder.mkdir(parents=True)

    def add(self, row: dict[str, Any], size: int) -> None:
        """Write a row.

        Args:
            row: By column.
            size: What it takes, bytes, about.

        Raises:
            OSError: The disk is full.
        """
        self._rows.append(row)
        self._group_bytes += size
        if self._group_bytes >= GROUP_BYTES:
            self._flush()
        if self._shard_bytes >= SHARD_BYTES:
            self._end_shard()

    def close(self) -> None:
        """Finish the last file, and name them all by their number."""
        if self._rows or not self._shards:
            self._flush()
        self._end_shard()
        for number in range(self._shards):
            name = f"train-{number:05d}-of-{self._shards:05d}.parquet"
            self._part(number).rename(self._folder / name)

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if self._file is None:
            self._file = parquet.ParquetWriter(self._part(self._shards), self._schema, write_batch_size=_AT_ONCE)
            self._shards += 1
        table = pyarrow.Table.from_pylist(self._rows, schema=self._schema)
        self._shard_bytes += self._group_bytes
        self._rows, self._group_bytes = [], 0
        try:
            self._file.write_table(table)
        except OSError:  # the file is cut off: nothing more goes into it, and `close` passes it by
            broken, self._file = self._file, None
            with suppress(OSError, pyarrow.ArrowException):
                broken.close()
            raise

    def _end_shard(self) -> None:
        if self._file is not None:
            ended, self._file, self._shard_bytes = self._file, None, 0
            ended.close()

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:05d}.part"
