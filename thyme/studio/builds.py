"""The builds whose records are reviewed: their folders, their records, and how these come into the database."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from thyme.config.data import DataRecipe
from thyme.data.drafts import Draft
from thyme.data.factory.folder import find_record, read_outcomes, require_build
from thyme.data.factory.manifest import read_manifest
from thyme.errors import StoreError, UsageError
from thyme.studio.database import Database, storable
from thyme.studio.models import OPEN, Build, Item

_MOST_QUESTION = 10_000
"""Characters of a question that are searched; the page shows all."""
_REMEMBERED = 64
"""Records that are kept parsed."""


class Builds:
    """Builds by name, with their folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Name builds.

        Args:
            folders: Each the ``--out`` of a ``thyme data build``; its last part is the build's name.

        Raises:
            UsageError: A folder holds no build, or two have the same name.
        """
        self.folders: dict[str, Path] = {}
        for folder in folders:
            require_build(folder)
            name = folder.absolute().resolve().name
            if name in self.folders:
                raise UsageError(f"two builds are called {name}; rename the folder of one")
            self.folders[name] = folder
        self._draft = lru_cache(_REMEMBERED)(self._read)

    def folder(self, build: str) -> Path:
        """Where a build lies.

        Raises:
            StoreError: It is in the database, and its folder was not named to this server.
        """
        if build not in self.folders:
            raise StoreError(f"the folder of the build {build!r} is not served; name it to `thyme studio serve`, too")
        return self.folders[build]

    def recipe(self, build: str) -> DataRecipe:
        """What a build was made by.

        Raises:
            StoreError: Its folder is not served, or its manifest is damaged.
        """
        manifest = read_manifest(self.folder(build))
        if manifest is None:
            raise StoreError(f"{self.folder(build)} holds no build any more; restore it")
        return manifest.recipe

    def draft(self, build: str, record: str) -> Draft:
        """A record as it was made, without pixels.

        Raises:
            StoreError: It is not there.
        """
        return self._draft(build, record)

    def _read(self, build: str, record: str) -> Draft:
        found = find_record(self.folder(build), record, images=False)
        if not isinstance(found, Draft):
            raise StoreError(f"{self.folder(build)} does not hold the record {record} any more; restore it")
        return found


def import_records(database: Database, builds: Builds, name: str, *, double: float = 0.0) -> int:
    """Take the accepted records of a build into the database; those that are there stay as they are.

    A build may still be under way: call it again for what was added.

    Args:
        database: Where to.
        builds: Knows the build.
        name: Of the build.
        double: Share of the records that two people are to review.

    Returns:
        How many were new.

    Raises:
        StoreError: The build's files are damaged.
    """
    with database.write() as session:
        build = session.scalars(select(Build).where(Build.name == name)).first()
        if build is None:
            build = Build(name=name, added=time.time())
            session.add(build)
            session.flush()
    return database.insert_missing(Item, _rows(builds.folder(name), build.id, double))


def _rows(out: Path, build: int, double: float) -> Iterator[dict[str, Any]]:
    for outcome in read_outcomes(out):
        draft = json.loads(outcome.json)
        problem = draft["problem"]
        yield {
            "build_id": build,
            "record": draft["id"],
            "scenario": _short(draft["scenario"], 100),
            "source": _short(draft["source"], 200),
            "teacher": _short(draft["teacher"], 300),
            "kind": _short(problem["kind"], 200),
            "rounds": sum(segment["kind"] == "observation" for segment in draft["segments"]),
            "question": _short(problem["question"], _MOST_QUESTION),
            "wanted": 2 if _drawn(draft["id"]) < double else 1,
            "state": OPEN,
        }


def _short(text: str, most: int) -> str:
    """What is filtered by, no longer than its column."""
    return storable(text)[:most]


def _drawn(record: str) -> float:
    """A number from 0 to 1 that belongs to a record."""
    return int.from_bytes(hashlib.blake2b(record.encode(), digest_size=8).digest()) / 2**64
