"""Pictures for the tests of crops: busy enough that every part of them is seen only once."""

from __future__ import annotations

import io
import random
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Box = tuple[int, int, int, int]


@lru_cache(maxsize=8)
def scene(width: int = 480, height: int = 360, seed: int = 1) -> Image.Image:
    """Soft colours with plates and numbers on them, RGB."""
    noise, rng = np.random.default_rng(seed), random.Random(seed)
    pixels = np.full((height, width, 3), 128, np.float32)
    for period in (8, 32, 128):
        coarse = noise.normal(0, 3 * period**0.5, (height // period + 2, width // period + 2, 3)).astype(np.float32)
        pixels += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(width * height // 4000):
        x, y, side = rng.randrange(width), rng.randrange(height), rng.randrange(8, 40)
        fill, ink = (tuple(rng.randrange(256) for _ in range(3)) for _ in range(2))
        pen.rectangle((x, y, x + 2 * side, y + side), fill=fill)
        pen.text((x, y), str(rng.randrange(10**6)), fill=ink, font=ImageFont.load_default(side))
    return image


def tiles(count: int = 6, side: int = 80) -> Image.Image:
    """The same busy tile again and again: every place is there many times."""
    tile = scene(side, side, 5)
    image = Image.new("RGB", (count * side, count * side))
    for row in range(count):
        for column in range(count):
            image.paste(tile, (column * side, row * side))
    return image


def as_jpeg(image: Image.Image, quality: int) -> tuple[Image.Image, Image.Image]:
    """A picture that went through JPEG, as Pillow decodes it and as OpenCV does."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    decoded = Image.open(io.BytesIO(file.getvalue()))
    decoded.load()
    bgr = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return decoded, Image.fromarray(bgr[:, :, ::-1])


def apart(one: Box, other: Box) -> int:
    """Largest distance of two boxes' edges, pixels."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
