"""Lines of large files by place, and what files are known by."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

from thyme.errors import StoreError


def digest(parts: Iterable[object]) -> str:
    """Hash of what is printed of some values: 32 hexadecimal digits."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def files_fingerprint(files: Sequence[Path]) -> str:
    """Hash of names, sizes and times of files; not of where they lie."""
    stats = [(file.name, file.stat()) for file in files]
    return digest(part for name, stat in stats for part in (name, stat.st_size, stat.st_mtime_ns))


def check_index(index: int, rows: int) -> None:
    """Raise where there is no such row.

    Raises:
        IndexError: There is none.
    """
    if not 0 <= index < rows:
        raise IndexError(f"there are {rows} rows, none with the index {index}")


class Lines:
    """Lines of files that are not empty, by place; in memory are their offsets, 8 bytes a line."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the files once to find the lines.

        Raises:
            StoreError: A file cannot be read.
        """
        self.files = list(files)
        self.fingerprint = files_fingerprint(self.files)
        self._offsets, self._numbers = array("q"), array("q")
        self._starts: list[int] = []
        for path in self.files:
            self._starts.append(len(self._offsets))
            self._scan(path)

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._offsets)

    def read(self, index: int) -> tuple[Path, int, bytes]:
        """File, number from 1 and bytes of a line.

        Raises:
            StoreError: The file cannot be read any more.
        """
        path = self.files[self._file(index)]
        try:
            with path.open("rb") as file:
                file.seek(self._offsets[index])
                return path, self._numbers[index], file.readline()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read any more ({error.strerror}); start again") from error

    def name(self, index: int) -> str:
        """File and line for messages."""
        return f"{self.files[self._file(index)].name}, line {self._numbers[index]}"

    def _file(self, index: int) -> int:
        check_index(index, len(self))
        return bisect_right(self._starts, index) - 1

    def _scan(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                offset = 0
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        self._offsets.append(offset)
                        self._numbers.append(number)
                    offset += len(line)
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from error
