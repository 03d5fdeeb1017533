"""Every reason of a rejection is told in the document, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from thyme.data.stages import reasons

DOCUMENT = Path(__file__).parents[3] / "docs" / "data_teachers.md"


def test_the_document_lists_every_reason_with_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == reasons.REASONS


def test_every_constant_is_listed() -> None:
    constants = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert constants == set(reasons.REASONS)
