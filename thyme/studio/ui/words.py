"""What the pages say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from thyme.studio.models import ACCEPTED, DISPUTED, OPEN, REJECTED

STATES: Final = {OPEN: "open", ACCEPTED: "accepted", REJECTED: "rejected", DISPUTED: "disputed"}
VERDICTS: Final = {ACCEPTED: "accepted", REJECTED: "rejected"}
MINE: Final = {"reviewed": "reviewed by me", "leased": "with me now", "edited": "edited by me"}
BLOCKS: Final = {"text": "Reasoning", "code": "Code", "answer": "Answer"}
KEYS: Final = (
    ("A", "accept"),
    ("R", "reject, then a number for the reason and Enter"),
    ("E", "edit text and code"),
    ("S", "skip: give the record back and go on"),
    ("U", "undo your last verdict"),
    ("N", "next record, where you only look"),
    ("J K", "to the next and the previous step"),
    ("I", "images, at any zoom"),
    ("← →", "between images, where one is open"),
    ("+ - 0 1", "closer, wider, whole, pixel by pixel"),
    ("B", "boxes on the image"),
    ("T", "turn the image"),
    ("?", "these keys"),
)
"""Keys of the page of a record, and what they do."""
STRANGER: Final = "This studio is open to those who were invited. Open the link that you were given, or ask for one."
HEADINGS: Final = {401: "Not signed in", 403: "Not for you", 404: "Not here", 409: "Not now", 503: "It cannot be read"}
"""Of pages that say no, by status."""


def sentence(text: str) -> str:
    """A message as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def share(value: float | None) -> str:
    """A share in percent; a dash where there are no cases."""
    return "–" if value is None else f"{value:.0%}"


def moment(seconds: float | None) -> str:
    """A time of day, UTC; a dash where there is none."""
    return "–" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
