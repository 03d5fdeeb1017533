"""Rows of this package's own problems: what `thyme rl-data` and `thyme nano problems` write.

A row of JSON lines is a problem as it is stored; a row of Parquet in the published layout of Thyme-RL has the rest of
the problem in ``record``. Both keep the category and, in ``meta``, the box, so that faithful use can be measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thyme.eval.benchmarks import cells
from thyme.eval.benchmarks.base import Row
from thyme.eval.benchmarks.cells import RowError
from thyme.types import ImageRecord, Problem


def is_own(row: Row) -> bool:
    """Whether a row is one of this package's problems."""
    return isinstance(row.get("meta"), Mapping) or ("record" in row and "solution" in row)


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """The problem of such a row.

    Raises:
        RowError: It is none.
    """
    kept = _record(row["record"]) if "record" in row else dict(row)
    meta = kept.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise RowError("'meta' is no object with facts")
    choices = kept.get("choices") or ()
    if not isinstance(choices, list | tuple) or len(choices) > 26:
        raise RowError("'choices' is no list of options, or one longer than the alphabet")
    return Problem(
        id=cells.text(kept, "id"),
        question=cells.text(kept, "question"),
        images=images,
        answer=cells.optional(kept, "answer"),
        choices=tuple(map(str, choices)),
        kind=cells.optional(kept, "kind") or "",
        meta=dict(meta),
    )


def _record(value: Any) -> dict[str, Any]:
    try:
        read = json.loads(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(f"'record' is not JSON ({error})") from error
    if not isinstance(read, dict):
        raise RowError("'record' is no object with the fields of a problem")
    return read
