"""Pictures of collected images for browsers: reduced, as the model first sees them, or in tiles for deep zoom.

Reduced pictures are put together from the tiles of the collection, so that no picture of a hundred megapixels is
decoded for somebody who looks at it; only where tiles are missing is it, one at a time.
"""

from __future__ import annotations

import io
import threading
from functools import lru_cache
from pathlib import Path

from PIL import Image

from thyme.config.annotation import AnnotationSettings
from thyme.data.collect.folder import read_picture, tile_box, tile_file, top_level
from thyme.data.collect.records import TILE, Collected
from thyme.errors import StoreError
from thyme.studio.annotation.collections import Collections
from thyme.studio.annotation.views import first_view
from thyme.studio.database import Database
from thyme.studio.models_annotation import CollectionRow, Shot
from thyme.studio.refusal import Refusal, missing
from thyme.view.pictures import File

MOST_SIDE = 4096
"""Longest side of a reduced picture, pixels."""
_FOUND = 4096
_TYPES = {".jpg": "image/jpeg", ".webp": "image/webp"}


class Images:
    """Reads pictures of collected images. Any thread may use it."""

    def __init__(self, database: Database, collections: Collections, settings: AnnotationSettings) -> None:
        """Of the images in a database."""
        self._database, self._collections, self._settings = database, collections, settings
        self._find = lru_cache(_FOUND)(self._found)
        self._load = lru_cache(1)(self._loaded)
        self._loading = threading.Lock()

    def reduced(self, shot: int, side: int) -> File:
        """A picture whose longer side has at most so many pixels.

        Raises:
            Refusal: There is no such image, or its file is gone (404).
        """
        folder, item = self._find(shot)
        longest = max(item.width, item.height)
        side = max(1, min(side, MOST_SIDE, longest))
        size = (max(1, round(item.width * side / longest)), max(1, round(item.height * side / longest)))
        return _encoded(self._at(folder, item, size), "WEBP")

    def first_view(self, shot: int) -> File:
        """A picture as the model first sees it, without loss beyond that of the tiles.

        Raises:
            Refusal: There is no such image, or its file is gone (404).
        """
        folder, item = self._find(shot)
        return _encoded(self._at(folder, item, first_view((item.width, item.height), self._settings)), "PNG")

    def tile(self, shot: int, level: int, x: int, y: int) -> File:
        """A tile.

        Raises:
            Refusal: There is no such image or tile, or its file is gone (404).
        """
        folder, item = self._find(shot)
        if tile_box((item.width, item.height), level, x, y) is None:
            raise missing("tile")
        path = tile_file(folder, item, level, x, y)
        if path is not None:
            return File(path.read_bytes(), _TYPES[path.suffix])
        return _encoded(self._cut(folder, item, level, x, y), "WEBP")

    def _at(self, folder: Path, item: Collected, size: tuple[int, int]) -> Image.Image:
        """The picture at a size, from the smallest level that has as many pixels."""
        full = (item.width, item.height)
        top = top_level(full)
        level = next(level for level in range(top + 1) if -(-max(full) // 2 ** (top - level)) >= max(size))
        width, height = (-(-side // 2 ** (top - level)) for side in full)
        whole = Image.new("RGB", (width, height))
        for y in range(-(-height // TILE)):
            for x in range(-(-width // TILE)):
                whole.paste(self._tile_image(folder, item, level, x, y), (x * TILE, y * TILE))
        return whole if whole.size == size else whole.resize(size, Image.Resampling.BICUBIC)

    def _tile_image(self, folder: Path, item: Collected, level: int, x: int, y: int) -> Image.Image:
        path = tile_file(folder, item, level, x, y)
        if path is None:
            return self._cut(folder, item, level, x, y)
        try:
            with Image.open(path, formats=("JPEG", "WEBP")) as picture:
                return picture.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise Refusal(404, "picture", f"a tile of image {item.id} is damaged; collect it anew") from error

    def _cut(self, folder: Path, item: Collected, level: int, x: int, y: int) -> Image.Image:
        """A tile of a picture that has none."""
        size = (item.width, item.height)
        box = tile_box(size, level, x, y)
        assert box is not None
        scale = 2 ** (top_level(size) - level)
        left, top, right, bottom = (side * scale for side in box)
        with self._loading:
            part = self._load(folder, item.id, item.width, item.height, item.format).crop(
                (left, top, min(right, size[0]), min(bottom, size[1]))
            )
        if scale == 1:
            return part
        return part.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BOX, reducing_gap=2.0)

    def _found(self, shot_id: int) -> tuple[Path, Collected]:
        with self._database.read() as session:
            shot = session.get(Shot, shot_id)
            if shot is None:
                raise missing("image")
            name = session.get_one(CollectionRow, shot.collection_id).name
        item = Collected(id=shot.image, width=shot.width, height=shot.height, format=shot.format, original="")
        return self._collections.folder(name), item

    def _loaded(self, folder: Path, id: str, width: int, height: int, format: str) -> Image.Image:
        item = Collected(id=id, width=width, height=height, format=format, original="")
        try:
            return read_picture(folder, item).image
        except StoreError as error:
            raise Refusal(404, "picture", str(error)) from error


def _encoded(picture: Image.Image, format: str) -> File:
    buffer = io.BytesIO()
    options = {"quality": 90, "method": 2} if format == "WEBP" else {"compress_level": 3}
    picture.save(buffer, format, **options)
    return File(buffer.getvalue(), f"image/{format.lower()}")
