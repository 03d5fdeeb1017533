"""What is encoded fast is a PNG file as any other, and shows the same pixels."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thyme.data.factory.png import can_encode, encode
from thyme.types import ImageRecord

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def drawn(mode: str, width: int, height: int, seed: int) -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, CHANNELS[mode])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@settings(max_examples=40)
@given(st.sampled_from(sorted(CHANNELS)), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_pixels_come_back_by_two_readers(mode: str, width: int, height: int, seed: int) -> None:
    image = drawn(mode, width, height, seed)
    data = encode(ImageRecord.of(image))
    with Image.open(io.BytesIO(data)) as read:
        read.verify()
    with Image.open(io.BytesIO(data)) as read:
        assert (read.mode, read.size, read.tobytes()) == (mode, image.size, image.tobytes())
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert other.shape[:2] == (height, width)


def test_other_modes_are_left_to_others() -> None:
    assert not can_encode(ImageRecord.of(Image.new("P", (4, 4))))
    assert not can_encode(ImageRecord.of(Image.new("I;16", (4, 4))))
    assert can_encode(ImageRecord.of(Image.new("RGB", (4, 4))))
