"""(f) Further enhancement: first a larger region around the target, then the target (paper section 4.1)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Refusal, Scenario, range_of
from thyme.data.scenarios.boxes import area, boxes_of, widened
from thyme.data.scenarios.crops import loosely_then_tightly
from thyme.types import Problem

FACTORS = (2.5, 4.0)
"""Least and greatest ratio of the sides of the larger region to those of the target."""
LARGEST = 0.5
"""Share of the picture that the larger region may fill."""


def prepare(problem: Problem, rng: random.Random) -> Prepared | Refusal:
    """Tell the target's box and a larger one around it.

    A source in which other ratios are fit names least and greatest in ``meta["prepare"]["factors"]``.
    """
    boxes = boxes_of(problem)
    if len(boxes) != 1:
        return Refusal("boxes" if boxes else "no_box", "two looks at one target need exactly one box")
    size = problem.images[0].size
    larger = widened(boxes[0], size, rng, range_of(problem, "factors", FACTORS))
    if larger is None or area(larger) > LARGEST * size[0] * size[1]:
        return Refusal("large_target", "the target leaves no room for a first look that is clearly wider")
    return Prepared(problem, {"boxes": [list(boxes[0])], "larger": list(larger)})


ENHANCEMENT = Scenario(
    name="enhancement",
    title="further enhancement in a second round",
    needs=frozenset({"image", "box"}),
    prepare=prepare,
    prompt="enhancement.txt",
    rules=(rules.with_code, rules.not_before, loosely_then_tightly),
)
