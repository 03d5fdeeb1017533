"""Which picture of a collection a file of somebody else means, and where a box of it lies."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from thyme.data.annotation.left_out import BAD_BOX, NO_PICTURE, OTHER_SIZE, ExchangeError
from thyme.data.annotation.records import Box
from thyme.data.collect.records import Collected
from thyme.data.sources.columns import clipped
from thyme.errors import EncodeError
from thyme.types import ImageRecord

_PROPORTION: Final = 0.01
"""Relative difference of width to height up to which a picture is the same one at another size."""
_UPLOADED: Final = re.compile(r"[0-9a-f]{8}(-|__)(?=.)")
"""What Label Studio puts before the names of files that are uploaded to it, and its converter before those it loads."""


class Pictures:
    """The pictures of a collection by what files call them."""

    def __init__(self, items: Iterable[Collected]) -> None:
        """Index them.

        Args:
            items: All of the collection; in memory are names, some hundred bytes each.
        """
        self._ids: dict[str, Collected] = {}
        self._paths: dict[str, Collected] = {}
        self._names: dict[str, Collected | None] = {}
        for item in items:
            self._ids[item.id] = self._paths[item.original] = item
            name = PurePosixPath(item.original).name
            self._names[name] = None if name in self._names else item

    def find(self, *names: Any) -> Collected:
        """The picture that is meant.

        Args:
            names: Ids, paths, URLs, or names of files, the surest first; what is no text is passed over.

        Raises:
            ExchangeError: None is, or a name is that of several.
        """
        for name in names:
            if isinstance(name, str) and name and (found := self._one(name)) is not None:
                return found
        told = next((name for name in names if isinstance(name, str) and name), "")
        raise ExchangeError(f"no one picture of the collection is {told!r:.120}", reason=NO_PICTURE)

    def _one(self, name: str) -> Collected | None:
        path = path_of(name)
        last = PurePosixPath(path).name
        for candidate in (name, path, path.lstrip("/")):  # a whole path is meant, whatever else has its name
            if found := self._ids.get(candidate) or self._paths.get(candidate):
                return found
        for candidate in (last, _UPLOADED.sub("", last, count=1)):
            found = self._ids.get(candidate) or self._ids.get(PurePosixPath(candidate).stem)
            if found := found or self._names.get(candidate):
                return found
        return None


def path_of(url: str) -> str:
    """Path of a file that a URL names, also of Label Studio's ``/data/local-files/?d=PATH``."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half of an IPv6 address, for example
        return url
    asked = parse_qs(parts.query).get("d")
    return unquote(asked[0] if asked else parts.path)


def record_of(item: Collected) -> ImageRecord:
    """The picture as annotations name it."""
    return ImageRecord(id=item.id, width=item.width, height=item.height, mode="RGB", format=item.format)


def scaled(box: Sequence[float], seen: tuple[Any, Any], picture: Collected) -> Box:
    """A box that was drawn on a picture of another size.

    Args:
        box: Left, top, right, bottom in pixels of what was seen.
        seen: Width and height of that; anything but two positive numbers: as the picture.
        picture: Of the collection.

    Returns:
        The box in pixels of the picture.

    Raises:
        ExchangeError: The proportions are others, or the box lies elsewhere.
    """
    size = (picture.width, picture.height)
    width, height = seen if all(is_number(side) and side > 0 for side in seen) else size
    if abs(width * picture.height / (height * picture.width) - 1) > _PROPORTION:
        told = f"{width} x {height}, the picture {size[0]} x {size[1]}"
        raise ExchangeError(f"it was made on {told}", reason=OTHER_SIZE)
    if not all(map(is_number, box)):
        raise ExchangeError("its box is no four numbers", reason=BAD_BOX)
    x, y = picture.width / width, picture.height / height
    left, top, right, bottom = box
    return inside((left * x, top * y, right * x, bottom * y), picture)


def inside(box: tuple[float, float, float, float], picture: Collected) -> Box:
    """The part of a box that lies in the picture, whole pixels.

    Raises:
        ExchangeError: None does.
    """
    try:
        return clipped(box, (picture.width, picture.height), "its picture")
    except (EncodeError, OverflowError) as error:
        raise ExchangeError(str(error), reason=BAD_BOX) from error


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
