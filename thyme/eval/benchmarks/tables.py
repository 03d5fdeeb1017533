"""Rows of files other than TSV: Parquet, Arrow, JSON lines, JSON, and folders of them as Hugging Face writes them.

Every reader yields where a row stands, for messages, and the row, a few at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from thyme.errors import MissingExtraError, StoreError, UsageError

_Split = TypeVar("_Split")

Rows = Iterator[tuple[str, dict[str, Any]]]
"""Where a row stands (``line 3``, ``row 3``), and the row."""

BATCH = 8
"""Rows that are taken out of a Parquet file at once; one may hold a hundred megabytes of image."""
_CHUNK = 1 << 20
"""Characters of a JSON file that are read at once."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
SPLITS = ("test", "testmini", "validation", "val", "train")
"""Which split is meant where a folder holds several and none is named, in this order."""


def read_json_lines(path: Path) -> Rows:
    """One JSON object a line.

    Raises:
        StoreError: A line is none; file and line are named.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"line {number}", _object(line, f"{path}, line {number}")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise StoreError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise StoreError(f"{where}: a {type(row).__name__}, not an object with columns")
    return row


def read_json(path: Path) -> Rows:
    """A JSON array of objects, read piece by piece.

    Raises:
        StoreError: It is none; the entry is named.
    """
    decoder, number = json.JSONDecoder(), 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            left = file.read(_CHUNK).lstrip()
            if not left.startswith("["):
                raise StoreError(f"{path} holds no array of rows; give a JSON array, or JSON lines as .jsonl")
            left = left[1:]
            while True:
                left = left.lstrip(" \t\r\n,")
                if left.startswith("]"):
                    return
                try:
                    row, end = decoder.raw_decode(left)
                except ValueError as error:
                    if not (more := file.read(max(_CHUNK, len(left)))):
                        raise StoreError(f"{path}, entry {number + 1}: not JSON, or cut off ({error})") from error
                    left += more
                    continue
                number, left = number + 1, left[end:]
                if not isinstance(row, dict):
                    raise StoreError(f"{path}, entry {number}: a {type(row).__name__}, not an object with columns")
                yield f"entry {number}", row
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error


def read_parquet(path: Path) -> Rows:
    """Rows of a Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        StoreError: It is no Parquet file, or it is damaged.
    """
    pyarrow = _pyarrow()
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise StoreError(f"{path}, after row {number}: not readable as Parquet ({error})") from error


def read_arrow(path: Path) -> Rows:
    """Rows of an Arrow stream, as ``save_to_disk`` of Hugging Face's datasets writes them.

    Raises:
        MissingExtraError: pyarrow is not installed.
        StoreError: It is no Arrow stream, or it is damaged.
    """
    pyarrow = _pyarrow()
    number = 0
    try:
        with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
            for batch in reader:
                for start in range(0, batch.num_rows, BATCH):
                    for row in batch.slice(start, BATCH).to_pylist():
                        number += 1
                        yield f"row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise StoreError(f"{path}, after row {number}: not readable as Arrow ({error})") from error


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet and Arrow files", "eval") from error
    return pyarrow


READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
"""By ending; ``.tsv`` has a reader of its own (`thyme.eval.benchmarks.tsv`)."""


def parts_of(path: Path) -> list[Path]:
    """Files that hold the rows, in order: the file itself, or those of a folder's split.

    A folder is what ``save_to_disk`` makes (``state.json`` names the Arrow files; of a dictionary of splits, one folder
    a split), or holds Parquet or JSON-lines files, in shards or not, also below ``data``.

    Raises:
        UsageError: The folder holds nothing of that kind, or several splits of which none is the usual one.
        StoreError: Its ``state.json`` cannot be read, or names a file that is missing.
    """
    if not path.is_dir():
        return [path]
    if (path / "state.json").is_file():
        return _saved(path)
    if (path / "dataset_dict.json").is_file():
        return _saved(_chosen(path, {folder.name: folder for folder in path.iterdir() if folder.is_dir()}))
    for ending in (".parquet", ".jsonl"):
        if found := sorted(path.rglob(f"*{ending}")):
            splits: dict[str, list[Path]] = {}
            for file in found:
                splits.setdefault(_SHARD.sub("", file.stem), []).append(file)
            return _chosen(path, splits)
    raise UsageError(f"{path} holds no Parquet files, no JSON lines and nothing of save_to_disk; name the file itself")


def _chosen(path: Path, splits: Mapping[str, _Split]) -> _Split:
    """The only split, or the first of `SPLITS`."""
    if len(splits) == 1:
        return next(iter(splits.values()))
    for name in SPLITS:
        if name in splits:
            return splits[name]
    raise UsageError(f"{path} holds {', '.join(sorted(splits)) or 'no split'}; name one of them by its path")


def _saved(folder: Path) -> list[Path]:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'state.json'} cannot be read ({error}); save the data set again") from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise StoreError(f"{folder} lacks {', '.join(missing)}, which its state.json names; copy the whole folder")
    return files
