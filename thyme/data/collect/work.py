"""What is done with one file: measured, and, if it is taken, written with its tiles into a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from thyme.config.annotation import CollectSettings
from thyme.data.collect import reasons
from thyme.data.collect.measures import sharpness, text_share
from thyme.data.collect.records import Collected, Refused
from thyme.data.collect.strip import stripped
from thyme.data.collect.tiles import write_tiles
from thyme.data.collect.told import Told, told_by
from thyme.data.factory import png
from thyme.data.hashes import perceptual_hash
from thyme.errors import ImageError, MissingExtraError
from thyme.images import load_image, open_header
from thyme.types import EXTENSIONS, ImageRecord

PICTURE, TILES = "picture", "tiles"
"""What a folder of one file holds: ``picture.EXT``, and the levels of its tiles."""

Room = Callable[[int], AbstractContextManager[object]]
"""Waits until there is memory for a picture of so many pixels, and keeps it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file to look at."""

    name: str
    """Path in the folder that is collected."""
    path: Path
    staging: Path
    """Folder that is made for what is written; it does not exist."""
    settings: CollectSettings
    told: Told = field(default_factory=Told)
    """What a sidecar says of it."""


def take(job: Job, room: Room = lambda pixels: nullcontext()) -> Collected | Refused:
    """Look at a file, and write it into its folder if it is to be taken.

    Near-duplicates are not seen here: that takes the others, in order.

    Raises:
        OSError: The folder cannot be written.
    """
    settings = job.settings
    try:
        with job.path.open("rb") as file, open_header(file, label=job.name) as picture:
            width, height = picture.size
            told = told_by(picture)
        if max(width, height) <= settings.min_side:
            return Refused(file=job.name, reason=reasons.SMALL, detail=f"{width} x {height}")
        if width * height > settings.max_pixels:
            limit = f"more than {settings.max_pixels:,} (--max-pixels)"
            detail = f"{width} x {height} = {width * height:,} pixels, {limit}"
            return Refused(file=job.name, reason=reasons.LARGE, detail=detail)
        with room(width * height):
            record = load_image(job.path, max_pixels=settings.max_pixels, srgb=True)
            return _taken(job, record, job.told.over(told).over(Told(settings.licence, settings.source)))
    except (ImageError, MissingExtraError) as error:
        detail = str(error).replace(str(job.path), job.name)
        return Refused(file=job.name, reason=reasons.UNREADABLE, detail=detail)
    except OSError as error:
        if error.filename is not None and Path(error.filename) == job.path:
            return Refused(file=job.name, reason=reasons.UNREADABLE, detail=error.strerror or "cannot be read")
        raise


def _taken(job: Job, record: ImageRecord, told: Told) -> Collected | Refused:
    image, settings = record.image, job.settings
    facts = {"sharpness": sharpness(image), "text": text_share(image)}
    if facts["sharpness"] < settings.min_sharpness:
        detail = f"sharpness {facts['sharpness']:.3f}, less than {settings.min_sharpness:g}"
        return Refused(file=job.name, reason=reasons.BLURRED, detail=detail)
    if facts["text"] > settings.max_text:
        detail = f"text covers {100 * facts['text']:.1f} %, more than {100 * settings.max_text:g} %"
        return Refused(file=job.name, reason=reasons.TEXT, detail=detail)
    write_tiles(image, job.staging / TILES)
    format = _write_picture(record, job.staging)
    return Collected(
        id=record.id,
        width=record.width,
        height=record.height,
        format=format,
        original=job.name,
        source=told.source,
        licence=told.licence,
        creator=told.creator,
        phash=f"{perceptual_hash(image):016x}",
        facts=facts,
    )


def _write_picture(record: ImageRecord, folder: Path) -> str:
    """Write it without metadata; gives the format.

    A file whose bytes are kept is decoded once more: what is stored must show these pixels to whoever reads it.
    """
    data = None if record.encoded is None else stripped(record.encoded, record.format)
    format = record.format if data is not None and _shows(data, record) else "PNG"
    if data is None or format != record.format:
        data = png.encode(record)
    (folder / f"{PICTURE}.{EXTENSIONS[format]}").write_bytes(data)
    return format


def _shows(data: bytes, record: ImageRecord) -> bool:
    try:
        return load_image(data, max_pixels=record.width * record.height).id == record.id
    except ImageError:
        return False
