"""(a) No code needed: what can be read at sight is answered without code (paper section 4.1)."""

from __future__ import annotations

from thyme.data.scenarios import rules
from thyme.data.scenarios.base import Scenario, as_it_is

NO_CODE = Scenario(
    name="no_code",
    title="no code needed",
    needs=frozenset({"image", "answer"}),
    prepare=as_it_is,
    prompt="no_code.txt",
    rules=(rules.without_code,),
)
