"""Rows of the published Thyme-RL data as problems, and back.

A row has four columns: ``messages`` (a list of ``{role, content}``: the system's and the user's turn), ``images`` (a
list of base64 texts, nested in lists), ``solution`` (the reference answer) and ``question`` (the question alone). The
messages hold the authors' own prompt around that question; a problem is asked with this package's prompts instead, so
only the question is taken. Boxes and categories of the authors' annotation are not published.

Rows that this package writes have a fifth column, ``record``: JSON with what the four cannot hold (id, options,
category, box and whatever else is in `Problem.meta`). Readers of the four columns never see it; `to_problem` does.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from thyme.data.export.shards import RowShards
from thyme.data.factory import png
from thyme.data.published import IMAGE_DAMAGED, MISSING_FIELD, image_entries, row_images, row_text
from thyme.errors import EncodeError, MissingExtraError
from thyme.images import MAX_PIXELS
from thyme.markup import IMAGE, extract_answer
from thyme.prompts import PromptSet
from thyme.rewards.answer import option
from thyme.types import ImageRecord, Problem

PROBLEM_COLUMNS: Final = ("images", "solution", "question")
"""Columns that are read."""
RECORD: Final = "record"
"""Column of what the published ones cannot hold; read where it is there."""
BAD_RECORD: Final = "bad_record"
"""That column holds something else."""


def to_problem(
    row: Mapping[str, Any],
    *,
    name: str,
    folder: Path | None = None,
    pixels: bool = True,
    max_pixels: int = MAX_PIXELS,
    known: Sequence[ImageRecord] = (),
) -> Problem:
    """Make a problem of a row.

    Args:
        row: ``images``, ``solution`` and ``question``; images as `thyme.data.published.to_trajectory` takes them.
            ``record``, where it is there, says the rest, and the question without its options.
        name: Identifier of the problem where no ``record`` has one; errors name it too.
        folder: Where paths of images start, and which they cannot leave; None: no image is a path.
        pixels: Whether to decode the images.
        max_pixels: Largest image that is decoded, width times height.
        known: What its images were found to be before, where nothing is to be decoded again.

    Raises:
        EncodeError: The row cannot be used; `reason` says why, in one word.
    """
    question = row_text(row, "question", name).replace(IMAGE, "").strip()
    solution = row_text(row, "solution", name).strip()
    if not question:
        raise EncodeError(f"{name}: 'question' is missing or no text", reason=MISSING_FIELD)
    entries = image_entries(row, "images")
    images = row_images(entries, name, folder, pixels=pixels, max_pixels=max_pixels, known=known)
    told = {"id": name, "question": question, "answer": extract_answer(solution) or solution}
    rest = _rest(row.get(RECORD), name)
    try:
        return Problem(**{**told, **rest}, images=images)
    except (TypeError, ValueError) as error:
        raise EncodeError(f"{name}: '{RECORD}' is none of a problem ({error})", reason=BAD_RECORD) from error


def _rest(value: Any, name: str) -> dict[str, Any]:
    """What a row's ``record`` says; nothing where there is none."""
    if value is None or value == "":
        return {}
    try:
        rest = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise EncodeError(f"{name}: '{RECORD}' is not JSON ({error})", reason=BAD_RECORD) from error
    if not isinstance(rest, Mapping) or "images" in rest:
        raise EncodeError(f"{name}: '{RECORD}' is no object of a problem without images", reason=BAD_RECORD)
    return dict(rest)


def to_row(problem: Problem, words: PromptSet) -> dict[str, Any]:
    """Make a row of a problem.

    Of a multiple-choice problem the options stand behind the question, one a line, and the solution is the letter, as
    who reads the four published columns needs it; `to_problem` gives the problem back as it was.

    Args:
        problem: With an answer; its images loaded.
        words: Of the messages.

    Raises:
        EncodeError: It has no answer, an image without pixels, or options of which none is the answer.
    """
    if problem.answer is None:
        raise EncodeError(f"{problem.id}: it has no answer, which is the row's solution", reason=MISSING_FIELD)
    system, user = words.render(problem, [image.size for image in problem.images])
    turns = [("system", system), ("user", user)]
    rest = problem.model_dump(mode="json", exclude={"images"}, exclude_defaults=True)
    return {
        "messages": [{"role": role, "content": text} for role, text in turns if text],
        "images": [base64.b64encode(image_file(image, problem.id)).decode("ascii") for image in problem.images],
        "solution": _solution(problem),
        "question": "\n".join([problem.question, *_lettered(problem)]),
        RECORD: json.dumps(rest, ensure_ascii=False),
    }


def _lettered(problem: Problem) -> list[str]:
    return [f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, problem.choices, strict=False)]


def _solution(problem: Problem) -> str:
    answer = problem.answer or ""
    if not problem.choices:
        return answer
    place = option(problem, answer)
    if place is None:
        raise EncodeError(f"{problem.id}: the answer {answer!r:.60} is none of its options", reason=MISSING_FIELD)
    return string.ascii_uppercase[place]


def image_file(image: ImageRecord, id: str) -> bytes:
    """The file of a picture: its own, else its pixels as PNG.

    Raises:
        EncodeError: Neither is at hand.
        MissingExtraError: A library of the extra ``data`` is not installed.
    """
    if image.encoded is not None:
        return image.encoded
    if not image.loaded or not png.can_encode(image):
        raise EncodeError(f"{id}: image {image.id} has no pixels that can be written", reason=IMAGE_DAMAGED)
    return png.encode(image)


def problem_features() -> Any:
    """The columns, as `datasets` knows them.

    Raises:
        MissingExtraError: `datasets` is not installed.
    """
    try:
        from datasets import Features, List, Value
    except ImportError as error:
        raise MissingExtraError("writing the published layout", "data") from error
    text = Value("string")
    return Features(
        messages=List({"role": text, "content": text}),
        images=List(Value("large_string")),
        solution=text,
        question=text,
        **{RECORD: text},
    )


class ProblemShards:
    """Problems as Parquet files of the published layout; some dozen megabytes of rows are in memory at once."""

    def __init__(self, folder: Path, words: PromptSet | None = None) -> None:
        """Begin.

        Args:
            folder: Empty, or without ``data``.
            words: Of the messages; None are the package's own.
        """
        self._words = words or PromptSet.load()
        self._shards = RowShards(folder, problem_features())

    def add(self, problem: Problem) -> None:
        """Write a problem; see `to_row`.

        Raises:
            EncodeError: It cannot be a row.
            OSError: The disk is full.
        """
        row = to_row(problem, self._words)
        self._shards.add(row, sum(map(len, row["images"])) + 4096)

    def close(self) -> None:
        """Finish the files ``data/train-NNNNN-of-NNNNN.parquet``."""
        self._shards.close()
