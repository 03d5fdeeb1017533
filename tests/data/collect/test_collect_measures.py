"""Sharpness falls with blur, the share of text tells pages from photographs; with the figures of the documentation.

``pytest tests/data/collect/test_collect_measures.py -m slow -s`` prints the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from collect_pictures import MORE_PHOTOS, PHOTOS, chart, facade, page, photo, recompressed, scene, screenshot, signs
from PIL import Image, ImageDraw, ImageFilter

from thyme.data.collect.measures import sharpness, text_share

MAX_TEXT, MIN_SHARPNESS = 0.08, 0.25
"""As the documentation advises."""


def blurred(image: Image.Image, radius: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def test_blur_lowers_sharpness_step_by_step() -> None:
    image = scene(1, (1200, 900))
    values = [sharpness(blurred(image, radius)) for radius in (0, 1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.6
    assert values[3] < MIN_SHARPNESS


def test_contrast_matters_little() -> None:
    image = photo("coffee", (1200, 900))
    faint = image.point(lambda value: 100 + value // 3)
    assert sharpness(faint) == pytest.approx(sharpness(image), abs=0.1)


def test_one_sharp_thing_before_a_soft_background_is_sharp() -> None:
    image = blurred(photo("coffee"), 6)
    assert sharpness(image) < MIN_SHARPNESS
    image.paste(photo("chelsea", (900, 900)), (700, 400))
    assert sharpness(image) > 2 * MIN_SHARPNESS


def test_motion_in_one_direction_is_blur() -> None:
    pixels = np.asarray(photo("coffee", (1200, 900)), np.float32)
    moved = np.mean([np.roll(pixels, shift, axis=1) for shift in range(-8, 9)], axis=0).astype(np.uint8)
    assert sharpness(Image.fromarray(moved)) < MIN_SHARPNESS


@pytest.mark.parametrize("size", [(1, 1), (3, 3000), (2049, 1), (300, 200)])
def test_nothing_to_be_seen_has_neither(size: tuple[int, int]) -> None:
    assert sharpness(Image.new("RGB", size, (90, 120, 130))) == 0.0
    assert text_share(Image.new("RGB", size, (90, 120, 130))) == 0.0


def test_a_page_is_told_from_scenes() -> None:
    assert text_share(page(0)) > 2 * MAX_TEXT
    for image in (signs(0), facade(0), chart(0), photo("brick"), photo("grass")):
        assert text_share(image) < MAX_TEXT / 2


def test_shares_are_those_of_the_lines() -> None:
    """Half a page of text has half the share of a whole one."""
    whole = page(3)
    half = whole.copy()
    ImageDraw.Draw(half).rectangle((0, 0, half.width, half.height // 2), fill=whole.getpixel((5, 5)))
    assert text_share(half) == pytest.approx(text_share(whole) / 2, rel=0.25)


def told(name: str, values: Sequence[float], hit: Sequence[bool]) -> None:
    low, middle, high = np.percentile(values, (0, 50, 100))
    sys.stdout.write(f"{name:34} {sum(hit):3} of {len(hit):3}   {low:.3f}  {middle:.3f}  {high:.3f}\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_figures_of_text() -> None:
    kinds = {
        "pages": (True, [page(seed) for seed in range(100, 120)]),
        "screenshots": (True, [screenshot(seed) for seed in range(100, 120)]),
        "scenes with signs": (False, [signs(seed) for seed in range(100, 120)]),
        "facades": (False, [facade(seed) for seed in range(100, 120)]),
        "charts": (False, [chart(seed) for seed in range(100, 120)]),
        "photographs": (False, [photo(name) for name in PHOTOS + MORE_PHOTOS]),
        "photographs, four times as large": (False, [photo(name, scale=4) for name in PHOTOS + MORE_PHOTOS]),
    }
    sys.stdout.write(f"\nleft out above {MAX_TEXT}; share covered by text: least, median, most\n")
    right = {True: [0, 0], False: [0, 0]}
    for name, (is_text, images) in kinds.items():
        values = [text_share(image) for image in images]
        hit = [value > MAX_TEXT for value in values]
        told(name, values, hit)
        right[is_text][0] += sum(one is is_text for one in hit)
        right[is_text][1] += len(hit)
    assert right[True][0] >= 0.9 * right[True][1]
    assert right[False][0] >= 0.98 * right[False][1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_figures_of_sharpness() -> None:
    images = [photo(name) for name in PHOTOS + MORE_PHOTOS] + [scene(seed) for seed in range(100, 110)]
    sys.stdout.write(f"\nleft out below {MIN_SHARPNESS}; sharpness: least, median, most\n")
    counts = {}
    for radius in (0, 1, 2, 4, 8):
        values = [sharpness(blurred(image, radius)) for image in images]
        hit = [value < MIN_SHARPNESS for value in values]
        counts[radius] = sum(hit)
        told(f"blurred by {radius} pixels", values, hit)
    packed = [sharpness(recompressed(image, 70)) for image in images]
    told("JPEG of quality 70", packed, [value < MIN_SHARPNESS for value in packed])
    larger = [photo(name, scale=4) for name in PHOTOS + MORE_PHOTOS]
    values = [sharpness(image) for image in larger]
    told("enlarged four times", values, [value < MIN_SHARPNESS for value in values])
    assert counts[0] <= 2
    assert counts[4] >= 0.9 * len(images)
