"""What stands in a row's cells, whatever layout it came from: text, options, images."""

from __future__ import annotations

import ast
import binascii
import json
import math
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thyme.eval.benchmarks.base import Row

REFERENCE_CHARS = 64
"""Longest text in an image column that names another row rather than holding an image, as VLMEvalKit has it."""

ROW_NUMBER = "row number"
"""Column that every reader adds, from 0; the id of rows that have no other."""
IMAGE_COLUMNS = ("image", "images", "bytes")
_NUMBERED = re.compile(r"image_(\d+)")
_DATA_URL = re.compile(r"\s*data:[^,]{0,200},")


class RowError(ValueError):
    """A row that cannot become a problem; whoever reads the file adds where it stands."""


def optional(row: Row, column: str) -> str | None:
    """Text of a cell; None where there is none, or nothing but spaces. Numbers and truth values become text."""
    value = row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps, as pandas writes it
    text = str(value)
    return text if text.strip() else None


def text(row: Row, *columns: str) -> str:
    """Text of the first of these columns that has any.

    Raises:
        RowError: None has.
    """
    for column in columns:
        if (found := optional(row, column)) is not None:
            return found
    raise RowError(f"column {' or '.join(repr(column) for column in columns)} is missing or empty")


def options(row: Row) -> dict[str, str]:
    """Options of a multiple-choice row by letter: the columns A, B, C, ... that hold something, which may have gaps."""
    found = ((letter, optional(row, letter)) for letter in string.ascii_uppercase if letter in row)
    return {letter: option for letter, option in found if option is not None}


def facts(row: Row, **columns: str) -> dict[str, Any]:
    """Facts for `Problem.meta`.

    Args:
        row: The row.
        columns: Column by name of the fact; what the row does not have is left out.
    """
    found = ((name, optional(row, column)) for name, column in columns.items())
    return {name: value for name, value in found if value is not None}


def listed(value: str) -> list[str]:
    """Entries of a cell that holds a list as Python or JSON writes it; any other text is one entry.

    Raises:
        RowError: It looks like a list and is none.
    """
    plain = value.strip()
    if not (plain.startswith("[") and plain.endswith("]")):
        return [value]
    for read in (json.loads, ast.literal_eval):
        try:
            entries = read(plain)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(entries, list):
            return [str(entry) for entry in entries]
    raise RowError(f"{plain[:40]!r}… looks like a list and cannot be read as one")


def mapping(value: Any) -> Mapping[str, Any]:
    """Facts by name of a cell: a mapping, or one that is written as JSON or Python; empty where it is none."""
    for read in (json.loads, ast.literal_eval) if isinstance(value, str) else ():
        try:
            value = read(value)
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value if isinstance(value, Mapping) else {}


def image_cells(row: Row) -> list[Any]:
    """Entries of a row's image columns, in order, however deep in lists: bytes, or text that `image_bytes` reads.

    Columns are ``image``, ``images``, ``bytes`` and ``image_1``, ``image_2``, ...; a mapping is what the Hugging Face
    libraries make of an image (``bytes`` and ``path``). Where there is a ``decoded_image`` (MathVista, MATH-Vision),
    ``image`` is only its name.
    """
    if decoded := list(_flat([row.get("decoded_image")])):
        return decoded
    numbered = sorted((int(found.group(1)), name) for name in row if (found := _NUMBERED.fullmatch(name)))
    names = [*(name for name in IMAGE_COLUMNS if name in row), *(name for _, name in numbered)]
    return list(_flat(row[name] for name in names))


def path_cells(row: Row) -> list[Any]:
    """Entries of a row's ``image_path``: paths, or bytes where a set keeps its images under that name."""
    return list(_flat([row.get("image_path")]))


def has_image(row: Row) -> bool:
    """Whether a row has an image, or no column for one."""
    named = [name for name in row if name in {*IMAGE_COLUMNS, "image_path"} or _NUMBERED.fullmatch(name)]
    return not named or any(not _is_empty(row[name]) for name in named)


def _is_empty(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or (hasattr(value, "__len__") and not value)
    )


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if _is_empty(value):
            continue
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            yield from _flat(value)
        elif isinstance(value, str) and value.strip():
            yield from (entry for entry in listed(value) if entry.strip())
        elif not isinstance(value, str):
            yield value


def image_bytes(entry: str) -> bytes:
    """The file that base64 text holds; a data URL's head, line breaks and missing padding do not matter.

    Raises:
        RowError: It is no base64.
    """
    prefix = _DATA_URL.match(entry)
    body = entry[prefix.end() :] if prefix else entry
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except (binascii.Error, ValueError):  # seldom, and megabytes: with line breaks, or without its padding
        body = re.sub(r"\s+", "", body).rstrip("=")
    try:
        return binascii.a2b_base64(body + "=" * (-len(body) % 4), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(f"an image is not base64 ({error})") from error
