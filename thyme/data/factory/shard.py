"""Finished chunks as Parquet: one row a record, its JSON beside the columns that people filter by."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from thyme.data.factory.journal import Outcome
from thyme.errors import MissingExtraError, StoreError
from thyme.store import unwritten

COLUMNS = ("index", "id", "scenario", "source", "teacher", "question", "answer", "kind", "rounds", "images", "record")
"""Of an accepted record. ``rounds`` counts the code blocks, ``images`` the ids of its pictures."""
REJECTED_COLUMNS = (*COLUMNS[:-1], "stage", "reason", "note", "record")
"""Of a rejection."""

_READ = ["index", "images", "record"]
_READ_ROWS = 64
"""Rows that are in memory at once."""


def require_pyarrow(task: str = "building data") -> Any:
    """The library of Parquet files.

    Args:
        task: What needs it, for the error.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(task, "data") from error
    return pyarrow


def _schema(kept: bool) -> Any:
    pa = require_pyarrow()
    kinds = {"index": pa.int64(), "rounds": pa.int32(), "images": pa.list_(pa.string()), "record": pa.large_string()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (COLUMNS if kept else REJECTED_COLUMNS)])


def write_shard(path: Path, outcomes: Iterable[Outcome], *, kept: bool) -> None:
    """Write a file whole, in place of any that was there. The same rows give the same bytes.

    Args:
        path: The Parquet file.
        outcomes: In order.
        kept: Whether these are accepted records.

    Raises:
        StoreError: It cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    pa = require_pyarrow()
    rows = [_row(outcome) for outcome in outcomes]
    table = pa.Table.from_pylist(rows, schema=_schema(kept))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            pa.parquet.write_table(table, file, compression="zstd", row_group_size=_READ_ROWS)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _row(outcome: Outcome) -> dict[str, Any]:
    record = from_json(outcome.json)
    draft = record if outcome.kept else record["draft"]
    problem = draft["problem"]
    row = {
        "index": outcome.index,
        "id": draft["id"],
        "scenario": draft["scenario"],
        "source": draft["source"],
        "teacher": draft["teacher"],
        "question": problem["question"],
        "answer": problem["answer"],
        "kind": problem["kind"],
        "rounds": sum(segment["kind"] == "observation" for segment in draft["segments"]),
        "images": list(outcome.images),
        "record": outcome.json.decode(),
    }
    return row if outcome.kept else {**row, **{name: record[name] for name in ("stage", "reason", "note")}}


def read_shard(path: Path, *, kept: bool) -> Iterator[Outcome]:
    """Records of a file, in order, few at a time.

    Raises:
        StoreError: It is missing or damaged.
        MissingExtraError: pyarrow is not installed.
    """
    pa = require_pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS, columns=_READ):
                for row in batch.to_pylist():
                    yield Outcome(row["index"], kept, tuple(row["images"]), row["record"].encode())
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({error}); restore it, or delete both shards of its chunk") from error


def count_rows(path: Path) -> int:
    """How many records a file holds; only its end is read.

    Raises:
        StoreError: It is missing or damaged.
        MissingExtraError: pyarrow is not installed.
    """
    pa = require_pyarrow()
    try:
        return int(pa.parquet.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({error}); restore it, or delete both shards of its chunk") from error
