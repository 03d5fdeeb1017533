"""Annotations as JSON lines, with everything that is known of them; and JSON files of others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from thyme.data.annotation.exchange import annotation_of
from thyme.data.annotation.left_out import NO_RECORD, ExchangeError, Found, Taken
from thyme.data.annotation.pictures import Pictures
from thyme.data.annotation.records import Annotation
from thyme.errors import StoreError


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        StoreError: There is none, or it is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is no JSON file ({error}); export it again") from error


def write_lines(path: Path, annotations: Iterable[Annotation]) -> None:
    """Write annotations as JSON lines, with everything that is known of them."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(annotation.model_dump_json() + "\n" for annotation in annotations)


def read_lines(path: Path, pictures: Pictures) -> Taken:
    """Annotations of JSON lines, as `write_lines` writes them, or with as many of their fields as there are.

    Raises:
        StoreError: The file cannot be read, or a line is not JSON.
    """
    return Taken.of(_lines(path, pictures))


def _lines(path: Path, pictures: Pictures) -> Iterator[Found]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _line(f"line {number}", _parsed(path, number, line), pictures)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check the path") from error


def _parsed(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}, line {number}: not JSON ({error}); put it right or delete it") from error


def _line(where: str, row: Any, pictures: Pictures) -> Found:
    try:
        if not isinstance(row, Mapping):
            raise ExchangeError(f"a {type(row).__name__}, not an object", reason=NO_RECORD)
        named = row.get("image")
        known = (named.get("id"), named.get("name")) if isinstance(named, Mapping) else (named,)
        picture = pictures.find(*known)
        return where, *annotation_of(row, row, picture, where, stamped=False)
    except ExchangeError as error:
        return where, error, False
