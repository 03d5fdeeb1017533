"""The folder of an evaluation, which is all that a report needs, and all that an interrupted run goes on from.

::

    DIR/run.json                                what it was made with (`RunManifest`)
    DIR/items/BENCHMARK/ARM.SHARD.jsonl         what became of each problem (`ItemResult`), in the order of finishing
    DIR/trajectories/BENCHMARK/ARM.SHARD.jsonl  the rollouts, their images beside them in images/
    DIR/judge/                                  verdicts that a judge gave
    DIR/sittings/                               when somebody worked on it
    DIR/results.json, report.html, report.md, submission/   the report

Every file is appended to by one process and a line at a time, so killing that process costs one line at most. Where a
problem has several lines, the last one holds: a problem that failed is asked again when the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from thyme.errors import StoreError, UsageError
from thyme.eval.items import ItemResult
from thyme.eval.manifest import RunManifest
from thyme.store import append_line, load_images, read_line
from thyme.types import Trajectory

logger = logging.getLogger(__name__)

MANIFEST = "run.json"
ITEMS, TRAJECTORIES = "items", "trajectories"
JUDGE, SITTINGS = "judge", "sittings"

_ID = re.compile(rb'^\{"schema_version":\d+,"id":"((?:[^"\\]|\\.)*)"')
_ODD = re.compile(r"[^\w.-]+")

Key = tuple[str, str, str]
"""Benchmark, arm, problem."""


@dataclass(frozen=True)
class Run:
    """A run as it lies in its folder, finished or not."""

    manifest: RunManifest
    items: list[ItemResult]
    """The last one of each benchmark, arm and problem: by the order of the manifest's benchmarks and arms, then by
    place."""
    folder: Path

    @property
    def missing(self) -> dict[tuple[str, str], int]:
        """Problems that have no item yet, by benchmark and arm; empty in a finished run."""
        counts = {(use.name, arm): use.problems for use in self.manifest.benchmarks for arm in self.manifest.arms}
        for item in self.items:
            counts[item.benchmark, item.arm] -= 1
        return {key: count for key, count in counts.items() if count}


def read_run(folder: Path) -> Run:
    """Read a run, finished or not.

    Raises:
        UsageError: The folder holds no run.
        StoreError: Its manifest is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} holds no evaluation ({MANIFEST} is missing); name the --out of a `thyme eval`")
    benchmarks = {use.name: place for place, use in enumerate(manifest.benchmarks)}
    arms = {arm: place for place, arm in enumerate(manifest.arms)}
    found = [item for item in read_items(folder) if item.benchmark in benchmarks and item.arm in arms]
    found.sort(key=lambda item: (benchmarks[item.benchmark], arms[item.arm], item.place, item.problem))
    return Run(manifest, found, folder)


def read_manifest(folder: Path) -> RunManifest | None:
    """What a run was made with; None where there is no run.

    Raises:
        StoreError: It is damaged.
    """
    path = folder / MANIFEST
    try:
        return RunManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path} cannot be read as the manifest of a run ({error}); take another folder") from error


def read_items(folder: Path) -> list[ItemResult]:
    """The last item of each benchmark, arm and problem; lines that were cut off are left out, with a warning.

    Raises:
        StoreError: A file cannot be read.
    """
    newest: dict[Key, ItemResult] = {}
    # Another process may have asked again, later, what an earlier one had failed at: what did not fail holds.
    for item in (item for path in sorted((folder / ITEMS).glob("*/*.jsonl")) for item in _items_of(path)):
        key = key_of(item)
        if key not in newest or newest[key].failed or not item.failed:
            newest[key] = item
    return list(newest.values())


def key_of(item: ItemResult) -> Key:
    """What an item is about."""
    return item.benchmark, item.arm, item.problem


def _items_of(path: Path) -> Iterator[ItemResult]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    if line.strip():
                        yield ItemResult.model_validate_json(line)
                except ValidationError:
                    logger.warning("%s, line %d is no whole item; its problem is asked again", path, number)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def append_item(path: Path, item: ItemResult) -> None:
    """Add one line, in a single write.

    Raises:
        StoreError: The disk took only a part of it.
    """
    append_line(path, item.model_dump_json().encode() + b"\n", "the item")


def items_file(folder: Path, benchmark: str, arm: str, shard: int) -> Path:
    """Where a process writes the items of an arm."""
    return folder / ITEMS / file_name(benchmark) / f"{arm}.{shard}.jsonl"


def trajectories_file(folder: Path, benchmark: str, arm: str, shard: int) -> Path:
    """Where a process writes the trajectories of an arm."""
    return folder / TRAJECTORIES / file_name(benchmark) / f"{arm}.{shard}.jsonl"


def trajectory_files(folder: Path, benchmark: str, arm: str) -> list[Path]:
    """The files of every process."""
    return sorted((folder / TRAJECTORIES / file_name(benchmark)).glob(f"{arm}.*.jsonl"))


def file_name(benchmark: str) -> str:
    """A benchmark's name as that of a folder; different names give different folders."""
    plain = _ODD.sub("_", benchmark).lstrip(".")
    if plain and plain == benchmark:
        return plain
    return f"{plain}-{hashlib.blake2b(benchmark.encode(), digest_size=4).hexdigest()}"


class Place(NamedTuple):
    """Where the line of a record is."""

    path: Path
    line: int
    """From 1."""
    offset: int
    """Bytes."""
    length: int
    """Bytes."""


@dataclass
class Trajectories:
    """Where stored trajectories lie, by id; records and pixels are read when wanted."""

    places: dict[str, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[Path]) -> Trajectories:
        """Look through files; lines that were cut off are left out.

        Raises:
            StoreError: A file cannot be read.
        """
        found = cls()
        for path in files:
            offset = 0
            try:
                with path.open("rb") as file:
                    for number, line in enumerate(file, start=1):
                        match = _ID.match(line[:1000])
                        if match and line.endswith(b"}\n"):
                            id = json.loads(b'"' + match[1] + b'"')
                            found.places[id] = Place(path, number, offset, len(line))
                        offset += len(line)
            except OSError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        return found

    def read(self, id: str, *, images: bool = True) -> Trajectory | None:
        """A trajectory; None where there is none of that id, or none that is whole.

        Args:
            id: Of the record.
            images: Whether to load the pixels.
        """
        place = self.places.get(id)
        if place is None:
            return None
        try:
            with place.path.open("rb") as file:
                file.seek(place.offset)
                trajectory = read_line(place.path, place.line, file.read(place.length))
            return load_images(place.path, trajectory) if images else trajectory
        except (OSError, StoreError) as error:
            logger.warning("trajectory %s cannot be read (%s); it is made again", id, error)
            return None

    def all(self, *, images: bool = False) -> Iterator[Trajectory]:
        """Every one of them, one at a time."""
        return (found for id in self.places if (found := self.read(id, images=images)) is not None)


def find_trajectories(folder: Path, benchmark: str, arms: Sequence[str]) -> Trajectories:
    """Where a run's trajectories of some arms of a benchmark lie.

    An item that took its answer from another arm names that arm's trajectory; so look among all arms for it.

    Raises:
        StoreError: A file cannot be read.
    """
    return Trajectories.of(path for arm in arms for path in trajectory_files(folder, benchmark, arm))
