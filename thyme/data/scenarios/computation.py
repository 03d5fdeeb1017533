"""(e) Computation without a picture (paper section 4.1: short programs for mathematics)."""

from __future__ import annotations

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Scenario, as_it_is
from thyme.data.scenarios.computed import equals_answer, not_typed_in

COMPUTATION = Scenario(
    name="computation",
    title="computation",
    needs=frozenset({"text_only", "answer"}),
    prepare=as_it_is,
    prompt="computation.txt",
    corrects_errors=True,
    rules=(rules.with_code, rules.not_before, not_typed_in, equals_answer),
)
