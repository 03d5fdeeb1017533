"""What is known of an image of a collection."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from thyme.types import Record

COLLECTION: Final = "collection.json"
"""File that makes a folder a collection: its version and the settings it was made with."""
TILE: Final = 512
"""Width and height of a tile, pixels."""


class Collected(Record):
    """An image of a collection."""

    id: str
    """`thyme.types.image_id` of its upright RGB pixels; its files are called by it."""
    width: int
    """Pixels, upright."""
    height: int
    """Pixels, upright."""
    format: str
    """Encoding of the stored file, as Pillow names it."""
    original: str
    """Path in the folder that was collected; shown to leads only, never a part of a question or of a file's name."""
    source: str = ""
    """Where it comes from: a name or a URL."""
    licence: str = ""
    """Under what it may be used: an SPDX name or words."""
    creator: str = ""
    """Who made it, as licences ask to be said; from a sidecar or the file's own fields, never from anything else."""
    phash: str = ""
    """Perceptual hash, hexadecimal."""
    facts: dict[str, float] = Field(default_factory=dict)
    """What was measured of it: ``sharpness``, ``text`` (share covered by text), ..."""


class Refused(Record):
    """A file that was looked at and not taken."""

    file: str
    """Path in the folder that was collected."""
    reason: str
    """One of `thyme.data.collect.reasons.REASONS`."""
    detail: str = ""
    """What was measured or went wrong, in words."""
