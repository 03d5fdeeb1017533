"""Which column of a row is which field of a problem, and what may stand in it."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from thyme.data.published import HALF_A_PAIR, MISSING_FIELD, image_entries, row_images
from thyme.data.sources.base import Facts
from thyme.errors import ConfigError, EncodeError
from thyme.images import MAX_PIXELS
from thyme.markup import IMAGE
from thyme.types import ImageRecord, Problem

Row = Mapping[str, Any]
Box = tuple[float, float, float, float]

BAD_BOX: Final = "bad_box"
"""A box that is none, or lies outside of its picture."""

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "image": ("image", "images", "image_path", "file_name", "bytes"),
    "question": ("question", "problem", "query", "conversations", "messages", "texts"),
    "answer": ("answer", "answers", "solution"),
    "choices": ("choices", "options"),
    "box": ("box", "boxes", "bbox", "bboxes"),
    "kind": ("kind", "category"),
}
"""Columns by field, the first that a row has, where the recipe names none."""

_FARTHEST: Final = 1e15
"""Pixels; beyond it nothing is a place in a picture."""
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")
"""Who asks and who answers in columns of conversations."""


@dataclass(frozen=True)
class Columns:
    """The columns of a source."""

    named: Mapping[str, str]
    """Those that the recipe names, by field."""
    question: str = ""
    """What is asked where a row has no question of its own."""
    max_pixels: int = MAX_PIXELS
    """Largest picture that is decoded, width times height."""

    def check(self, present: Iterable[str], where: str) -> None:
        """Compare what the recipe names with what there is.

        Raises:
            ConfigError: A field that no problem has, or a column that is not there.
        """
        if unknown := sorted(set(self.named) - set(USUAL)):
            raise ConfigError(f"columns.{unknown[0]}: no such field; fields are {', '.join(USUAL)}")
        known = list(present)
        for field, column in self.named.items():
            if column not in known:
                raise ConfigError(f"columns.{field}: {where} has no column '{column}', but {', '.join(known)}")

    def images_of(self, present: Iterable[str]) -> str | None:
        """Column of the images; the one that is worth not reading."""
        return self.column("image", set(present))

    def column(self, field: str, present: Row | set[str]) -> str | None:
        """Column of a field; None where there is none."""
        if field in self.named:
            return self.named[field]
        return next((column for column in USUAL[field] if column in present), None)

    def cell(self, field: str, row: Row) -> Any:
        """What stands in a row for a field; None where nothing does."""
        column = self.column(field, row)
        return None if column is None else row.get(column)

    def facts(self, row: Row, images: int | None = None) -> Facts:
        """Facts of a row.

        Args:
            row: Without its images where `images` says how many they are.
            images: Their number, where it is known.
        """
        if images is None:
            column = self.column("image", row)
            images = 0 if column is None else len(image_entries(row, column))
        box = self.cell("box", row)
        return Facts(
            images=images,
            answer=self._answer(row) is not None,
            box=box is not None and box not in ("", [], ()),
            kind=text_of(self.cell("kind", row)) or "",
        )

    def problem(
        self, row: Row, *, id: str, label: str, folder: Path | None, known: Sequence[ImageRecord] = ()
    ) -> Problem:
        """The problem of a row, its images decoded.

        Args:
            row: With its images: base64 text, data URLs, bytes, or paths.
            id: Of the problem.
            label: What errors call the row.
            folder: Where paths start, and which they cannot leave; None: no image is a path.
            known: What its images were found to be before, where nothing is to be decoded again.

        Raises:
            EncodeError: The row cannot be used.
        """
        question = self._question(row)
        if not question:
            raise EncodeError(f"{label} has no question, and the source has none for all", reason=MISSING_FIELD)
        answer, choices = self._answer(row), self._choices(row)
        if any(HALF_A_PAIR.search(text) for text in (question, answer or "", *choices)):
            raise EncodeError(f"{label} holds half a surrogate pair, which is no text", reason=MISSING_FIELD)
        column = self.column("image", row)
        entries = [] if column is None else image_entries(row, column)
        images = row_images(entries, label, folder, max_pixels=self.max_pixels, known=known)
        boxes = boxes_in(self.cell("box", row), images, label)
        return Problem(
            id=id,
            question=question,
            images=images,
            answer=answer,
            choices=choices,
            kind=text_of(self.cell("kind", row)) or "",
            meta={"box": boxes[0], "boxes": boxes} if boxes else {},
        )

    def _question(self, row: Row) -> str:
        value = self.cell("question", row)
        said = turn_of(value, _ASKING) if isinstance(value, Sequence) and not isinstance(value, str) else text_of(value)
        return (said or self.question).replace(IMAGE, "").strip()

    def _answer(self, row: Row) -> str | None:
        value = self.cell("answer", row)
        if value is None:
            turns = self.cell("question", row)
            said = turn_of(turns, _ANSWERING) if isinstance(turns, Sequence) and not isinstance(turns, str) else None
            return said.strip() or None if said else None
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = next(iter(value), None)
        return text_of(value)

    def _choices(self, row: Row) -> tuple[str, ...]:
        value = self.cell("choices", row)
        if value is None:
            letters = (text_of(row.get(letter)) for letter in string.ascii_uppercase if letter in row)
            return tuple(option for option in letters if option is not None)
        value = parsed(value)
        if isinstance(value, Mapping):
            value = list(value.values())
        if not isinstance(value, Sequence) or isinstance(value, str):
            return ()
        return tuple(option for option in map(text_of, value) if option is not None)


def text_of(value: Any) -> str | None:
    """Text of a cell; None where there is none. Numbers become text, whole ones without a point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps, as pandas writes it
    return str(value).strip() or None


