"""Annotations as problems that are trained on and evaluated, with box and category kept."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from thyme.data.annotation.records import Annotation
from thyme.types import ImageRecord, Problem

ROWS: Final = "train.jsonl"


def to_problem(annotation: Annotation, image: ImageRecord) -> Problem:
    """The problem that an annotation asks.

    The reference of a multiple-choice question is the letter of its option, as the options are shown: a letter cannot
    be taken for another option's text. ``meta`` has ``box`` (and ``boxes``: all of them) in pixels of the image.

    Args:
        annotation: With question, answer and box.
        image: Its image, whole or without its pixels.
    """
    box = list(annotation.box) if annotation.box is not None else None
    answer = annotation.answer
    if annotation.choices and answer in annotation.choices:
        answer = string.ascii_uppercase[annotation.choices.index(answer)]
    return Problem(
        id=annotation.id,
        question=annotation.question.strip(),
        images=(image,),
        answer=answer,
        choices=annotation.choices,
        kind=annotation.category,
        meta={
            **({} if box is None else {"box": box, "boxes": [box]}),
            "category": annotation.category,
            "answer_type": annotation.answer_type,
            "source": annotation.source,
            "licence": annotation.licence,
            "annotation": annotation.id,
        },
    )


def what_lacks(annotation: Annotation) -> str:
    """Why it is no problem yet; empty where it is one."""
    (width, height), box = annotation.image.size, annotation.box
    if not annotation.question.strip() or not annotation.answer.strip():
        return "it has no question, or no answer"
    if box is None or not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        return "it has no box within its image"
    if annotation.answer_type == "choice" and annotation.answer not in annotation.choices:
        return "its answer is none of its options"
    if len(annotation.choices) > len(string.ascii_uppercase):
        return f"it has more than {len(string.ascii_uppercase)} options"
    return ""


class ProblemLines:
    """Problems as JSON lines in ``train.jsonl``, as ``thyme grpo`` (format ``problems``) and ``thyme eval`` read them.

    Pictures lie beside them under ``images/``, once each, and are named by what they show.
    """

    def __init__(self, folder: Path) -> None:
        """Begin in an empty folder."""
        self._file = (folder / ROWS).open("x", encoding="utf-8")

    def add(self, problem: Problem, paths: Sequence[str]) -> None:
        """Write a problem.

        Args:
            problem: The problem.
            paths: Of its images, from the folder on.
        """
        row: dict[str, Any] = problem.model_dump(mode="json", exclude={"images"})
        self._file.write(json.dumps({**row, "images": list(paths)}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
