"""Characters that nobody sees, or that show a text in another order than is trained on: pages name them."""

from __future__ import annotations

import json
import re
from typing import Any

from thyme.data.drafts import Draft

_UNSEEN = re.compile(
    "["
    "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f"  # controls, but for tab and the ends of lines
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # directions: what comes behind is shown in another order
    "\\u00ad\\u115f\\u1160\\u180e\\u200b\\u2060-\\u2064\\u3164\\ufeff\\uffa0"  # no width, or no ink
    "\\U000e0000-\\U000e007f"  # tags: letters without a shape
    "]"
)
"""Joiners (U+200C, U+200D) are not among them: scripts and emoji are written with them."""


def named(text: str) -> str:
    """A text with the names of such characters in their places, as in ``⟨U+202E⟩``."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def named_in(draft: Draft) -> Draft:
    """A draft for a page: all its texts as `named` gives them, and without what is trained on, which says the same."""
    shown = draft.model_copy(update={"trajectory": None})
    content = json.loads(shown.model_dump_json())
    changed = _walked(content)
    return shown if changed == content else Draft.model_validate_json(json.dumps(changed))


def _walked(value: Any) -> Any:
    if isinstance(value, str):
        return named(value)
    if isinstance(value, dict):
        return {named(key): _walked(one) for key, one in value.items()}
    return [_walked(one) for one in value] if isinstance(value, list) else value
