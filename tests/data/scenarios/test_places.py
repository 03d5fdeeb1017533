"""Where a crop was cut out is told by few pixels or small copies; both agree, and code is walked as `ast` walks it."""

from __future__ import annotations

import ast
import io
import typing

import numpy as np
import pytest
from drafted import street
from PIL import Image

from thyme.data.drafts import Draft
from thyme.data.scenarios.places import SURE, likeness, where
from thyme.data.scenarios.spoken import spoken_boxes
from thyme.data.stages.base import Context
from thyme.data.stages.prepare import prepare
from thyme.data.syntax import below
from thyme.types import ImageRecord, Problem

BOX = (120, 90, 480, 350)


def photograph(seed: int = 0) -> Image.Image:
    """The street with the noise of a sensor."""
    pixels = np.asarray(street()).astype(np.int16) + np.random.default_rng(seed).integers(-9, 10, (600, 800, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_a_crop_as_it_is_is_found_among_boxes_that_are_nearly_its_own() -> None:
    picture = photograph()
    near = [(BOX[0] + x, BOX[1] + y, BOX[2] + x, BOX[3] + y) for x, y in ((30, 0), (0, 30), (-30, 5))]
    assert where(picture.crop(BOX), picture, [*near, BOX]) == BOX


def test_an_enlarged_crop_is_sure_to_be_its_place() -> None:
    picture = photograph()
    assert likeness(picture.crop(BOX).resize((1080, 780)), picture, BOX) >= SURE


def test_a_surface_of_one_colour_is_not_told_by_its_pixels() -> None:
    picture = Image.new("RGB", (800, 600), (200, 10, 10))
    picture.paste(photograph().crop((0, 0, 200, 600)), (600, 0))
    first, same = (0, 0, 100, 100), (200, 200, 300, 300)
    assert where(picture.crop(same), picture, [first, same]) == first  # nobody could tell


@pytest.mark.parametrize("scenario", ["rotation", "contrast", "crop"])
async def test_a_picture_that_was_made_is_encoded_once(scenario: str) -> None:
    image = ImageRecord.of(photograph())
    problem = Problem(id="p", question="?", images=(image,), answer="KX", meta={"box": [400, 120, 470, 160]})
    draft = Draft(id="d", scenario=scenario, seed=3, source="s", origin=problem, problem=problem)
    made = await prepare(draft, typing.cast(Context, None))
    assert isinstance(made, Draft)
    asked = made.problem.images[0]
    assert (asked.encoded is None) == (scenario == "crop")
    if asked.encoded is not None:
        with Image.open(io.BytesIO(asked.encoded)) as read:
            assert (read.format, read.mode, read.tobytes()) == (asked.format, asked.mode, asked.image.tobytes())


def test_boxes_are_read_beside_a_sum_that_is_too_deep_to_follow() -> None:
    code = f"total = {' + '.join(['1'] * 900)}\nimage.crop((10, 20, 30, 40))"
    assert (10, 20, 30, 40) in spoken_boxes([code], (100, 100))


def test_code_is_walked_as_ast_does() -> None:
    tree = ast.parse(
        "def f(a, *b, c=1):\n    return {**a, 'x': [i for i in b if i > c]}\nprint(f(*[1], c=(1, 2, 3, 4)))"
    )
    assert below(tree) == list(ast.walk(tree))
