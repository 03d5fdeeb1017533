"""Why an image is not taken into a collection."""

from __future__ import annotations

from typing import Final

SMALL, LARGE, UNREADABLE, CRASHED, LINK = "small", "too_large", "unreadable", "crashed", "link"
SAME, NEAR, BLURRED, TEXT = "same", "near_duplicate", "blurred", "text"

REASONS: Final[dict[str, str]] = {
    SMALL: "no side is longer than --min-side",
    LARGE: "it has more pixels than --max-pixels",
    UNREADABLE: "it is no picture, or it or its folder cannot be read with what is installed; the next run tries again",
    CRASHED: "decoding it ended the process, perhaps for want of memory; tried again by the next run",
    LINK: "it is a link that leads out of the folder",
    SAME: "it shows exactly the pixels of one that was taken",
    NEAR: "it shows nearly what one shows that was taken (--near)",
    BLURRED: "it is less sharp than --min-sharpness",
    TEXT: "text covers more of it than --max-text",
}
"""What each name means."""
AGAIN: Final = frozenset({UNREADABLE, CRASHED})
"""Those that another run may find otherwise."""
