"""Folders of pictures: each file is a row, what is known of it stands in a JSON file of the same name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thyme.data.sources.lines import check_index, digest
from thyme.data.sources.tables import DamagedRowError
from thyme.errors import ConfigError, StoreError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Of files that are taken as pictures."""
COLUMN = "image"
"""Column of the picture's path."""


class Pictures:
    """The pictures of a folder, at any depth, in order of their paths.

    ``NAME.json`` beside ``NAME.jpg`` may hold an object with the other columns (question, answer, box, ...).
    """

    def __init__(self, folder: Path) -> None:
        """List them; in memory are their paths.

        Raises:
            ConfigError: There are none.
            StoreError: The folder cannot be read.
        """
        self.folder = folder
        try:
            found = sorted(_walk(str(folder)))
        except OSError as error:
            raise StoreError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
        if not found:
            raise ConfigError(
                f"{folder} holds no pictures ({', '.join(sorted(ENDINGS))}), no .parquet, .jsonl, .tsv or .csv file, "
                "and nothing of save_to_disk; name the file or the folder that does"
            )
        self._paths = [path for path, _, _ in found]
        self.fingerprint = digest(part for one in found for part in one)
        self.columns: Sequence[str] = list(self.row(0))

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._paths)

    def row(self, index: int) -> Mapping[str, Any]:
        """A row; see `thyme.data.sources.tables.Table`."""
        check_index(index, len(self))
        path = self._paths[index]
        return {**self._told(path), COLUMN: path}

    def light(self, index: int, images: str) -> tuple[Mapping[str, Any], int | None]:
        """A row, whole."""
        return self.row(index), None

    def label(self, index: int) -> str:
        """Path in the folder."""
        return self._paths[index]

    def _told(self, path: str) -> Mapping[str, Any]:
        beside = (self.folder / path).with_suffix(".json")
        try:
            row = json.loads(beside.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            trouble = f"{beside.name} is not JSON ({error})"
            raise DamagedRowError(
                f"{beside}: not JSON ({error}); put it right or delete it", trouble=trouble
            ) from error
        if not isinstance(row, Mapping):
            trouble = f"{beside.name} holds a {type(row).__name__}, not an object with columns"
            raise DamagedRowError(f"{beside}: {trouble}; put it right", trouble=trouble)
        return row


def _walk(root: str) -> list[tuple[str, int, int]]:
    """Path, size and time of each picture below a folder; hidden files and folders are left out."""
    found, left = [], [root]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in ENDINGS and entry.is_file():
                    stat = entry.stat()
                    path = os.path.relpath(entry.path, root).replace(os.sep, "/")
                    found.append((path, stat.st_size, stat.st_mtime_ns))
    return found
