"""(e) Complex operations on pictures: measuring, counting, comparing, drawing, several steps (paper section 4.1)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Scenario
from thyme.data.scenarios.computed import something_new
from thyme.types import Problem


def prepare(problem: Problem, rng: random.Random) -> Prepared:
    """Leave the problem as it is; there is nothing to tell."""
    return Prepared(problem)


OPERATIONS = Scenario(
    name="operations",
    title="complex operations on the picture",
    needs=frozenset({"image"}),
    prepare=prepare,
    prompt="operations.txt",
    corrects_errors=True,
    rules=(rules.with_code, something_new),
)
