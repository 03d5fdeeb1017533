"""The folder of a collection: where everything lies, and how it is read.

::

    OUT/collection.json           version, name of the folder that was collected, settings
    OUT/items.jsonl               one `Collected` a line, in the order in which they were taken
    OUT/rejected.jsonl            one `Refused` a line
    OUT/images/xx/ID.EXT          pictures: upright RGB in sRGB, without any metadata
    OUT/tiles/xx/ID/LEVEL/X_Y.jpg what browsers zoom in, as in Deep Zoom images without overlap
    OUT/report.html               what was taken, what was not, and why

A line that was cut off by a kill at the end of a file counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import ValidationError

from thyme.config.annotation import CollectSettings
from thyme.data.collect.records import COLLECTION, TILE, Collected, Refused
from thyme.data.folders import is_image_id, picture_path
from thyme.errors import ImageError, StoreError, UsageError
from thyme.images import load_image
from thyme.types import ImageRecord, Record

ITEMS: Final = "items.jsonl"
REJECTED: Final = "rejected.jsonl"
TILES: Final = "tiles"
REPORT: Final = "report.html"
VERSION: Final = 1
TILE_ENDINGS: Final = (".jpg", ".webp")
"""Of tiles."""
_DAMAGE: Final = "restore the line from a copy, or delete it"

RecordT = TypeVar("RecordT", bound=Record)


class CollectionFile(Record):
    """What ``collection.json`` says."""

    version: Literal[1] = 1
    folder: str
    """Name of the folder that was collected, without the way to it."""
    settings: CollectSettings
    sidecar: str = ""
    """Hash of the facts that were given beside the pictures; empty where there were none."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection that was opened; whether it is finished, it does not know."""

    folder: Path
    name: str
    """Of its folder."""
    settings: CollectSettings
    items: dict[str, Collected]
    """By id, in the order in which they were taken."""


def open_collection(folder: Path) -> Collection:
    """Read what a collection holds, without its pictures.

    Raises:
        UsageError: There is no collection in the folder.
        StoreError: A file is damaged.
    """
    about = read_collection_file(folder)
    if about is None:
        raise UsageError(f"{folder} is no collection: it has no {COLLECTION}; make one with thyme rl-data collect")
    items = {item.id: item for item in read_items(folder)}
    return Collection(folder, folder.resolve().name, about.settings, items)


def read_collection_file(folder: Path) -> CollectionFile | None:
    """What ``collection.json`` says; None where there is none.

    Raises:
        StoreError: It is damaged, or of another version.
    """
    path = folder / COLLECTION
    try:
        return CollectionFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{path}: no collection of version {VERSION} ({where}: {first['msg']}); restore it, or collect anew"
        ) from error


def read_items(folder: Path) -> Iterator[Collected]:
    """What was taken, one at a time, in the order in which it was.

    Raises:
        StoreError: A line is damaged.
    """
    return _lines(folder / ITEMS, Collected)


def read_rejected(folder: Path) -> Iterator[Refused]:
    """What was not taken, one at a time.

    Raises:
        StoreError: A line is damaged.
    """
    return _lines(folder / REJECTED, Refused)


def _lines(path: Path, kind: type[RecordT]) -> Iterator[RecordT]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            if not line.strip():
                continue
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                message = error.errors(include_url=False, include_input=False)[0]["msg"]
                raise StoreError(f"{path}, line {number}: damaged ({message}); {_DAMAGE}") from error


def image_file(folder: Path, item: Collected | ImageRecord) -> Path:
    """Where a picture lies.

    Raises:
        StoreError: Its id or format is none of a stored one.
    """
    return folder / picture_path(item.id, item.format)


def read_picture(folder: Path, item: Collected) -> ImageRecord:
    """A picture with its pixels and bytes, checked against its name; larger than `thyme.images.MAX_PIXELS`, too.

    Raises:
        StoreError: It is missing, damaged, or not the one that was stored.
    """
    path = image_file(folder, item)
    try:
        record = load_image(path, name=path.name, max_pixels=item.width * item.height)
    except ImageError as error:
        raise StoreError(f"{path}: a picture of a collection cannot be read ({error}); restore it") from error
    if record.id != item.id:
        raise StoreError(f"{path}: shows other pixels than were stored (its name is their hash); restore it")
    return record


def tiles_folder(folder: Path, id: str) -> Path:
    """Where the tiles of a picture lie.

    Raises:
        StoreError: The id is none of a stored picture.
    """
    if not is_image_id(id):
        raise StoreError(f"image {id!r} has no name of a stored image; restore the record")
    return folder / TILES / id[:2] / id


def tile_file(folder: Path, item: Collected, level: int, x: int, y: int) -> Path | None:
    """File of a tile; None where there is no such tile.

    Args:
        folder: Of the collection.
        item: The picture.
        level: From 0, at which the picture is one pixel, to `top_level`.
        x: Column.
        y: Row.
    """
    if tile_box((item.width, item.height), level, x, y) is None:
        return None
    beside = tiles_folder(folder, item.id) / str(level)
    return next((path for ending in TILE_ENDINGS if (path := beside / f"{x}_{y}{ending}").is_file()), None)


def top_level(size: tuple[int, int]) -> int:
    """Level at which a picture has all its pixels."""
    return math.ceil(math.log2(max(size)))


def tile_box(size: tuple[int, int], level: int, x: int, y: int) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of a tile in pixels of its level; None where there is none.

    Args:
        size: Width and height of the picture, pixels.
        level: From 0, at which it is one pixel, to `top_level`.
        x: Column.
        y: Row.
    """
    if not 0 <= level <= top_level(size) or min(x, y) < 0:
        return None
    scale = 2 ** (top_level(size) - level)
    width, height = (-(-side // scale) for side in size)
    left, top = x * TILE, y * TILE
    return None if left >= width or top >= height else (left, top, min(left + TILE, width), min(top + TILE, height))
