"""(b) Crop: something small is cut out and looked at closely (paper section 4.1, from V* with its boxes)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Refusal, Scenario
from thyme.data.scenarios.boxes import area, boxes_of
from thyme.data.scenarios.crops import covers
from thyme.types import Problem

LARGEST = 0.25
"""Share of the picture that a target may fill; of a larger one nothing is gained by cutting it out."""


def prepare(problem: Problem, rng: random.Random) -> Prepared | Refusal:
    """Leave the picture as it is, and tell the boxes of the targets."""
    width, height = problem.images[0].size
    boxes = boxes_of(problem)
    if not boxes:
        return Refusal("no_box", "no box of the problem has an area inside its picture")
    if any(area(box) > LARGEST * width * height for box in boxes):
        return Refusal("large_target", f"a target fills more than {LARGEST:.0%} of the picture")
    return Prepared(problem, {"boxes": [list(box) for box in boxes]})


CROP = Scenario(
    name="crop",
    title="crop of something small",
    needs=frozenset({"image", "box"}),
    prepare=prepare,
    prompt="crop.txt",
    rules=(rules.with_code, rules.not_before, covers),
)
