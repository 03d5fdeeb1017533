"""(c) Rotation by a large angle, put right by code (paper section 4.1: random, 30 to 335 degrees)."""

from __future__ import annotations

import math
import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Refusal, Scenario, range_of
from thyme.data.scenarios.boxes import boxes_of
from thyme.data.scenarios.pictures import expanded, turned, turned_box, with_image
from thyme.data.scenarios.upright import upright
from thyme.images import MAX_PIXELS
from thyme.types import Problem

ANGLES = range(30, 336)
"""Degrees counter-clockwise by which a picture is turned."""
FILLS = ((0, 0, 0), (255, 255, 255), (128, 128, 128))
"""Colours of the corners, so that none tells that a picture was turned."""


def prepare(problem: Problem, rng: random.Random) -> Prepared | Refusal:
    """Turn the picture; tell the angle back, and where boxes lie now.

    A source that knows only some turns names them in ``meta["prepare"]["angles"]``.
    """
    if len(problem.images) != 1:
        return Refusal("several_images", "it would not be said which one is turned")
    angle = int(rng.choice(range_of(problem, "angles", ANGLES)))
    fill = rng.choice(FILLS)
    image = problem.images[0]
    if math.prod(expanded(image.size, angle)) > MAX_PIXELS:
        return Refusal("too_large", f"turned, it would have more than {MAX_PIXELS:,} pixels")
    picture = turned(image.image, angle, fill)
    moved = (turned_box(box, image.size, angle, picture.size) for box in boxes_of(problem))
    boxes = [list(box) for box in moved if box is not None]
    facts = {"boxes": boxes, "box": boxes[0]} if boxes else {}
    prepared = with_image(problem, picture, angle=angle, **facts)
    return Prepared(prepared, {"angle": angle, "back": (360 - angle) % 360, "boxes": boxes})


ROTATION = Scenario(
    name="rotation",
    title="rotation by a large angle",
    needs=frozenset({"image"}),
    prepare=prepare,
    makes_pictures=True,
    prompt="rotation.txt",
    rules=(rules.with_code, rules.not_before, upright),
)
