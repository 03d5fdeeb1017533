"""Input files and their pixels are made once, exactly, off the event loop, and forgotten when there are too many."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from thyme.sandbox import inputs
from thyme.sandbox.inputs import InputFiles, PixelFile, encode_png
from thyme.types import ImageRecord

MIB = 1 << 20


def picture(mode: str, size: tuple[int, int] = (31, 17), shade: int = 0) -> Image.Image:
    gradient = Image.linear_gradient("L").resize(size).point(lambda value: (value + shade) % 256)
    channels = [gradient, gradient.rotate(180), gradient.rotate(90), gradient.rotate(30)]
    return gradient.convert(mode) if mode not in {"RGB", "RGBA"} else Image.merge(mode, channels[: len(mode)])


def held(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, 1 << 30, 0)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("mode", "layout"), [("L", "L"), ("RGB", "RGBX"), ("RGBA", "RGBA")])
async def test_pixels_lie_in_memory_as_pillow_has_them(mode: str, layout: str) -> None:
    image = picture(mode)
    descriptor = await InputFiles(MIB).pixels(ImageRecord.of(image))
    assert descriptor is not None
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1)
    assert held(descriptor) == image.tobytes("raw", layout)


@pytest.mark.parametrize("size", [(1, 1), (300_000, 2), (2, 9_000), (1500, 1400)])
def test_pixels_of_any_shape(size: tuple[int, int]) -> None:
    image = picture("RGB", size)
    pixels = PixelFile(image)
    assert os.pread(pixels.descriptor, 1 << 30, 0) == image.tobytes("raw", "RGBX")
    assert pixels.size == size[0] * size[1] * 4


@pytest.mark.parametrize("mode", ["P", "1", "I;16", "CMYK", "F", "LA"])
async def test_other_modes_have_no_pixels_to_hand_over(mode: str) -> None:
    image = picture("L").convert("I").convert("I;16") if mode == "I;16" else picture("L").convert(mode)
    assert await InputFiles(MIB).pixels(ImageRecord.of(image)) is None


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "LA", "I;16", "P"])
def test_png_is_lossless_and_keeps_the_mode(mode: str) -> None:
    image = picture("L").convert("I").convert("I;16") if mode == "I;16" else picture("L").convert(mode)
    image = picture(mode) if mode in {"RGB", "RGBA"} else image
    read = Image.open(io.BytesIO(encode_png(image)))
    assert (read.mode, read.tobytes()) == (mode, image.tobytes())


async def test_file_is_the_original_where_its_bytes_are_known() -> None:
    files, image = InputFiles(MIB), picture("RGB")
    known = ImageRecord.of(image, format="WEBP", encoded=b"bytes")
    assert await files.file(2, known) == ("/mnt/data/input/image_3.webp", b"bytes")
    path, data = await files.file(0, ImageRecord.of(image, format="JPEG"))
    assert path == "/mnt/data/input/image_1.png"
    assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made, in order; each thing takes a while."""
    happened: list[str] = []

    def counted(name: str, make: Callable[[Image.Image], object]) -> Callable[[Image.Image], object]:
        def slow(image: Image.Image) -> object:
            happened.append(name)
            time.sleep(0.05)
            return make(image)

        return slow

    monkeypatch.setattr(inputs, "encode_png", counted("file", encode_png))
    monkeypatch.setattr(inputs, "PixelFile", counted("pixels", PixelFile))
    return happened


async def test_group_that_asks_at_once_has_it_made_once_and_off_the_loop(made: list[str]) -> None:
    files, record = InputFiles(MIB), ImageRecord.of(picture("RGB"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    counting = asyncio.ensure_future(count())
    found = await asyncio.gather(
        *(files.pixels(record) for _ in range(16)), *(files.file(0, record) for _ in range(16))
    )
    counting.cancel()
    assert sorted(made) == ["file", "pixels"]
    assert turns > 5  # others had their turn meanwhile
    descriptors = [item for item in found if isinstance(item, int)]
    assert len(set(descriptors)) == 16
    assert len({held(descriptor) for descriptor in descriptors}) == 1
    again = await files.pixels(record)
    assert again is not None
    os.close(again)
    assert len(made) == 2


async def test_one_that_is_cancelled_leaves_it_to_the_others(made: list[str]) -> None:
    files, record = InputFiles(MIB), ImageRecord.of(picture("L"))
    first, second = (asyncio.ensure_future(files.pixels(record)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    descriptor = await second
    assert descriptor is not None
    assert held(descriptor) == record.image.tobytes()
    assert first.cancelled()
    assert made == ["pixels"]


async def test_failure_reaches_everybody_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    files, record = InputFiles(MIB), ImageRecord.of(picture("L"))

    def fail(image: Image.Image) -> PixelFile:
        raise OSError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "PixelFile", fail)
        results = await asyncio.gather(*(files.pixels(record) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no memory left"] * 3
    descriptor = await files.pixels(record)
    assert descriptor is not None
    os.close(descriptor)


async def test_what_was_used_last_is_kept_within_the_limit_and_descriptors_are_closed(made: list[str]) -> None:
    """Room for two of these; what was handed out stays usable."""
    records = [ImageRecord.of(picture("RGB", (100, 100), shade)) for shade in range(5)]
    files = InputFiles(100_000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    handed = [await files.pixels(record) for record in records]
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 5 + 2
    for descriptor, record in zip(handed, records, strict=True):
        assert descriptor is not None
        assert held(descriptor) == record.image.tobytes("raw", "RGBX")
    for record in (records[4], records[3], records[0]):
        descriptor = await files.pixels(record)
        assert descriptor is not None
        os.close(descriptor)
    assert len(made) == 6
    big = await files.pixels(ImageRecord.of(picture("RGB", (200, 200))))  # more than is kept at all
    assert big is not None
    os.close(big)
    await asyncio.sleep(0)  # the event loop holds what it has just delivered
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 2
    del files
    assert len(list(Path("/proc/self/fd").iterdir())) == before
