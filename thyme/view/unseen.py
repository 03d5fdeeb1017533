"""Characters that nobody sees, or that show a text in another order than it has: views name them."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "["
    "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f"  # controls, but for tab and the ends of lines
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u206f"  # directions: what comes behind is shown in another order
    "\\u00ad\\u115f\\u1160\\u180e\\u200b\\u2060-\\u2064\\u3164\\ufeff\\uffa0"  # no width, or no ink
    "\\U000e0000-\\U000e007f"  # tags: letters without a shape
    "]"
)
"""Joiners (U+200C, U+200D) are not among them: scripts and emoji are written with them."""


def named(text: str) -> str:
    """A text with the names of such characters in their places, as in ``⟨U+202E⟩``."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)
