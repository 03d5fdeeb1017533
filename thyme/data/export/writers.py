"""The formats: each writes its files into an empty folder, row after row, and says how it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from thyme.data.drafts import Draft
from thyme.data.export.rows import factory_row, file_of, messages_row, swift_row
from thyme.data.export.shards import RowShards
from thyme.data.folders import put_picture
from thyme.data.published import images_of, to_row
from thyme.errors import MissingExtraError
from thyme.store import append_trajectory
from thyme.types import Trajectory

ROWS: Final = "train.jsonl"


class Writer(Protocol):
    """Writes one format."""

    def add(self, draft: Draft, trajectory: Trajectory) -> None:
        """Write a record.

        Args:
            draft: The record.
            trajectory: Its own, with the pixels and files of its pictures.

        Raises:
            EncodeError: The format cannot hold it.
            OSError: The disk is full.
        """

    def close(self) -> None:
        """Finish the files."""


class ParquetShards:
    """Records as rows of `thyme.data.export.shards.RowShards`."""

    def __init__(self, folder: Path, features: Any, row: Callable[[Draft, Trajectory], dict[str, Any]]) -> None:
        """Begin.

        Args:
            folder: Empty.
            features: A `datasets.Features` of the rows.
            row: Makes a row of a record.
        """
        self._row, self._shards = row, RowShards(folder, features)

    def add(self, draft: Draft, trajectory: Trajectory) -> None:
        """Write a record; see `Writer`."""
        size = sum(len(file_of(image, draft.id)) for image in images_of(trajectory)) + 4096
        self._shards.add(self._row(draft, trajectory), size)

    def close(self) -> None:
        """Finish the files; see `Writer`."""
        self._shards.close()


class LinesAndImages:
    """JSON lines in ``train.jsonl``, pictures once each under ``images/``, named by their content."""

    def __init__(self, folder: Path, row: Callable[[Draft, Trajectory, list[str]], dict[str, Any]]) -> None:
        """Begin in an empty folder."""
        self._folder, self._row = folder, row
        self._file = (folder / ROWS).open("x", encoding="utf-8")

    def add(self, draft: Draft, trajectory: Trajectory) -> None:
        """Write a record; see `Writer`."""
        paths = [
            put_picture(self._folder, image.id, image.format, partial(file_of, image, draft.id))
            for image in images_of(trajectory)
        ]
        self._file.write(json.dumps(self._row(draft, trajectory, paths), ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.flush()
        with suppress(OSError):  # not every file system can
            os.fsync(self._file.fileno())
        self._file.close()


class Trajectories:
    """This package's own records, as `thyme sft`, `thyme view` and `thyme replay` read them; pictures beside."""

    def __init__(self, folder: Path) -> None:
        """Begin in an empty folder."""
        self._path = folder / ROWS

    def add(self, draft: Draft, trajectory: Trajectory) -> None:
        """Write a record; see `Writer`."""
        append_trajectory(self._path, trajectory)

    def close(self) -> None:
        """Finish the file, which is there even if nothing was written."""
        self._path.touch()


def _messages(folder: Path) -> Writer:
    from datasets import Features, Image, List, Value

    text = Value("string")
    features = Features(
        messages=List({"role": text, "content": List({"type": text, "text": text})}),
        images=List(Image()),
        segments=List({"kind": text, "text": text, "learn": Value("bool")}),
        **dict.fromkeys(("id", "scenario", "source", "teacher", "kind", "answer"), text),
        rounds=Value("int32"),
    )
    return ParquetShards(folder, features, messages_row)


def _published(folder: Path) -> Writer:
    from datasets import Features, List, Value

    features = Features(image=List(Value("large_string")), question=Value("string"), response=Value("string"))
    return ParquetShards(folder, features, lambda draft, trajectory: to_row(trajectory))


def _swift(folder: Path) -> Writer:
    return LinesAndImages(folder, swift_row)


def _factory(folder: Path) -> Writer:
    told = {
        "file_name": ROWS,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "observation_tag": "observation",
            "system_tag": "system",
        },
    }
    (folder / "dataset_info.json").write_text(json.dumps({"thyme": told}, indent=2) + "\n", encoding="utf-8")
    return LinesAndImages(folder, factory_row)


_OPENERS: Final[dict[str, Callable[[Path], Writer]]] = {
    "messages": _messages,
    "thyme-sft": _published,
    "trajectories": Trajectories,
    "ms-swift": _swift,
    "llama-factory": _factory,
}
FORMATS: Final = tuple(_OPENERS)
"""Names of the formats."""


def open_writer(format: str, folder: Path) -> Writer:
    """Begin to write.

    Args:
        format: One of `FORMATS`.
        folder: Empty.

    Raises:
        MissingExtraError: Parquet files without the extra ``data``.
    """
    try:
        return _OPENERS[format](folder)
    except ImportError as error:
        raise MissingExtraError(f"writing the format {format}", "data") from error
