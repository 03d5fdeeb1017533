"""The embedded world: problems follow from split, seed, index and kind, and say where and what the plates are."""

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thyme.nano import world
from thyme.nano.world import CHARACTERS, COLORS, CROP, KINDS, SIDE, draw_scene, expression, problem, problems

IMAGE_KINDS = [kind for kind in KINDS if kind != "arithmetic"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_is_a_function_of_split_seed_index_and_kind(kind):
    first, again = problem("test", 5, 3, kind), problem("test", 5, 3, kind)
    assert first == again
    assert [i.id for i in first.images] == [i.id for i in again.images]


@pytest.mark.parametrize("kind", KINDS)
def test_splits_seeds_and_indices_give_other_problems(kind):
    drawn = [problem(*which, kind) for which in (("test", 5, 3), ("train", 5, 3), ("test", 6, 3), ("test", 5, 4))]
    shown = {(p.question, p.answer, tuple(i.id for i in p.images)) for p in drawn}
    assert len(shown) == 4
    assert len({p.id for p in drawn}) == 4


def test_streams_are_salted_by_split_whatever_the_seed():
    train = {world.stream("train", seed, index, "zoom").random() for seed in range(20) for index in range(20)}
    test = {world.stream("test", seed, index, "zoom").random() for seed in range(20) for index in range(20)}
    assert not train & test


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_scenes_are_large_and_answers_are_labels(kind):
    for index in range(3):
        made = problem("validation", 0, index, kind)
        assert made.images[0].size == (SIDE, SIDE)
        assert SIDE >= 1024
        for label in made.answer.split():
            assert len(label) == 2
            assert set(label) <= set(CHARACTERS)
        assert len(made.answer.split()) == (2 if kind == "two_round" else 1)
        assert all(color in made.question for color in made.meta["colors"])


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_the_box_holds_the_plate(kind):
    made = problem("validation", 1, 2, kind)
    image = made.images[0].image
    if kind == "contrast":
        contrast = made.meta["contrast"]
        pixels = (np.asarray(image, float) - 128) / contrast + 128
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    for box, color in zip(made.meta["boxes"], made.meta["colors"], strict=True):
        inside = np.asarray(image.crop(tuple(round(v) for v in box)), float).reshape(-1, 3)
        distance = np.abs(inside - COLORS[color]).max(1)
        assert (distance < (45 if kind == "contrast" else 8)).mean() > 0.4


def test_medium_asks_for_large_and_small_plates():
    asked = [problem("validation", 0, index, "medium").meta["large"][0] for index in range(24)]
    assert 6 <= sum(asked) <= 18


@pytest.mark.parametrize("style", ["large", "mixed", "small"])
def test_plates_are_apart_inside_and_of_different_colours(style):
    rng = random.Random(3)
    for _ in range(5):
        scene = draw_scene(rng, style)
        assert len({p.color for p in scene.plates}) == len(scene.plates) >= 2
        for plate in scene.plates:
            left, top, right, bottom = plate.box
            assert left >= 0
            assert top >= 0
            assert right <= SIDE
            assert bottom <= SIDE
        for one, other in combinations(scene.plates, 2):
            a, b = one.box, other.box
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_the_stated_crop_holds_a_small_plate_whole():
    rng = random.Random(4)
    for _ in range(20):
        for plate in draw_scene(rng, "small").plates:
            (x, y), half = plate.stated, CROP // 2
            left, top, right, bottom = plate.box
            assert 0 <= x - half <= left < right <= x + half <= SIDE
            assert 0 <= y - half <= top < bottom <= y + half <= SIDE


def test_a_turned_box_follows_the_image():
    canvas = Image.new("L", (SIDE, SIDE))
    box = [100.0, 200.0, 300.0, 250.0]
    canvas.paste(255, tuple(int(v) for v in box))
    for angle in (90, 180, 270):
        assert list(map(float, world.turned(canvas, angle).getbbox())) == world._turned_box(box, angle)


@given(st.integers())
@settings(deadline=None)
def test_expressions_are_worth_what_is_said(seed):
    text, value = expression(random.Random(seed))
    assert eval(text) == value  # arithmetic on literals that we made


def test_problems_alternate_kinds():
    assert [p.kind for p in problems("test", 0, 2, ("zoom", "arithmetic"))] == ["zoom", "arithmetic"] * 2
