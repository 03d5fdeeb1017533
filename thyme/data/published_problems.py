"""Rows of the published Thyme-RL data as problems.

A row has four columns: ``messages`` (a list of ``{role, content}``: the system's and the user's turn), ``images`` (a
list of base64 texts, nested in lists), ``solution`` (the reference answer) and ``question`` (the question alone). The
messages hold the authors' own prompt around that question; a problem is asked with this package's prompts instead, so
only the question is taken. Boxes and categories of the authors' annotation are not published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thyme.data.published import MISSING_FIELD, row_image, row_images, row_text
from thyme.errors import EncodeError
from thyme.markup import IMAGE, extract_answer
from thyme.types import Problem

PROBLEM_COLUMNS: Final = ("images", "solution", "question")
"""Columns that are read."""


def to_problem(row: Mapping[str, Any], *, name: str, folder: Path | None = None, pixels: bool = True) -> Problem:
    """Make a problem of a row.

    Args:
        row: ``images``, ``solution`` and ``question``; images as `thyme.data.published.to_trajectory` takes them.
        name: Identifier of the problem, which errors name too.
        folder: Where paths of images start, and which they cannot leave; None: no image is a path.
        pixels: Whether to decode the images.

    Raises:
        EncodeError: The row cannot be used; `reason` says why, in one word.
    """
    question = row_text(row, "question", name).replace(IMAGE, "").strip()
    solution = row_text(row, "solution", name).strip()
    if not question:
        raise EncodeError(f"{name}: 'question' is missing or no text", reason=MISSING_FIELD)
    entries = row_images(row, "images")
    images = tuple(row_image(entry, f"{name}, image {i + 1}", folder, pixels) for i, entry in enumerate(entries))
    return Problem(id=name, question=question, images=images, answer=extract_answer(solution) or solution)
