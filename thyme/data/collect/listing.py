"""Files of a folder that may be pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thyme.data.sources.pictures import ENDINGS
from thyme.errors import StoreError, UsageError

TAKEN: Final = ENDINGS | {
    ".jpe", ".jfif", ".mpo", ".dib", ".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx",
    ".ppm", ".pgm", ".pnm", ".tga", ".pcx", ".sgi", ".qoi", ".ico", ".icns",
}  # fmt: skip
"""Endings of files that are looked at."""
_LONGEST: Final = 20
"""Characters of an ending that is counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file."""

    name: str
    """Path in the folder, with ``/`` between, as text that can be stored whatever its bytes are."""
    path: Path
    outside: bool = False
    """Whether it is a link that leads out of the folder, and is not followed."""
    trouble: str = ""
    """Why it cannot be looked at; of a folder, whose name ends with ``/``, or of a link."""


def listing(folder: Path, others: Counter[str] | None = None) -> list[Found]:
    """Files that may be pictures, at any depth, in order of their names; hidden ones and linked folders are left out.

    Folders that cannot be read are among them, with what is the trouble.

    Args:
        folder: To look through.
        others: Counts the endings of the files that are passed over.

    Raises:
        UsageError: There is no such folder.
        StoreError: It cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name the one that holds the pictures")
    try:
        root = os.path.realpath(folder)
        os.scandir(folder).close()
        found = list(_walk(folder, root, Counter() if others is None else others))
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error
    return sorted(found, key=lambda one: one.name)


def _walk(folder: Path, root: str, others: Counter[str]) -> Iterator[Found]:
    left = [str(folder)]
    while left:
        here = left.pop()
        try:
            with os.scandir(here) as opened:
                entries = list(opened)
        except OSError as error:
            yield Found(_named(here, folder) + "/", Path(here), trouble=_trouble(error))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif entry.is_file():
                    yield from _file(entry, folder, root, others)
            except OSError as error:
                yield Found(_named(entry.path, folder), Path(entry.path), trouble=_trouble(error))


def _file(entry: os.DirEntry[str], folder: Path, root: str, others: Counter[str]) -> Iterator[Found]:
    ending = os.path.splitext(entry.name)[1].lower()
    if ending not in TAKEN:
        others[_name(ending)[:_LONGEST]] += 1
        return
    outside = entry.is_symlink() and not os.path.realpath(entry.path).startswith(root + os.sep)
    yield Found(_named(entry.path, folder), Path(entry.path), outside)


def _trouble(error: OSError) -> str:
    return f"cannot be read ({error.strerror})"


def _named(path: str, folder: Path) -> str:
    return _name(os.path.relpath(path, folder))


def _name(path: str) -> str:
    """A path as text: bytes that are no UTF-8 escaped, and what looks like such an escape, too."""
    written = path.replace("\\x", "\\x5cx").encode("utf-8", "surrogateescape")
    return written.decode("utf-8", "backslashreplace").replace(os.sep, "/")
