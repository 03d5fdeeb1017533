"""(e) Computation without a picture (paper section 4.1: short programs for mathematics)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Scenario
from thyme.data.scenarios.computed import equals_answer, not_typed_in
from thyme.types import Problem


def prepare(problem: Problem, rng: random.Random) -> Prepared:
    """Leave the problem as it is; there is nothing to tell."""
    return Prepared(problem)


COMPUTATION = Scenario(
    name="computation",
    title="computation",
    needs=frozenset({"text_only", "answer"}),
    prepare=prepare,
    prompt="computation.txt",
    corrects_errors=True,
    rules=(rules.with_code, rules.not_before, not_typed_in, equals_answer),
)
