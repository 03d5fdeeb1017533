"""(d) Low contrast, raised by code (paper section 4.1)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Refusal, Scenario, range_of
from thyme.data.scenarios.clearer import raised
from thyme.data.scenarios.pictures import paled, with_image
from thyme.types import Problem

KEPT = (0.08, 0.2)
"""Least and greatest share of the contrast that is kept."""


def prepare(problem: Problem, rng: random.Random) -> Prepared | Refusal:
    """Lower the contrast.

    A source in which another share is fit names least and greatest in ``meta["prepare"]["contrast"]``.
    """
    if len(problem.images) != 1:
        return Refusal("several_images", "it would not be said which one is paled")
    least, greatest = range_of(problem, "contrast", KEPT)
    kept = round(rng.uniform(least, greatest), 4)
    return Prepared(with_image(problem, paled(problem.images[0].image, kept), contrast=kept), {"contrast": kept})


CONTRAST = Scenario(
    name="contrast",
    title="low contrast",
    needs=frozenset({"image"}),
    prepare=prepare,
    makes_pictures=True,
    prompt="contrast.txt",
    rules=(rules.with_code, rules.not_before, raised),
)
