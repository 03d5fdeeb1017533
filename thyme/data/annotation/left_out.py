"""Why something of a file is not taken, or not written, and what came out of a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from thyme.data.annotation.records import Annotation
from thyme.errors import EncodeError

NO_PICTURE, OTHER_SIZE, NO_BOX, BAD_BOX = "no_picture", "other_size", "no_box", "bad_box"
CANCELLED, NO_RECORD, TWICE, NOT_ASKED = "cancelled", "no_record", "twice", "not_asked_for"
MEANINGS: Final[dict[str, str]] = {
    NO_PICTURE: "names no picture of the collection, or several",
    OTHER_SIZE: "was made on a picture of other proportions; was that one turned?",
    NO_BOX: "has no box, which the format needs",
    BAD_BOX: "marks no upright rectangle within its picture",
    CANCELLED: "was skipped by whoever was to annotate it",
    NO_RECORD: "is not what the format says",
    TWICE: "is there twice",
    NOT_ASKED: "is in a state that was not asked for",
}
"""Why something is left out, and what that means."""


class ExchangeError(EncodeError):
    """One thing of a file cannot be taken; `reason` is one of `MEANINGS`."""


Found: TypeAlias = tuple[str, Annotation | ExchangeError, bool]
"""A place in a file, what stands there or why it cannot be taken, and whether it was changed since it was written."""


@dataclass(frozen=True)
class LeftOut:
    """Something that was not taken, or not written."""

    where: str
    """Which: its place in the file, or its id."""
    reason: str
    """One of `MEANINGS`."""
    note: str = ""


@dataclass(frozen=True)
class Taken:
    """What came out of a file."""

    annotations: tuple[Annotation, ...]
    left_out: tuple[LeftOut, ...] = ()
    unchecked: int = 0
    """Of the annotations, how many were changed since they were written, so that their checks hold no longer."""

    @classmethod
    def of(cls, found: Iterable[Found]) -> Taken:
        """Sort what was found in a file into what is taken and what is not."""
        annotations: dict[str, Annotation] = {}
        left: list[LeftOut] = []
        changed_ones = 0
        for where, one, changed in found:
            if isinstance(one, ExchangeError):
                left.append(LeftOut(where, one.reason, str(one)))
            elif one.id in annotations:
                left.append(LeftOut(where, TWICE, one.id))
            else:
                annotations[one.id] = one
                changed_ones += changed
        return cls(tuple(annotations.values()), tuple(left), changed_ones)
