"""A crop's place is found by its pixels, through any filter; what is no crop, or is in no certain place, is told so."""

from __future__ import annotations

import random
from collections.abc import Callable

import crop_pictures as pictures
import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from thyme.eval.crops import cut, find_crop, locate
from thyme.eval.crops_pixels import RESAMPLERS, Picture, difference, fits, resampled

SCENE = pictures.scene()
WIDTH, HEIGHT = SCENE.size


@st.composite
def boxes(draw: st.DrawFn, least: int = 12) -> pictures.Box:
    """A box of the scene whose sides are at least so long."""
    left = draw(st.integers(0, WIDTH - least))
    top = draw(st.integers(0, HEIGHT - least))
    return left, top, draw(st.integers(left + least, WIDTH)), draw(st.integers(top + least, HEIGHT))


def seen(box: pictures.Box, original: Image.Image = SCENE) -> Image.Image:
    """A crop that is no even patch."""
    crop = original.crop(box)
    assume(Picture(crop).contrast > 12)
    return crop


@given(boxes())
@settings(max_examples=20)
def test_a_copy_is_found_where_it_was_cut(box: pictures.Box) -> None:
    place = locate(seen(box), SCENE)
    assert place is not None
    assert (place.box, place.certain, place.filter) == (box, True, "")


@given(boxes(), st.sampled_from(RESAMPLERS), st.integers(8, 700), st.integers(8, 700))
@settings(max_examples=20)
def test_a_box_that_the_code_named_is_confirmed_through_any_filter(
    box: pictures.Box, name: str, width: int, height: int
) -> None:
    shown = resampled(seen(box), (width, height), name)
    assume(Picture(shown).contrast > 12)
    place = locate(shown, SCENE, [(1, 2, 30, 40), box, (0, 0, 99, 99)], searching=False)
    assert place is not None
    assert place.box == box
    again = np.asarray(cut(SCENE, place, (width, height)))
    assert difference(again, np.asarray(shown)) <= Picture(shown).tolerance, "a placebo is scaled in the same way"


def test_resized_copies_are_found_without_a_word_from_the_code_and_none_in_a_wrong_place() -> None:
    rng = random.Random(1)
    found = 0
    for name in (name for name in RESAMPLERS if "nearest" not in name):
        left, top = rng.randrange(WIDTH - 200), rng.randrange(HEIGHT - 150)
        box = (left, top, left + rng.randrange(100, 200), top + rng.randrange(80, 150))
        factor = rng.uniform(0.6, 3)
        size = round((box[2] - box[0]) * factor), round((box[3] - box[1]) * factor)
        place = locate(resampled(SCENE.crop(box), size, name), SCENE)
        if place is not None:
            found += 1
            assert pictures.apart(place.box, box) <= 6
    assert found >= 7, "of nine; the search promises to say nothing false, not to find all"


@given(boxes(least=24), st.integers(30, 95))
@settings(max_examples=10)
def test_it_does_not_matter_who_decoded_the_jpeg(box: pictures.Box, quality: int) -> None:
    by_pillow, by_opencv = pictures.as_jpeg(SCENE, quality)
    for shown in (seen(box, by_pillow), by_opencv.crop(box)):
        place = locate(shown, by_pillow)
        assert place is not None
        assert place.box == box


@pytest.mark.parametrize("original_mode", ["L", "RGB"])
def test_grey_pictures_have_places_in_grey_originals(original_mode: str) -> None:
    grey = SCENE.convert("L").convert(original_mode)
    box = (100, 80, 260, 200)
    for shown in (grey.convert("L").crop(box), grey.convert("RGB").crop(box)):
        place = locate(shown, grey)
        assert place is not None
        assert (place.box, place.certain) == (box, True)
    enlarged = locate(grey.convert("L").crop(box).resize((480, 360)), grey)
    assert enlarged is not None
    assert pictures.apart(enlarged.box, box) <= 2


def test_transparency_is_seen_on_white() -> None:
    original = SCENE.convert("RGBA")
    original.putalpha(Image.linear_gradient("L").resize(original.size))
    place = locate(original.crop((40, 50, 200, 170)), original, [(40, 50, 200, 170)])
    assert place is not None
    assert place.box == (40, 50, 200, 170)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "turned by a quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by half": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 4 degrees": lambda image: image.rotate(4, Image.Resampling.BICUBIC),
    "turned by 33 degrees, expanded": lambda image: image.rotate(33, expand=True),
    "mirrored": ImageOps.mirror,
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "equalised": ImageOps.equalize,
    "grey": ImageOps.grayscale,
    "inverted": ImageOps.invert,
    "channels exchanged": lambda image: Image.merge("RGB", image.split()[::-1]),
    "edges": lambda image: image.filter(ImageFilter.FIND_EDGES),
    "thresholded": lambda image: image.convert("L").point(lambda level: 255 * (level > 128)),
    "a thick frame drawn on it": lambda image: _framed(image),
}


