"""Look at every row once by the steps of `thyme.data.filter.steps`; a chunk of rows is a file, put in place whole.

::

    OUT/scan/KEY/CHUNK.jsonl    what is known of the rows of a chunk, one `Seen` a line

KEY is a hash of whatever decides about them: sources, steps, benchmarks. Other settings have another folder, and those
that come later (duplicates, difficulty, balance, format) need no row looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

import thyme
from thyme.data.filter.crew import in_processes
from thyme.data.filter.progress import OnProgress
from thyme.data.filter.records import Seen
from thyme.data.filter.sources import Rows
from thyme.data.filter.steps import STEPS, Rules, look_at
from thyme.data.sources.lines import digest
from thyme.errors import StoreError
from thyme.store import write_text

FOLDER: Final = "scan"
_LINES: Final = 2
"""Version of the lines: another one does not read them."""


@dataclass(frozen=True)
class Chunk:
    """Rows that are looked at together."""

    number: int
    source: str
    start: int
    stop: int


@dataclass(frozen=True)
class Scan:
    """Looks at chunks; is sent to the processes that do."""

    folder: Path
    rows: Mapping[str, Rows]
    rules: Rules

    def __call__(self, chunk: Chunk) -> int:
        """Write a chunk's file, and say how many of its rows are still in.

        Raises:
            StoreError: A source cannot be read, or the file cannot be written.
        """
        kept, lines = 0, []
        for index, row in self.rows[chunk.source].each(range(chunk.start, chunk.stop)):
            seen = look_at(row, source=chunk.source, index=index, rules=self.rules)
            kept += seen.kept
            lines.append(seen.model_dump_json(exclude_defaults=True) + "\n")
        write_text(self.file(chunk), "".join(lines))
        return kept

    def file(self, chunk: Chunk) -> Path:
        """Where a chunk's rows stand."""
        return self.folder / f"{chunk.number:06d}.jsonl"

    def chunks(self) -> list[Chunk]:
        """All, in order."""
        size = self.rules.recipe.chunk
        found: list[Chunk] = []
        for name, rows in self.rows.items():
            for start in range(0, len(rows), size):
                found.append(Chunk(len(found), name, start, min(start + size, len(rows))))
        return found

    def run(self, processes: int, on_progress: OnProgress) -> None:
        """Look at the rows of every chunk that has no file yet.

        Args:
            processes: At once.
            on_progress: Hears of rows that were looked at, and how many of them are still in.
        """
        left = []
        for chunk in self.chunks():
            if self.file(chunk).exists():
                on_progress(chunk.stop - chunk.start, 0)
            else:
                left.append(chunk)
        for chunk, kept in in_processes(self, left, min(processes, max(1, len(left)))):
            on_progress(chunk.stop - chunk.start, kept)

    def read(self) -> Iterator[Seen]:
        """All rows, in the order of sources and rows; few are in memory.

        Raises:
            StoreError: A file is missing or damaged.
        """
        for chunk in self.chunks():
            yield from read_seen(self.file(chunk))


def open_scan(out: Path, rows: Mapping[str, Rows], rules: Rules) -> Scan:
    """The scan of these rows by these rules, in its folder."""
    recipe = rules.recipe
    told = [recipe.model_dump_json(include={*STEPS, "max_pixels", "chunk"}), rules.benchmarks.fingerprint]
    key = digest([thyme.__version__, _LINES, rules.hashes, *told, *(one.fingerprint for one in rows.values())])
    return Scan(out / FOLDER / key[:16], rows, rules)


def read_seen(path: Path) -> Iterator[Seen]:
    """Rows of a file.

    Raises:
        StoreError: It is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                yield Seen.model_validate_json(line)
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete it, and the same command makes it again") from error
