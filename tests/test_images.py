"""Every kind of file that people hand in gives the right picture, or an error that names it and the way out."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thyme import images, types
from thyme.errors import ImageError, UsageError
from thyme.images import MAX_PIXELS, load_image, measure
from thyme.types import ImageRecord, image_id

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    """A picture whose every pixel is different, so that flips, turns and swapped channels show."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 10, y * 15, (x + y) * 5], axis=-1).astype(np.uint8))


def half_red(mode: str = "RGB", size: tuple[int, int] = (32, 16)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def assert_consistent(record: ImageRecord) -> None:
    """What holds of every record: RGB, named by its pixels, and bytes, where kept, that decode to those pixels."""
    assert record.mode == record.image.mode == "RGB"
    assert record.size == record.image.size
    assert record.id == image_id(record.image)
    assert not record.image.info
    if record.encoded is None:
        assert record.format == "PNG"
    else:
        with Image.open(io.BytesIO(record.encoded)) as again:
            again.load()
            assert image_id(again) == record.id


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_plain_picture_keeps_its_bytes_and_name(tmp_path: Path, format: str) -> None:
    data = encode(gradient(), format)
    file = tmp_path / "holiday.bin"
    file.write_bytes(data)
    record = load_image(file)
    assert_consistent(record)
    assert (record.encoded, record.format, record.name) == (data, format, "holiday.bin")
    with Image.open(file) as expected:
        np.testing.assert_array_equal(np.asarray(record.image), np.asarray(expected))


def test_bytes_and_file_give_the_same_record(tmp_path: Path) -> None:
    data = encode(gradient(), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    assert load_image(data, name="a.png") == load_image(tmp_path / "a.png")
    assert load_image(data).name == ""


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: no such file; check the path"):
        load_image(tmp_path / "gone.png")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a directory; name one image file"):
        load_image(tmp_path)


def test_device_or_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="pipe is not a regular file"):
        load_image(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "secret.png"
    file.write_bytes(encode(gradient(), "PNG"))
    file.chmod(0)
    with pytest.raises(ImageError, match=r"secret\.png cannot be read"):
        load_image(file)


def test_a_name_too_long_for_the_system() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(Path("x" * 300))


def test_a_name_that_is_not_utf8_still_makes_a_record_that_can_be_stored(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (4, 3)).save(path)
    assert "caf\N{REPLACEMENT CHARACTER}.png" in load_image(path).model_dump_json()


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg is empty \(0 bytes\)"):
        load_image(tmp_path / "empty.jpg")


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is text\n",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xff\xd8\xff",
        b"\0" * 99,
    ],
)
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageError, match="notes is not an image that can be read; use JPEG, PNG"):
        load_image(data, name="notes")


