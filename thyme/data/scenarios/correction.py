"""(f) Error correction: the first region is the wrong one, which is noticed and put right (paper section 4.1)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Refusal, Scenario
from thyme.data.scenarios.boxes import Box, area, boxes_of, elsewhere, inside
from thyme.data.scenarios.crop import LARGEST
from thyme.data.scenarios.crops import wrong_then_right
from thyme.types import Problem

MARGINS = (4.0, 2.0, 1.0)
"""Room that is kept between the wrong region and the target, in sides of the target; the first that can be had."""


def prepare(problem: Problem, rng: random.Random) -> Prepared | Refusal:
    """Tell the target's box and one as large that shows nothing of it."""
    boxes = boxes_of(problem)
    if len(boxes) != 1:
        return Refusal("boxes" if boxes else "no_box", "a wrong look at one target needs exactly one box")
    size = problem.images[0].size
    if area(boxes[0]) > LARGEST * size[0] * size[1]:
        return Refusal("large_target", f"the target fills more than {LARGEST:.0%} of the picture")
    places = (elsewhere(boxes[0], size, rng, [_kept_clear(boxes[0], size, margin)]) for margin in MARGINS)
    wrong = next((place for place in places if place is not None), None)
    if wrong is None:
        return Refusal("no_room", "nowhere in the picture is a region as large that shows nothing of the target")
    return Prepared(problem, {"boxes": [list(boxes[0])], "wrong": list(wrong)})


def _kept_clear(box: Box, size: tuple[int, int], margin: float) -> Box:
    """The target with a margin, as far as it lies in the picture."""
    x, y = round(margin * (box[2] - box[0])), round(margin * (box[3] - box[1]))
    return inside((box[0] - x, box[1] - y, box[2] + x, box[3] + y), size) or box


CORRECTION = Scenario(
    name="correction",
    title="a wrong look, corrected in a second round",
    needs=frozenset({"image", "box"}),
    prepare=prepare,
    prompt="correction.txt",
    corrects_errors=True,
    rules=(rules.with_code, rules.not_before, wrong_then_right),
)
