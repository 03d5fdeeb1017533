"""Nothing but pixels is left of a file, and the pixels are the same."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from collect_pictures import scene
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin, PngImagePlugin

from thyme.data.collect.strip import stripped
from thyme.errors import ImageError
from thyme.images import load_image

SECRET = b"52.5163N"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a>" + SECRET + b"</a></x:xmpmeta>"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IMAGE = scene(3, (320, 240))
LEFT = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform", "progressive", "progression"}
"""What Pillow tells of a JPEG file that is built as it must be."""


def exif() -> Image.Exif:
    """Position, maker's note, a description, and a thumbnail behind."""
    made = Image.Exif()
    made[0x010E] = SECRET.decode()
    made.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    made.get_ifd(ExifTags.IFD.GPSInfo)[2] = (52.0, 30.0, 58.7)
    made.get_ifd(ExifTags.IFD.Exif)[0x927C] = SECRET * 20
    made.get_ifd(ExifTags.IFD.Exif)[0x9286] = b"ASCII\0\0\0" + SECRET
    return made


def encode(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, format, **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def burdened_jpeg(**options: object) -> bytes:
    """Everything that may stand in a JPEG file, and more pictures behind it."""
    data = encode("JPEG", exif=exif(), xmp=XMP, icc_profile=SRGB, comment=SECRET, **options)
    iptc = b"\x1c\x02\x5a" + struct.pack(">H", len(SECRET)) + SECRET
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    thumbnail = segment(0xE0, b"JFXX\0\x10" + encode("JPEG", quality=20))
    further = b"".join(segment(marker, SECRET) for marker in (0xDC, *range(0xE1, 0xF0), 0xFE))
    return data[:2] + thumbnail + segment(0xED, block) + further + data[2:] + encode("JPEG") + SECRET


def burdened_png() -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Location", SECRET.decode())
    notes.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    data = encode("PNG", exif=exif(), pnginfo=notes, icc_profile=SRGB, dpi=(300, 300))
    body = b"aaAa" + SECRET
    private = struct.pack(">I", len(SECRET)) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + private + data[33:] + SECRET


def burdened_webp(lossless: bool) -> bytes:
    return encode("WEBP", exif=exif(), xmp=XMP, icc_profile=SRGB, lossless=lossless) + SECRET


CASES = {
    "jpeg": ("JPEG", burdened_jpeg()),
    "jpeg, progressive": ("JPEG", burdened_jpeg(progressive=True)),
    "jpeg, restarts": ("JPEG", burdened_jpeg(restart_marker_blocks=1, subsampling=0)),
    "jpeg, RGB": ("JPEG", burdened_jpeg(keep_rgb=True)),
    "png": ("PNG", burdened_png()),
    "webp": ("WEBP", burdened_webp(False)),
    "webp, lossless": ("WEBP", burdened_webp(True)),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_and_the_pixels_are_the_same(case: str) -> None:
    format, data = CASES[case]
    assert SECRET in data
    clean = stripped(data, format)
    assert clean is not None
    marks = (b"Exif", b"eXIf", b"EXIF", b"adobe:ns", b"XMP", b"Photoshop", b"8BIM", b"ICC", b"JFXX", b"acsp")
    for mark in (SECRET, *marks):
        assert mark not in clean
    with Image.open(io.BytesIO(clean)) as picture:
        assert picture.format == format
        picture.load()
        assert not picture.getexif()
        assert not picture.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert IptcImagePlugin.getiptcinfo(picture) is None
        assert set(picture.info) <= (LEFT if format == "JPEG" else {"loop", "background", "timestamp", "duration"})
        assert not getattr(picture, "text", {})
    assert load_image(clean).id == load_image(data).id


@pytest.mark.parametrize("case", CASES)
def test_it_is_no_larger_and_a_second_time_changes_nothing(case: str) -> None:
    format, data = CASES[case]
    clean = stripped(data, format)
    assert clean is not None
    assert len(clean) < len(data)
    assert stripped(clean, format) == clean


def test_a_jpeg_that_is_only_turned_by_its_head_keeps_its_colours() -> None:
    """Without segment APP14 an RGB file would be read as YCbCr."""
    _, data = CASES["jpeg, RGB"]
    clean = stripped(data, "JPEG")
    assert clean is not None
    assert b"Adobe" in clean


BEGINNINGS = {"JPEG": b"\xff\xd8", "PNG": b"\x89PNG\r\n\x1a\n", "WEBP": b"RIFF\0\0\0\0WEBP"}


@pytest.mark.parametrize("format", BEGINNINGS)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_bytes_or_none(format: str, data: bytes) -> None:
    for given_bytes in (data, BEGINNINGS[format] + data):
        clean = stripped(given_bytes, format)
        assert clean is None or clean.startswith(BEGINNINGS[format][:4])


@pytest.mark.parametrize("format", ["TIFF", "BMP", "GIF", ""])
def test_other_formats_have_to_be_written_anew(format: str) -> None:
    assert stripped(encode("PNG"), format) is None


@given(case=st.sampled_from(sorted(CASES)), place=st.floats(0, 1), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_never_worse(case: str, place: float, value: int, cut: bool) -> None:
    """Whatever is broken: no exception, and no secret of segments that were recognised."""
    format, data = CASES[case]
    at = int(place * (len(data) - 1))
    wrong = data[:at] if cut else data[:at] + bytes([value]) + data[at + 1 :]
    clean = stripped(wrong, format)
    if clean is not None:
        try:
            load_image(clean)
        except ImageError:
            pass
        else:
            assert len(clean) <= len(wrong) + 18
