"""Verdicts of people on the records of a build: ``OUT/reviews.parquet``, written by the studio, read by the export.

One row a record: ``id``, ``verdict`` (``accept`` or ``reject``), ``reason``, ``reviewers``, and ``record``: the draft
as JSON where a reviewer changed it (its pictures lie under ``OUT/images`` like all others), else null.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from thyme.data.drafts import Draft
from thyme.data.factory.shard import require_pyarrow
from thyme.errors import StoreError
from thyme.store import unwritten
from thyme.types import Record

REVIEWS: Final = "reviews.parquet"
"""In the folder of a build."""
_BATCH = 64
_TASK = "reading and writing reviews"


class Review(Record):
    """The verdict of people on one record."""

    id: str
    """Of the record."""
    verdict: Literal["accept", "reject"]
    reason: str = ""
    """Why it was rejected."""
    reviewers: tuple[str, ...] = ()
    """Names of those who looked at it."""
    record: Draft | None = None
    """The record as it was changed, without pixels; None: as it was made."""


def write_reviews(out: Path, reviews: Iterable[Review]) -> int:
    """Put the verdicts in place of any that were there, whole.

    Args:
        out: Folder of the build.
        reviews: One a record; consumed as it is written.

    Returns:
        How many were written.

    Raises:
        MissingExtraError: pyarrow is not installed.
        StoreError: They cannot be written.
    """
    pa = require_pyarrow(_TASK)
    names = pa.list_(pa.string())
    columns = [("id", pa.string()), ("verdict", pa.string()), ("reason", pa.string()), ("reviewers", names)]
    schema = pa.schema([*columns, ("record", pa.large_string())])
    path, count = out / REVIEWS, 0
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with pa.parquet.ParquetWriter(temporary, schema, compression="zstd") as file:
            rows = iter(reviews)
            while some := [_row(review) for review in islice(rows, _BATCH)]:
                file.write_table(pa.Table.from_pylist(some, schema=schema))
                count += len(some)
        temporary.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def read_reviews(out: Path) -> Iterator[Review]:
    """The verdicts, one at a time.

    Raises:
        MissingExtraError: pyarrow is not installed.
        StoreError: There are none, or they are damaged.
    """
    pa = require_pyarrow(_TASK)
    path = out / REVIEWS
    if not path.is_file():
        raise StoreError(f"{path} is missing: nobody has reviewed these records; do so with `thyme studio`, and export")
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    record = row.pop("record", None)
                    yield Review(**row, record=None if record is None else Draft.model_validate_json(record))
    except (OSError, pa.ArrowException, ValidationError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); export the verdicts of the studio again") from error


def _row(review: Review) -> dict[str, Any]:
    record = None if review.record is None else review.record.model_dump_json()
    return {**review.model_dump(exclude={"record"}), "record": record}
