"""Files of pictures without their metadata, the compressed pixels left as they are.

What is kept is a list, not what is dropped: of JPEG files the segments that decoding needs (ITU-T T.81, annex B), of
PNG files the chunks of pixels, palette and transparency (ISO/IEC 15948, section 11), of WebP files the chunk of pixels
(RFC 9649, section 2.7). Positions, makers' notes, thumbnails, comments, colour profiles, further pictures, and whatever
was appended behind the end are gone. Of other formats the pixels have to be written anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_ADOBE: Final = b"Adobe"
"""Start of segment APP14 that says how colours are stored; without it they would be decoded wrongly."""
_JFIF: Final = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
"""Segment APP0 of version 1.1 with square pixels and no thumbnail: it says that colours are YCbCr."""
_EOI, _SOS, _APP0, _APP14 = 0xD9, 0xDA, 0xE0, 0xEE
_DECODED: Final = frozenset({*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDD}) - {0xC8}
"""Markers of frames, scans, tables and restart intervals. Not DNL, which Pillow's decoder skips whatever it holds."""
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: TEM and restarts."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_WEBP_PIXELS: Final = frozenset({b"VP8 ", b"VP8L"})


def stripped(data: bytes, format: str) -> bytes | None:
    """A file without metadata.

    Args:
        data: The file.
        format: As Pillow names it.

    Returns:
        None where that cannot be had without encoding the pixels anew, or the file is not built as it should be.
    """
    ways = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}
    way = ways.get(format)
    try:
        return None if way is None else b"".join(way(data))
    except (ValueError, IndexError, struct.error):
        return None


def _jpeg(data: bytes) -> Iterator[bytes]:
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG file")
    yield data[:2]
    place, begun = 2, False
    while True:
        marker, place = _marker(data, place)
        if marker == _EOI:
            yield b"\xff\xd9"
            return
        if marker in _ALONE:
            continue
        end = place + struct.unpack_from(">H", data, place)[0]
        if end > len(data) or end < place + 2:
            raise ValueError("a segment that leaves the file")
        body = data[place:end]
        if marker == _APP0 and body[2:7] == b"JFIF\x00" and not begun:
            yield _JFIF
        elif marker in _DECODED:
            yield bytes((0xFF, marker)) + body
        elif marker == _APP14 and body[2:7] == _ADOBE and len(body) >= 14:
            yield b"\xff\xee\x00\x0e" + body[2:14]
        begun, place = True, end
        if marker == _SOS:
            end = _scan_end(data, place)
            yield data[place:end]
            place = end


def _marker(data: bytes, place: int) -> tuple[int, int]:
    """The marker at a place, fill bytes skipped, and where what belongs to it begins."""
    if data[place] != 0xFF:
        raise ValueError("no marker where one should be")
    while data[place] == 0xFF:
        place += 1
    return data[place], place + 1


def _scan_end(data: bytes, place: int) -> int:
    """Where the compressed pixels end: at a marker that is neither a stuffed zero nor a restart."""
    while True:
        place = data.index(b"\xff", place)
        after = data[place + 1]
        if after == 0xFF:
            place += 1
        elif after == 0 or after in _ALONE:
            place += 2
        else:
            return place


def _png(data: bytes) -> Iterator[bytes]:
    if data[:8] != _PNG:
        raise ValueError("no PNG file")
    yield _PNG
    place = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise ValueError("a chunk that leaves the file")
        if kind in _PNG_KEPT:
            yield data[place:end]
        if kind == b"IEND":
            return
        place = end


def _webp(data: bytes) -> Iterator[bytes]:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("no WebP file")
    place, pixels = 12, b""
    while not pixels:
        kind, length = struct.unpack_from("<4sI", data, place)
        end = place + 8 + length + length % 2
        if kind in _WEBP_PIXELS:
            pixels = data[place:end]
        if place + 8 + length > len(data):
            raise ValueError("a chunk that leaves the file")
        place = end
    if len(pixels) % 2:
        pixels += b"\0"
    yield b"RIFF" + struct.pack("<I", 4 + len(pixels)) + b"WEBP" + pixels
