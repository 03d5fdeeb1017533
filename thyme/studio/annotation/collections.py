"""The collections whose images are annotated: their folders, and how their images come into the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from thyme.data.collect.folder import read_collection_file, read_items
from thyme.data.collect.records import Collected
from thyme.errors import StoreError, UsageError
from thyme.studio.database import Database, storable
from thyme.studio.models_annotation import OPEN, CollectionRow, Shot


class Collections:
    """Collections by name, with their folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Name collections.

        Args:
            folders: Each the ``--out`` of a ``thyme rl-data collect``; its last part is the collection's name.

        Raises:
            UsageError: A folder holds no collection, or two have the same name.
            StoreError: A collection is damaged.
        """
        self.folders: dict[str, Path] = {}
        for folder in folders:
            if not is_collection(folder):
                raise UsageError(f"{folder} holds no collection; make one with `thyme rl-data collect`")
            name = folder.absolute().resolve().name
            if name in self.folders:
                raise UsageError(f"two collections are called {name}; rename the folder of one")
            self.folders[name] = folder

    def folder(self, name: str) -> Path:
        """Where a collection lies.

        Raises:
            StoreError: It is in the database, and its folder was not named to this server.
        """
        if name not in self.folders:
            raise StoreError(
                f"the folder of the collection {name!r} is not served; name it to `thyme studio serve`, too"
            )
        return self.folders[name]


def is_collection(folder: Path) -> bool:
    """Whether a folder holds a collection.

    Raises:
        StoreError: It does, and its file is damaged.
    """
    return read_collection_file(folder) is not None


def import_images(database: Database, collections: Collections, name: str) -> int:
    """Take the images of a collection into the database; those that are there stay as they are.

    Returns:
        How many were new.

    Raises:
        StoreError: The collection's files are damaged.
    """
    with database.write() as session:
        known = session.scalars(select(CollectionRow).where(CollectionRow.name == name)).first()
        if known is None:
            known = CollectionRow(name=name, added=time.time())
            session.add(known)
            session.flush()
    return database.insert_missing(Shot, (_row(known.id, item) for item in read_items(collections.folder(name))))


def _row(collection: int, item: Collected) -> dict[str, Any]:
    return {
        "collection_id": collection,
        "image": item.id,
        "width": item.width,
        "height": item.height,
        "format": item.format,
        "source": storable(item.source),
        "licence": storable(item.licence),
        "state": OPEN,
        "reason": "",
        "note": "",
        "until": 0.0,
    }