def test_postscript_starts_no_program() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "EPS"  # Pillow itself would take it, and call Ghostscript to load it
    with pytest.raises(ImageError, match="not an image that can be read"):
        load_image(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated_file(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8))
    data = encode(noise, format)
    with pytest.raises(ImageError, match=r"cut\.bin is (damaged or cut off|not an image)"):
        load_image(data[: len(data) // 2], name="cut.bin")


def test_truncated_jpeg_says_what_to_do() -> None:
    data = encode(gradient(400, 300), "JPEG")
    with pytest.raises(ImageError, match=r"photo\.jpg is damaged or cut off .*truncated.*; save or download it again"):
        load_image(data[: len(data) * 2 // 3], name="photo.jpg")


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_png_damaged_in_its_middle_is_no_black_picture(at: float) -> None:
    data = bytearray(encode(gradient(300, 200), "PNG"))
    first, last = data.index(b"IDAT") + 4, data.index(b"IEND") - 12
    middle = first + int(at * (last - first))
    data[middle : middle + 8] = b"\xff" * 8
    with pytest.raises(ImageError, match="damaged or cut off"):
        load_image(bytes(data))
    assert measure(bytes(data), label="it") == (300, 200)  # the header is whole


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_a_size_is_measured_without_decoding_what_is_whole(format: str) -> None:
    data = encode(gradient(31, 17), format)
    assert measure(data, label="it") == load_image(data).size
    with pytest.raises(ImageError, match="more than the limit"):
        measure(data, label="it", max_pixels=31 * 17 - 1)
    if format in {"JPEG", "PNG", "WEBP"}:
        with pytest.raises(ImageError):
            measure(data[: len(data) * 2 // 3], label="it")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotation_counts_in_a_measured_size(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(gradient(31, 17), format, exif=exif)
    assert measure(data, label="it") == load_image(data).size


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing: a decompression bomb's shell."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9460, 9460), (60_000, 60_000), (2_000_000, 1000)])
def test_huge_dimensions_are_refused_by_the_header(size: tuple[int, int]) -> None:
    """Above our limit, above Pillow's error limit: the same message, and Pillow's global limit is as before."""
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=r"map\.png has .* pixels, more than the limit of 89,478,485.*--max-pixels"):
        load_image(png_header(*size), name="map.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_the_callers() -> None:
    data = encode(gradient(20, 10), "PNG")
    assert load_image(data, max_pixels=200).size == (20, 10)
    with pytest.raises(ImageError, match="20 x 10 = 200 pixels, more than the limit of 199"):
        load_image(data, max_pixels=199)
    with pytest.raises(ImageError, match="damaged or cut off"):  # past the limit check, into the (empty) data
        load_image(png_header(9460, 9460), max_pixels=2 * MAX_PIXELS)


def test_cmyk_becomes_rgb() -> None:
    record = load_image(encode(half_red("CMYK"), "JPEG", quality=100))
    assert_consistent(record)
    assert record.encoded is None
    left, right = record.image.getpixel((4, 8)), record.image.getpixel((28, 8))
    assert left[0] > 240 > 15 > max(left[1:])
    assert right[2] > 240 > 15 > max(right[:2])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 256, 32896], [51400, 65279, 65535]], dtype=np.uint16)
    record = load_image(encode(Image.fromarray(values), format))
    assert_consistent(record)
    expected = np.array([[0, 1, 128], [200, 254, 255]])  # value / 257, rounded
    np.testing.assert_array_equal(np.asarray(record.image), np.repeat(expected[..., None], 3, axis=-1))


def test_float_and_32_bit_grey_are_scaled() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert np.asarray(load_image(encode(Image.fromarray(unit), "TIFF")).image)[0, :, 0].tolist() == [0, 128, 255]
    heights = np.array([[-100.0, 0.0, np.nan, 155.0]], dtype=np.float32)
    assert np.asarray(load_image(encode(Image.fromarray(heights), "TIFF")).image)[0, :, 0].tolist() == [
        0,
        100,
        100,
        255,
    ]
    deep = np.array([[0, 1_000_000]], dtype=np.int32)
    assert np.asarray(load_image(encode(Image.fromarray(deep), "TIFF")).image)[0, :, 0].tolist() == [0, 255]
    flat = np.full((2, 2), 7_000_000, dtype=np.int32)
    assert_consistent(load_image(encode(Image.fromarray(flat), "TIFF")))


def test_16_bit_colour_png() -> None:
    """Pillow cannot write one; by hand: one pixel of (65535, 32896, 0)."""
    data = png_header(1, 1)
    body = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    ihdr = b"IHDR" + body
    idat = b"IDAT" + zlib.compress(b"\0" + struct.pack(">HHH", 65535, 32896, 0))

    def framed(chunk: bytes) -> bytes:
        return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))

    record = load_image(data[:8] + framed(ihdr) + framed(idat) + framed(b"IEND"))
    assert_consistent(record)
    assert record.image.getpixel((0, 0)) == (255, 128, 0)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_frame_and_says_so(format: str, caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, WHITE)]
    extra = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **extra)
    record = load_image(data, name="clip")
    assert_consistent(record)
    assert record.encoded is None, "the bytes show more than the one frame"
    assert record.image.getpixel((4, 4)) == RED
    assert "clip holds 3 frames; only the first one is used" in caplog.text


