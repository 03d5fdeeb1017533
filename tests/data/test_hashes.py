"""Perceptual hashes: what they live through, and that the near ones are found without comparing with all."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from thyme.data.hashes import Neighbours, distance, perceptual_hash

HASHES = st.integers(0, 2**64 - 1)


def scene(seed: int) -> Image.Image:
    rng = random.Random(seed)
    image = Image.new("RGB", (320, 240), (rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, size = rng.randrange(280), rng.randrange(200), rng.randrange(20, 90)
        draw.rectangle((x, y, x + size, y + size), fill=(rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    return image


def as_jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_lives_through_size_encoding_and_light(seed: int) -> None:
    image = scene(seed)
    before = perceptual_hash(image)
    assert 0 <= before < 2**64
    for changed in (as_jpeg(image), image.resize((200, 150)), ImageEnhance.Contrast(image).enhance(0.8)):
        assert distance(before, perceptual_hash(changed)) <= 4


def test_other_pictures_have_far_hashes() -> None:
    hashes = [perceptual_hash(scene(seed)) for seed in range(20)]
    assert min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 8


def test_grey_and_rgb_pictures_hash_alike() -> None:
    image = scene(1).convert("L")
    assert perceptual_hash(image) == perceptual_hash(image.convert("RGB"))


@given(st.lists(HASHES, max_size=30), HASHES, st.integers(0, 64))
def test_what_is_found_is_the_first_that_is_near(seen: list[int], value: int, bits: int) -> None:
    near = [place for place, other in enumerate(seen) if distance(other, value) <= bits]
    assert Neighbours(bits, seen).find(value) == (near[0] if near else None)


@given(HASHES, st.sets(st.integers(0, 63), max_size=8), st.integers(0, 8))
def test_flipped_bits_are_found_up_to_the_bound(value: int, flipped: set[int], bits: int) -> None:
    other = value
    for bit in flipped:
        other ^= 1 << bit
    assert Neighbours(bits, [value]).find(other) == (0 if len(flipped) <= bits else None)


def test_few_hashes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    import thyme.data.hashes as hashes

    seen = Neighbours(4, map(int, np.random.default_rng(0).integers(0, 2**63, 20_000)))
    compared: list[int] = []
    monkeypatch.setattr(hashes, "distance", lambda a, b: compared.append(1) or (a ^ b).bit_count())
    assert seen.find(12345678901234567) is None
    assert 0 < len(compared) < 200
    assert len(seen) == 20_000


def test_bits_beyond_the_hash_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Neighbours(65)
