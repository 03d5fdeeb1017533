"""Every reason for which a stage rejects has a meaning, and the documentation lists it; none is listed in vain."""

from __future__ import annotations

import ast
from pathlib import Path

from thyme.data import leaks
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.reasons import ACCEPT, LEAKS, PREPARE, REASONS

ROOT = Path(__file__).parents[3]


def used() -> set[str]:
    """First arguments of every refusal in the scenarios' source; of a choice between two, both."""
    found = set()
    for path in sorted((ROOT / "thyme/data/scenarios").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                found |= {c.value for c in ast.walk(node.args[0]) if isinstance(c, ast.Constant)}
    return found


def test_every_reason_has_a_meaning_and_every_meaning_a_reason() -> None:
    needs = {f"lacks_{fact}" for scenario in SCENARIOS.values() for fact in scenario.needs}
    assert used() | needs == set(PREPARE) | set(ACCEPT)
    assert {leaks.NAME, leaks.COMMENT, leaks.PROMPT, leaks.TOLD} == set(LEAKS)


def test_the_documentation_lists_every_reason_and_every_scenario() -> None:
    text = (ROOT / "docs/data_scenarios.md").read_text(encoding="utf-8")
    assert [reason for reason, meaning in REASONS.items() if f"| `{reason}` | {meaning} |" not in text] == []
    assert [name for name in SCENARIOS if f"| `{name}` |" not in text] == []
