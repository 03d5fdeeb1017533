"""Images for a page: inlined as data URLs, reduced only where they are very large, enlarged where they are tiny."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from thyme.images import to_rgb
from thyme.types import ImageRecord
from thyme.view import words

MAX_SIDE = 1600
"""Longest side that is inlined as it is, pixels; larger images are reduced for display, and the caption says so."""
MIN_SIDE = 160
"""Images whose longer side is shorter than this are enlarged on the page, by a whole factor, pixels."""
AS_SEEN_SIDE = 240
"""The same for images shown as small as the model sees them, which are there to be looked at closely."""
_INLINE = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_BROWSER_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a page shows it."""

    source: str
    """Data URL; empty where the pixels are not at hand."""
    width: int
    """Width and height at which it is laid out, CSS pixels."""
    height: int
    caption: str
    alt: str
    enlarged: bool = False


def picture(record: ImageRecord, alt: str, *notes: str, min_side: int = MIN_SIDE) -> Picture:
    """Make the picture of a record.

    Args:
        record: The image; without its pixels only the caption is shown.
        alt: What the image is, for those who do not see it.
        notes: Further facts for the caption.
        min_side: Images whose longer side is shorter are enlarged, pixels.
    """
    caption = [words.size(record) + " px", *notes]
    if record.name:
        caption.insert(0, record.name)
    if not record.loaded:
        return Picture("", record.width, record.height, " · ".join([*caption, "pixels not loaded"]), alt)
    longer = max(record.size)
    if longer > MAX_SIDE:
        shown = record.image.copy() if record.image.mode == "RGB" else to_rgb(record.image)
        shown.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        caption.append(f"reduced to {shown.width} × {shown.height} on this page")
        source = _url(_encode(shown, "WEBP", quality=90), "image/webp")
        return Picture(source, shown.width, shown.height, " · ".join(caption), alt)
    factor = max(1, round(min_side / longer)) if longer < min_side else 1
    if factor > 1:
        caption.append(f"enlarged {factor} times on this page")
    return Picture(_source(record), record.width * factor, record.height * factor, " · ".join(caption), alt, factor > 1)


def as_seen(record: ImageRecord, seen: tuple[int, int], alt: str) -> Picture | None:
    """The image as small as the model first sees it, so that a reader knows what it could know without code.

    Returns:
        None where the model sees it at more than half of its pixels, or the pixels are not at hand.
    """
    if not record.loaded or 2 * seen[0] * seen[1] > record.width * record.height:
        return None
    small = to_rgb(record.image).resize(seen, Image.Resampling.BICUBIC)
    return picture(ImageRecord.of(small), alt, "as the model first sees it", min_side=AS_SEEN_SIDE)


def _source(record: ImageRecord) -> str:
    """The original bytes where a browser reads them, else the pixels as PNG."""
    if record.encoded is not None and record.format in _INLINE:
        return _url(record.encoded, _INLINE[record.format])
    image = record.image if record.image.mode in _BROWSER_MODES else to_rgb(record.image)
    return _url(_encode(image, "PNG"), "image/png")


def _encode(image: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
