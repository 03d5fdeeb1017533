"""(e) Complex operations on pictures: measuring, counting, comparing, drawing, several steps (paper section 4.1)."""

from __future__ import annotations

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Scenario, as_it_is
from thyme.data.scenarios.computed import something_new

OPERATIONS = Scenario(
    name="operations",
    title="complex operations on the picture",
    needs=frozenset({"image"}),
    prepare=as_it_is,
    prompt="operations.txt",
    corrects_errors=True,
    rules=(rules.with_code, something_new),
)
