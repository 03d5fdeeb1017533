"""HEIC files become pictures like any other, and colours are converted by their profile where that is asked for."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from thyme.errors import ImageError, MissingExtraError
from thyme.images import load_image

HEIC = Path(__file__).parent / "heic"
"""Written with pillow-heif: 64 x 48 pixels with EXIF orientation 6, with ten bits a channel, and the second of two."""


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def fixed(values: tuple[float, ...]) -> bytes:
    """A tag of type XYZ."""
    return b"XYZ \0\0\0\0" + b"".join(round(value * 65536).to_bytes(4, "big", signed=True) for value in values)


def wide_gamut() -> bytes:
    """Profile with the primaries of Display P3 and the curve of sRGB, made by hand: ICC.1:2010, matrix and tables."""
    text = b"desc\0\0\0\0\0\0\0\x03P3\0".ljust(100, b"\0")
    xyz = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189)}
    xyz[b"bXYZ"] = (0.1571, 0.06657, 0.78407)
    white = (0.9642, 1.0, 0.8249)
    curve = b"curv\0\0\0\0\0\0\0\x01" + (round(2.2 * 256)).to_bytes(2, "big") + b"\0\0"
    tags = {b"desc": text, b"wtpt": fixed(white), b"cprt": text, **{name: fixed(value) for name, value in xyz.items()}}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + place.to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body, place = body + data, place + len(data)
    head = bytearray(128)
    head[0:4], head[8:12] = place.to_bytes(4, "big"), b"\x02\x40\0\0"
    head[12:24], head[36:40] = b"mntrRGB XYZ ", b"acsp"
    head[68:80] = b"".join(round(v * 65536).to_bytes(4, "big") for v in white)
    return bytes(head) + len(tags).to_bytes(4, "big") + table + body


def test_a_heic_file_is_upright_rgb() -> None:
    record = load_image(HEIC / "turned.heic")
    assert (record.size, record.format, record.encoded) == ((48, 64), "PNG", None)
    pixels = np.asarray(record.image).astype(int)
    np.testing.assert_allclose([pixels[0, 0], pixels[-1, -1]], [[3, 235, 252], [252, 0, 3]], atol=8)


@pytest.mark.parametrize("name", ["deep", "album"])
def test_deep_heic_and_the_main_picture_of_several(name: str) -> None:
    record = load_image(HEIC / f"{name}.heic")
    assert record.size == (64, 48)
    np.testing.assert_allclose(np.asarray(record.image)[0, 0], [0, 0, 252], atol=8)


def test_a_heic_file_has_the_limit_of_any_other() -> None:
    with pytest.raises(ImageError, match=r"12000 x 9000 = 108,000,000 pixels.*--max-pixels"):
        load_image(HEIC / "large.heic")


def test_damaged_heic_is_said() -> None:
    data = (HEIC / "turned.heic").read_bytes()
    for wrong in (data[:600], data[:40], data[:700] + bytes(200)):
        with pytest.raises(ImageError, match=r"x\.heic"):
            load_image(wrong, name="x.heic")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MissingExtraError, match=r"HEIC files needs the extra 'data'"):
        load_image(HEIC / "turned.heic")


def test_a_profile_is_applied_only_where_asked() -> None:
    data = encode(Image.new("RGB", (8, 8), (200, 80, 60)), "PNG", icc_profile=wide_gamut())
    assert load_image(data).encoded == data
    assert load_image(data).image.getpixel((0, 0)) == (200, 80, 60)
    record = load_image(data, srgb=True)
    red, green, blue = record.image.getpixel((0, 0))
    assert red > 208
    assert green < 76
    assert blue < 56
    assert (record.encoded, record.format, record.image.info) == (None, "PNG", {})


def test_srgb_itself_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(Image.new("RGB", (8, 8), (200, 80, 60)), "JPEG", icc_profile=profile)
    assert load_image(data, srgb=True).encoded == data


@pytest.mark.parametrize("profile", [b"no profile", wide_gamut()[:200], bytes(5000)])
def test_a_broken_profile_is_left_aside(profile: bytes, caplog: pytest.LogCaptureFixture) -> None:
    data = encode(Image.new("RGB", (8, 8), (200, 80, 60)), "PNG", icc_profile=profile)
    assert load_image(data, srgb=True).image.getpixel((0, 0)) == (200, 80, 60)
    assert "colour profile cannot be used" in caplog.text


def test_a_profile_of_another_kind_of_colours_is_left_aside() -> None:
    data = encode(Image.new("L", (8, 8), 90), "PNG", icc_profile=wide_gamut())
    assert load_image(data, srgb=True).image.getpixel((0, 0)) in {(90, 90, 90), (91, 91, 91), (89, 89, 89)}
    inks = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", icc_profile=wide_gamut())
    red, green, blue = load_image(inks, srgb=True).image.getpixel((0, 0))
    assert red > 240
    assert max(green, blue) < 20


def test_transparency_and_palettes_are_converted_too() -> None:
    clear = Image.new("RGBA", (8, 8), (200, 80, 60, 0))
    white = load_image(encode(clear, "PNG", icc_profile=wide_gamut()), srgb=True)
    assert white.image.getpixel((0, 0)) == (255, 255, 255)
    few = Image.new("RGB", (8, 8), (200, 80, 60)).quantize(4)
    red, _, _ = load_image(encode(few, "PNG", icc_profile=wide_gamut()), srgb=True).image.getpixel((0, 0))
    assert red > 208
