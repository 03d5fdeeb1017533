"""Outcomes of a chunk that is not finished: one line each, appended by single writes, in the order of finishing.

A process that is killed leaves whole lines, and at most one torn one at the end, which counts as none.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json

from thyme.data.drafts import Draft, Rejection
from thyme.errors import StoreError
from thyme.store import unwritten

_RECORD = b', "record": '
"""Stands before the record in a line; nothing before it holds a text that could contain it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item: its record as JSON, which is parsed when wanted."""

    index: int
    """Of the item in the draw."""
    kept: bool
    """Whether it was accepted."""
    images: tuple[str, ...]
    """Ids of the pictures that are stored with it."""
    json: bytes
    """The `Draft`, or the `Rejection`."""

    @classmethod
    def of(cls, index: int, record: Draft | Rejection, images: Iterable[str]) -> Outcome:
        """That of a record whose pictures are stored."""
        return cls(index, isinstance(record, Draft), tuple(images), record.model_dump_json().encode())

    def record(self) -> Draft | Rejection:
        """The record, without its pixels.

        Raises:
            StoreError: It is none of this version.
        """
        kind = Draft if self.kept else Rejection
        try:
            return kind.model_validate_json(self.json)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise StoreError(
                f"item {self.index} is no record of this version ({where}: {first['msg']}); read it with the version "
                "of thyme that wrote it"
            ) from error

    @property
    def line(self) -> bytes:
        """As it stands in a journal."""
        head = json.dumps({"index": self.index, "kept": self.kept, "images": self.images})
        return head[:-1].encode() + _RECORD + self.json + b"}\n"


def outcomes(path: Path) -> dict[int, Outcome]:
    """What a journal holds, by index; empty where there is no journal. A torn line counts as none.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = {outcome.index: outcome for line in file if (outcome := _parsed(line)) is not None}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return found


def _parsed(line: bytes) -> Outcome | None:
    _, between, rest = line.partition(_RECORD)
    try:
        told = from_json(line)
        found = Outcome(told["index"], told["kept"], tuple(told["images"]), rest.rstrip(b"\n")[:-1])
    except (ValueError, LookupError, TypeError):
        return None
    return found if between else None


class Journal:
    """A journal that one process at a time appends to."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over an open file; use `open_journal`."""
        self.path, self._descriptor = path, descriptor

    def add(self, outcome: Outcome) -> None:
        """Append a line, in a single write.

        Raises:
            StoreError: The disk took only a part of it.
        """
        line = outcome.line
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # an earlier write was cut off; its line stays torn, ours does not become so
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise unwritten(self.path, error) from error
        if written != len(line):
            raise StoreError(f"{self.path}: an outcome could not be written whole; is the disk full?")


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open a journal, alone: waits for another process that has it, which may be about to end.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritten(path, error) from error
    try:
        with suppress(OSError):  # some network file systems know no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Journal(path, descriptor)
    finally:
        os.close(descriptor)
