"""Images for a page: inlined as data URLs, or named by an address beneath which a server shows them.

Either way they are reduced for display only where they are very large, and enlarged only where they are tiny, and the
caption says so.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from thyme.images import to_rgb
from thyme.types import ImageRecord
from thyme.view import words

MAX_SIDE = 1600
"""Longest side that is shown as it is, pixels; larger images are reduced for display, and the caption says so."""
MIN_SIDE = 160
"""Images whose longer side is shorter than this are enlarged on the page, by a whole factor, pixels."""
AS_SEEN_SIDE = 240
"""The same for images shown as small as the model sees them, which are there to be looked at closely."""
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
"""Formats that every browser reads."""
_BROWSER_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a page shows it."""

    source: str
    """Data URL or address; empty where the pixels are not at hand."""
    width: int
    """Width and height at which it is laid out, CSS pixels."""
    height: int
    caption: str
    alt: str
    enlarged: bool = False
    full: str = ""
    """Address of the image at all its pixels; empty on a page that stands alone."""
    pixels: tuple[int, int] = (0, 0)
    """Width and height of the image at that address, pixels."""


@dataclass(frozen=True, slots=True)
class File:
    """An image as a browser reads it."""

    data: bytes
    type: str
    """MIME type."""


class Pictures(Protocol):
    """How the images of a trajectory come onto a page."""

    def picture(self, record: ImageRecord, alt: str, *notes: str) -> Picture:
        """Make the picture of a record.

        Args:
            record: The image.
            alt: What the image is, for those who do not see it.
            notes: Further facts for the caption.
        """
        ...

    def as_seen(self, record: ImageRecord, seen: tuple[int, int], alt: str) -> Picture | None:
        """The image as small as the model first sees it, so that a reader knows what it could know without code.

        Returns:
            None where the model sees it at more than half of its pixels, or the pixels are not at hand.
        """
        ...


@dataclass(frozen=True, slots=True)
class Inlined:
    """Images inside the page; those without their pixels get a caption alone."""

    max_side: int = MAX_SIDE
    """Longest side of what is shown, pixels."""

    def picture(self, record: ImageRecord, alt: str, *notes: str) -> Picture:
        """Make the picture of a record; see `Pictures`."""
        return picture(record, alt, *notes, max_side=self.max_side)

    def as_seen(self, record: ImageRecord, seen: tuple[int, int], alt: str) -> Picture | None:
        """The image as the model first sees it; see `Pictures`."""
        return as_seen(record, seen, alt)


@dataclass(frozen=True, slots=True)
class Linked:
    """Images that a server shows below an address; their pixels are not needed to write the page.

    ``BASE/ID`` is the image, ``BASE/ID?side=N`` reduced to a longest side of N pixels, ``BASE/ID?seen=WxH`` resized as
    the model sees it.
    """

    base: str

    def picture(self, record: ImageRecord, alt: str, *notes: str) -> Picture:
        """Make the picture of a record; see `Pictures`."""
        full = f"{self.base}/{record.id}"
        longer = max(record.size)
        if longer <= MAX_SIDE:
            return _laid_out(record.size, full, _caption(record, *notes), alt, full=full)
        size = _reduced_size(record.size, MAX_SIDE)
        caption = " · ".join(_caption(record, *notes))
        return Picture(f"{full}?side={MAX_SIDE}", *size, caption, alt, full=full, pixels=record.size)

    def as_seen(self, record: ImageRecord, seen: tuple[int, int], alt: str) -> Picture | None:
        """The image as the model first sees it; see `Pictures`."""
        if not _is_much_less(record, seen):
            return None
        source = f"{self.base}/{record.id}?seen={seen[0]}x{seen[1]}"
        caption = [f"{seen[0]} × {seen[1]} px", "as the model first sees it"]
        return _laid_out(seen, source, caption, alt, min_side=AS_SEEN_SIDE, full=source)


def picture(record: ImageRecord, alt: str, *notes: str, min_side: int = MIN_SIDE, max_side: int = MAX_SIDE) -> Picture:
    """Make the picture of a record, inlined.

    Args:
        record: The image; without its pixels only the caption is shown.
        alt: What the image is, for those who do not see it.
        notes: Further facts for the caption.
        min_side: Images whose longer side is shorter are enlarged, pixels.
        max_side: Images whose longer side is longer are reduced, pixels.
    """
    caption = _caption(record, *notes)
    if not record.loaded:
        return Picture("", record.width, record.height, " · ".join([*caption, "pixels not loaded"]), alt)
    if max(record.size) > max_side:
        width, height = _reduced_size(record.size, max_side)
        caption.append(f"reduced to {width} × {height} on this page")
        return Picture(_url(reduced(record, max_side)), width, height, " · ".join(caption), alt)
    return _laid_out(record.size, _url(original(record)), caption, alt, min_side=min_side)


def as_seen(record: ImageRecord, seen: tuple[int, int], alt: str) -> Picture | None:
    """The image as small as the model first sees it, inlined; None as for `Pictures.as_seen`."""
    if not record.loaded or not _is_much_less(record, seen):
        return None
    return picture(ImageRecord.of(_resized(record, seen)), alt, "as the model first sees it", min_side=AS_SEEN_SIDE)


def original(record: ImageRecord) -> File:
    """All pixels: the original bytes where a browser reads them, else as PNG. The pixels must be at hand."""
    if record.encoded is not None and record.format in _TYPES:
        return File(record.encoded, _TYPES[record.format])
    image = record.image if record.image.mode in _BROWSER_MODES else to_rgb(record.image)
    return _encoded(image, "PNG")


def reduced(record: ImageRecord, side: int) -> File:
    """Reduced for display to a longest side, pixels; the original where it is no longer than that."""
    if max(record.size) <= side:
        return original(record)
    shown = record.image.copy() if record.image.mode == "RGB" else to_rgb(record.image)
    return _encoded(shown.resize(_reduced_size(record.size, side), Image.Resampling.LANCZOS), "WEBP", quality=90)


def resized(record: ImageRecord, size: tuple[int, int]) -> File:
    """At another size, width and height in pixels, as a model sees it."""
    return _encoded(_resized(record, size), "PNG")


def _caption(record: ImageRecord, *notes: str) -> list[str]:
    return [part for part in (record.name, f"{words.size(record)} px", *notes) if part]


def _laid_out(
    size: tuple[int, int], source: str, caption: list[str], alt: str, *, min_side: int = MIN_SIDE, full: str = ""
) -> Picture:
    """A picture of this size, enlarged where it is tiny."""
    longer = max(size)
    factor = max(1, round(min_side / longer)) if longer < min_side else 1
    if factor > 1:
        caption = [*caption, f"enlarged {factor} times on this page"]
    return Picture(source, size[0] * factor, size[1] * factor, " · ".join(caption), alt, factor > 1, full, size)


def _is_much_less(record: ImageRecord, seen: tuple[int, int]) -> bool:
    return 2 * seen[0] * seen[1] <= record.width * record.height


def _reduced_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    longer = max(size)
    return max(1, round(size[0] * side / longer)), max(1, round(size[1] * side / longer))


def _resized(record: ImageRecord, size: tuple[int, int]) -> Image.Image:
    return to_rgb(record.image).resize(size, Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, format: str, **options: int) -> File:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return File(buffer.getvalue(), _TYPES[format])


def _url(file: File) -> str:
    return f"data:{file.type};base64,{base64.b64encode(file.data).decode()}"
