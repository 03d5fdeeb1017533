"""(a) No code needed: what can be read at sight is answered without code (paper section 4.1)."""

from __future__ import annotations

import random

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Prepared, Scenario
from thyme.types import Problem


def prepare(problem: Problem, rng: random.Random) -> Prepared:
    """Leave the problem as it is; there is nothing to tell."""
    return Prepared(problem)


NO_CODE = Scenario(
    name="no_code",
    title="no code needed",
    needs=frozenset({"image", "answer"}),
    prepare=prepare,
    prompt="no_code.txt",
    rules=(rules.without_code,),
)
