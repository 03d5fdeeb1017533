"""The same sets as Hugging Face has them: other names of columns, options in a list or in the question's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from thyme.eval.benchmarks import cells
from thyme.eval.benchmarks.base import Row

_NAMES: Mapping[str, tuple[str, ...]] = {
    "index": ("idx", "id"),
    "question": ("text",),
    "answer": ("label",),
    "category": ("sub_task", "tag"),
    "l2-category": ("l2_category", "subcategory"),
}
"""Column of VLMEvalKit's, and what others call it."""
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LINE = re.compile(r"[ \t]*\(?([A-Z])[).:][ \t]+(\S.*)")
_MARK = re.compile(r"(?:^|[;,\n])[ \t]*\(?([A-Z])[).:][ \t]*")
_ANNOUNCEMENT = re.compile(r"\n?[ \t]*Options:[ \t]*(?=\(?A[).:])")


def as_vlmevalkit(row: Row) -> dict[str, Any]:
    """A row with VLMEvalKit's columns; what has them already stays as it is."""
    found = dict(row)
    for column, others in _NAMES.items():
        if cells.optional(found, column) is None:
            found[column] = next((found[other] for other in others if cells.optional(found, other)), None)
    if found["index"] is None and (number := cells.optional(found, "question_id")) is not None:
        found["index"] = f"{cells.optional(found, 'category') or ''}/{number}".lstrip("/")
    if found["index"] is None and "index" not in row:
        found["index"] = found.get(cells.ROW_NUMBER)
    if answer := _BRACKETED.fullmatch(str(found["answer"] or "").strip()):
        found["answer"] = answer.group(1)
    if not cells.options(found):
        _take_options(found)
    return found


def _take_options(row: dict[str, Any]) -> None:
    """Options of a list, of one text, or of the question, into columns of their own."""
    if isinstance(choices := row.get("choices"), list | tuple) and choices:  # BLINK, whose prompt has the whole context
        row |= dict(zip(ascii_uppercase, map(str, choices), strict=False))
        row["question"] = listed_in(cells.text(row, "prompt", "question"))[0]
    elif (option := cells.optional(row, "option")) is not None:  # WeMath
        row |= _marked(option)
    elif (question := cells.optional(row, "question")) is not None:  # V*, RealWorldQA, MMStar
        row["question"], options = listed_in(question)
        row |= options


def listed_in(question: str) -> tuple[str, dict[str, str]]:
    """A question without the options that it lists, and those by letter.

    Options have a line each (``(A) rubber``, ``A. rubber``) or stand behind ``Options:`` (``A: rubber, B: cotton``);
    what follows them is a request for a form of the answer, and is left out with them. A question without such a list
    is given back as it is.
    """
    if (found := _ANNOUNCEMENT.search(question)) is not None and (options := _marked(question[found.end() :])):
        return question[: found.start()].rstrip(), options
    lines = question.splitlines()
    named = [_LINE.fullmatch(line) for line in lines]
    places = [place for place, match in enumerate(named) if match]
    options = {match.group(1): match.group(2).strip() for match in named if match}
    if not _in_order("".join(options)) or places != list(range(places[0], places[0] + len(options))):
        return question, {}
    return "\n".join(lines[: places[0]]).rstrip(), options


def _marked(text: str) -> dict[str, str]:
    """Options of ``A. 12; B. 24`` or ``A: a cat., B: a dog.``; nothing where the letters are not in order."""
    found = list(_MARK.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    options = {match.group(1): text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)}
    return options if len(options) == len(found) and _in_order("".join(options)) else {}


def _in_order(letters: str) -> bool:
    return len(letters) > 1 and ascii_uppercase.startswith(letters)