def test_multi_picture_jpeg_is_a_jpeg(caplog: pytest.LogCaptureFixture) -> None:
    """Phones write MPO: a JPEG with a second picture behind. It is no animation, and its bytes decode as they are."""
    data = encode(gradient(), "MPO", save_all=True, append_images=[gradient()])
    record = load_image(data)
    assert_consistent(record)
    assert (record.format, record.encoded, caplog.text) == ("JPEG", data, "")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(format: str, orientation: int) -> None:
    """Each of the eight orientations, as a camera does it: what is stored is turned, and the tag undoes it."""
    upright = half_red(size=(32, 16))
    upright.paste(WHITE, (0, 0, 8, 8))  # a mark in the upper left corner
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(stored_as[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    record = load_image(encode(stored, format, exif=exif, **options))
    assert_consistent(record)
    assert (record.encoded is None) == (orientation > 1)
    difference = np.abs(np.asarray(record.image).astype(int) - np.asarray(upright).astype(int))
    assert difference.max() <= 6


def test_broken_exif_does_not_spoil_a_good_picture(caplog: pytest.LogCaptureFixture) -> None:
    data = encode(gradient(), "PNG", exif=b"Exif\0\0garbage that is no TIFF header")
    assert load_image(data).image.getpixel((3, 2)) == gradient().getpixel((3, 2))
    assert "taken as upright" in caplog.text


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    colour, grey = ((255, 0, 0, 0), (255, 0, 0, 128)), ((0, 0), (0, 128))
    image = Image.new(mode, (3, 1), 0)
    clear, half = colour if mode == "RGBA" else grey
    image.putpixel((0, 0), clear)
    image.putpixel((1, 0), half)
    image.putpixel((2, 0), (*half[:-1], 255))
    record = load_image(encode(image, "PNG"))
    assert_consistent(record)
    shown = [record.image.getpixel((x, 0)) for x in range(3)]
    assert shown == [WHITE, (255, 127, 127), RED] if mode == "RGBA" else [WHITE, (127, 127, 127), (0, 0, 0)]


def test_palette_with_and_without_transparency() -> None:
    image = half_red("P")
    record = load_image(encode(image, "PNG"))
    assert_consistent(record)
    assert (record.image.getpixel((0, 0)), record.image.getpixel((31, 0))) == (RED, BLUE)
    clear = load_image(encode(image, "PNG", transparency=image.getpixel((0, 0))))
    assert (clear.image.getpixel((0, 0)), clear.image.getpixel((31, 0))) == (WHITE, BLUE)


def test_transparent_colour_of_an_rgb_png() -> None:
    record = load_image(encode(half_red(), "PNG", transparency=RED))
    assert_consistent(record)
    assert (record.image.getpixel((0, 0)), record.encoded) == (WHITE, None)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_one_bit_become_rgb(mode: str) -> None:
    image = Image.new(mode, (4, 1), 0)
    image.putpixel((2, 0), 255)
    record = load_image(encode(image, "PNG"))
    assert_consistent(record)
    assert np.asarray(record.image)[0].tolist() == [[0] * 3, [0] * 3, [255] * 3, [0] * 3]


@pytest.mark.parametrize("format", ["PPM", "TGA", "JPEG2000", "ICO"])
def test_other_formats_are_encoded_anew_as_png(format: str) -> None:
    image = half_red(size=(16, 16))
    record = load_image(encode(image, format))
    assert_consistent(record)
    assert (record.format, record.encoded) == ("PNG", None)
    np.testing.assert_allclose(np.asarray(record.image).astype(int), np.asarray(image).astype(int), atol=3)


def test_image_error_is_a_usage_error() -> None:
    """So that commands end with exit code 2."""
    assert issubclass(ImageError, UsageError)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_an_image_is_named_alike_in_strips_and_whole(mode: str, monkeypatch: pytest.MonkeyPatch):
    grey = Image.effect_noise((37, 23), 60)
    image = grey.convert("I").convert(mode) if mode == "I;16" else grey.convert(mode)
    whole = image_id(image)
    monkeypatch.setattr(types, "_STRIP_PIXELS", 100)
    assert image_id(image) == whole
    assert whole == image_id(image, image.tobytes())


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_grey_is_scaled_alike_in_strips_and_whole(dtype: type, monkeypatch: pytest.MonkeyPatch):
    values = np.linspace(0, 60_000, 37 * 23).reshape(23, 37).astype(dtype)
    image = Image.fromarray(values)
    whole = np.asarray(images.to_rgb(image))
    monkeypatch.setattr(images, "_STRIP_PIXELS", 100)
    np.testing.assert_array_equal(np.asarray(images.to_rgb(image)), whole)
    assert whole.max() in {255, round(60_000 / 65_535 * 255)}
    assert len(np.unique(whole)) > 200