def _framed(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((10, 10, image.width - 10, image.height - 10), outline=(255, 0, 0), width=6)
    return image


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("box", [(100, 60, 320, 240), (0, 0, WIDTH, HEIGHT)])
def test_what_was_changed_is_no_crop_even_where_the_code_named_the_box(name: str, box: pictures.Box) -> None:
    shown = CHANGES[name](SCENE.crop(box))
    assert locate(shown, SCENE, [box]) is None
    enlarged = shown.resize((shown.width * 3 // 2, shown.height * 3 // 2))
    assert locate(enlarged, SCENE, [box], searching=box[0] > 0) is None


def _worded(image: Image.Image, size: int) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).text((5, 5), "42", fill=(255, 0, 0), font=ImageFont.load_default(size))
    return image


@pytest.mark.parametrize("factor", [1, 1.5, 0.6])
@pytest.mark.parametrize("size", [12, 20])
def test_a_word_on_a_large_crop_is_seen_though_the_whole_hardly_differs(size: int, factor: float) -> None:
    box = (60, 40, 460, 340)
    large = round(400 * factor), round(300 * factor)
    plain, worded = (image.resize(large) for image in (SCENE.crop(box), _worded(SCENE.crop(box), size)))
    assert difference(np.asarray(plain), np.asarray(worded)) < Picture(worded).tolerance, "so the whole cannot tell"
    assert fits(Picture(plain), SCENE, box) is not None
    assert fits(Picture(worded), SCENE, box) is None


@given(boxes(least=32), st.sampled_from(sorted(CHANGES)))
@settings(max_examples=10)
def test_changed_crops_of_any_box_are_none(box: pictures.Box, name: str) -> None:
    crop = seen(box)
    assume(Picture(crop).contrast > 25)
    shown = CHANGES[name](crop)
    assume(shown.size != crop.size or difference(np.asarray(shown.convert("RGB")), np.asarray(crop)) > 8)
    assert locate(shown, SCENE, [box], searching=False) is None


def test_another_picture_is_no_crop() -> None:
    other = pictures.scene(200, 150, seed=9)
    assert locate(other, SCENE) is None
    assert locate(Image.new("RGB", (50, 40), (7, 7, 7)), SCENE) is None
    assert locate(pictures.scene(700, 700, seed=9), SCENE) is None, "larger than the original"


# --- places that are not certain --------------------------------------------------------------------------------------


def test_a_tile_that_is_there_again_and_again_is_in_no_certain_place() -> None:
    tiles = pictures.tiles()
    shown = tiles.crop((85, 170, 150, 240))
    place = locate(shown, tiles)
    assert place is not None
    assert not place.certain
    assert tiles.crop(place.box).tobytes() == shown.tobytes(), "one of the places, at least"


@pytest.mark.parametrize("factor", [0.7, 2, 3.3])
@pytest.mark.parametrize(("side", "box"), [(80, (85, 170, 170, 240)), (16, (20, 30, 220, 190))])
def test_nor_is_it_when_it_was_resized(factor: float, side: int, box: pictures.Box) -> None:
    tiles = pictures.tiles(480 // side, side)
    crop = tiles.crop(box)
    place = locate(crop.resize((round(crop.width * factor), round(crop.height * factor))), tiles)
    assert place is None or not place.certain, "a period that is short against the crop, and one that is not"


def test_what_the_code_named_and_the_pixels_confirm_is_certain_even_there() -> None:
    tiles, box = pictures.tiles(), (85, 170, 150, 240)
    for shown in (tiles.crop(box), tiles.crop(box).resize((130, 140))):
        place = locate(shown, tiles, [box])
        assert place is not None
        assert (place.box, place.certain) == (box, True)


def test_one_colour_is_in_no_certain_place_whatever_the_code_says() -> None:
    original = SCENE.copy()
    original.paste((40, 90, 200), (100, 100, 200, 200))
    shown = original.crop((110, 110, 170, 160))
    assert locate(shown, original) is None
    named = locate(shown, original, [(110, 110, 170, 160)])
    assert named is not None
    assert not named.certain
    assert locate(shown.resize((120, 100)), original, [(110, 110, 170, 160)]) is None


def test_a_picture_in_two_originals_is_in_no_certain_place() -> None:
    other = pictures.scene(480, 360, seed=3)
    shown = SCENE.crop((30, 40, 150, 140))
    alone = find_crop(shown, [other, SCENE], [(), ()])
    assert alone is not None
    assert (alone.image, alone.certain) == (1, True)
    twice = find_crop(shown, [SCENE, SCENE], [(), ()])
    assert twice is not None
    assert not twice.certain


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(-1, 0, 10, 10), (0, 0, 0, 5), (5, 5, 4, 9), (0, 0, WIDTH + 1, 10), (10**9, 0, 1, 1)])
def test_boxes_beyond_the_picture_fit_nothing(box: pictures.Box) -> None:
    assert fits(Picture(SCENE.crop((0, 0, 10, 10))), SCENE, box) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 300), (7, 7)])
def test_tiny_pictures_end_in_an_answer(size: tuple[int, int]) -> None:
    box = (60, 20, 60 + size[0], 20 + size[1])
    place = locate(SCENE.crop(box), SCENE, [box])
    assert place is None or place.box == box
    locate(SCENE.crop(box), SCENE)
    locate(SCENE, SCENE.crop(box))


def test_the_whole_picture_is_a_crop_at_any_size() -> None:
    for size in ((WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 3), (900, 100)):
        place = locate(SCENE.resize(size), SCENE, searching=False)
        assert place is not None
        assert place.box == (0, 0, WIDTH, HEIGHT)


def test_the_filters_of_opencv_are_those_of_opencv() -> None:
    part = SCENE.crop((10, 20, 90, 70))
    pixels = cv2.resize(np.asarray(part), (200, 100), interpolation=cv2.INTER_LANCZOS4)
    assert np.array_equal(np.asarray(resampled(part, (200, 100), "opencv lanczos4")), pixels)