def turn_of(turns: Any, roles: Sequence[str]) -> str | None:
    """What was first said in one of these roles: ``{from, value}``, ``{role, content}`` or ``{user, assistant}``."""
    for turn in turns:
        if not isinstance(turn, Mapping):
            continue
        if str(turn.get("from", turn.get("role"))) in roles:
            return _content(turn.get("value", turn.get("content")))
        for role in roles:
            if role in turn:
                return _content(turn[role])
    return None


def _content(value: Any) -> str | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(str(part.get("text") or "") for part in value if isinstance(part, Mapping))
    return text_of(value)


def parsed(value: Any) -> Any:
    """A cell that holds JSON as text, read; any other as it is."""
    if isinstance(value, str) and value.strip()[:1] in {"[", "{"}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


_CORNERS: Final[Sequence[Callable[[Mapping[str, Any]], Sequence[Any]]]] = (
    lambda b: (b["x1"], b["y1"], b["x2"], b["y2"]),
    lambda b: (b["left"], b["top"], b["right"], b["bottom"]),
    lambda b: (b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]),
    lambda b: (b["x"], b["y"], b["x"] + b["w"], b["y"] + b["h"]),
)


def boxes_of(value: Any, label: str) -> list[Box]:
    """The boxes of a cell: left, top, right, bottom in pixels; one or several, also as JSON text or with names.

    Raises:
        EncodeError: It holds something else.
    """
    value = parsed(value)
    if value is None or value in ("", [], ()):
        return []
    several = isinstance(value, Sequence) and not isinstance(value, str) and not _is_number(value[0])
    return [_box(one, label) for one in (value if several else [value])]


def boxes_in(value: Any, images: Sequence[ImageRecord], label: str) -> list[tuple[int, int, int, int]]:
    """The boxes of a cell, as far as they lie in the first picture; none where there is no picture.

    Raises:
        EncodeError: It holds something else, or a box that lies outside.
    """
    found = boxes_of(value, label)
    return [clipped(box, images[0].size, label) for box in found] if images else []


def _box(value: Any, label: str) -> Box:
    if isinstance(value, Mapping):
        value = next((corners for read in _CORNERS if (corners := _tried(read, value)) is not None), value)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4 or not all(map(_is_number, value)):
        raise EncodeError(f"{label}: a box is left, top, right, bottom in pixels, not {value!r:.60}", reason=BAD_BOX)
    left, top, right, bottom = map(float, value)
    return left, top, right, bottom


def _tried(read: Callable[[Mapping[str, Any]], Sequence[Any]], box: Mapping[str, Any]) -> Sequence[Any] | None:
    try:
        return read(box)
    except (KeyError, TypeError):
        return None


def _is_number(value: Any) -> bool:
    """Whether it is a number that can be a place in a picture; JSON can hold whole ones that no float can."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_FARTHEST < value < _FARTHEST


def clipped(box: Box, size: tuple[int, int], label: str) -> tuple[int, int, int, int]:
    """The part of a box that lies in the picture, whole pixels.

    Raises:
        EncodeError: None does.
    """
    width, height = size
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[2])), min(height, round(box[3]))
    if left >= right or top >= bottom:
        raise EncodeError(f"{label}: the box {box} is not in its picture of {width} x {height}", reason=BAD_BOX)
    return left, top, right, bottom
