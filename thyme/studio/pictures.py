"""Pictures of records for browsers: whole, reduced, or in tiles for deep zoom."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image
from sqlalchemy import select

from thyme.data.collect.folder import tile_box, top_level
from thyme.data.drafts import Draft
from thyme.data.factory.folder import image_file
from thyme.errors import StoreError
from thyme.images import to_rgb
from thyme.store import read_image
from thyme.studio.builds import Builds
from thyme.studio.database import Database
from thyme.studio.models import Item, Revision
from thyme.studio.records import build_name, images_of
from thyme.studio.refusal import Refusal, missing
from thyme.types import ImageRecord
from thyme.view.pictures import MAX_SIDE, File, original, reduced

_DECODED = 4
"""Pictures that are kept decoded, as somebody who zooms asks for many tiles of one."""
_FOUND = 4096


class Pictures:
    """Reads pictures of records. Any thread may use it."""

    def __init__(self, database: Database, builds: Builds) -> None:
        """Of the records in a database."""
        self._database, self._builds = database, builds
        self._find = lru_cache(_FOUND)(self._found)
        self._load = lru_cache(_DECODED)(self._loaded)

    def whole(self, item: int, image: str, side: int | None) -> File:
        """A picture, reduced to a longest side in pixels where one is given.

        Raises:
            Refusal: The record has no such picture (404).
            StoreError: It is missing or damaged.
        """
        build, record = self._find(item, image)
        loaded = self._loaded(build, record) if side is None else self._load(build, record)
        return original(loaded) if side is None else reduced(loaded, max(1, min(side, MAX_SIDE)))

    def tile(self, item: int, image: str, level: int, x: int, y: int) -> File:
        """A tile, of the picture at ``2 ** (level - top)`` of its size, ``top = ceil(log2(longer side))``.

        Raises:
            Refusal: There is no such tile (404).
            StoreError: The picture is missing or damaged.
        """
        build, record = self._find(item, image)
        box = tile_box(record.size, level, x, y)
        if box is None:
            raise missing("tile")
        picture = self._load(build, record).image
        scale = 2 ** (top_level(record.size) - level)
        left, top, right, bottom = (side * scale for side in box)
        part = to_rgb(picture.crop((left, top, min(right, record.width), min(bottom, record.height))))
        if scale > 1:
            part = part.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BOX, reducing_gap=2.0)
        buffer = io.BytesIO()
        part.save(buffer, "WEBP", quality=95, method=2)
        return File(buffer.getvalue(), "image/webp")

    def _found(self, item_id: int, image: str) -> tuple[str, ImageRecord]:
        with self._database.read() as session:
            item = session.get(Item, item_id)
            if item is None:
                raise missing("record")
            build = build_name(session, item)
            known = images_of(self._builds.draft(build, item.record))
            if image in known:
                return build, known[image]
            for draft in session.scalars(select(Revision.draft).where(Revision.item_id == item_id)):
                known = images_of(Draft.model_validate_json(draft))
                if image in known:
                    return build, known[image]
            raise missing("picture")

    def _loaded(self, build: str, record: ImageRecord) -> ImageRecord:
        try:
            return read_image(image_file(self._builds.folder(build), record), record)
        except StoreError as error:
            raise Refusal(404, "picture", str(error)) from error
