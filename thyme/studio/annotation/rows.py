"""Rows of annotation as the records that the rest of the package reads."""

from __future__ import annotations

import json
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.data.annotation.records import Annotation, AnswerType, Box, Check, State
from thyme.studio.models_annotation import CheckRow, Question, Shot
from thyme.studio.refusal import missing
from thyme.types import ImageRecord


def locked(session: Session, question_id: int) -> Question:
    """A question that nobody else changes until this transaction ends.

    Raises:
        Refusal: There is none (404).
    """
    found = session.get(Question, question_id, with_for_update=True)
    if found is None:
        raise missing("question")
    return found


def locked_shot(session: Session, shot_id: int) -> Shot:
    """An image that nobody else changes until this transaction ends.

    Raises:
        Refusal: There is none (404).
    """
    found = session.get(Shot, shot_id, with_for_update=True)
    if found is None:
        raise missing("image")
    return found


def box_of(question: Question) -> Box | None:
    """The target's box; None where there is none yet."""
    kept = json.loads(question.box)
    return None if kept is None else cast("Box", tuple(kept))


def choices_of(question: Question) -> tuple[str, ...]:
    """The options."""
    return tuple(json.loads(question.choices))


def standing(session: Session, question: Question) -> list[CheckRow]:
    """What stands of this submission of a question, in the order in which it was said; no measures of people."""
    query = select(CheckRow).where(
        CheckRow.question_id == question.id,
        CheckRow.round == question.round,
        CheckRow.undone.is_(None),
        CheckRow.gold.is_(False),
    )
    return list(session.scalars(query.order_by(CheckRow.id)))


def annotation_of(question: Question, shot: Shot, checks: list[CheckRow], names: dict[int, str]) -> Annotation:
    """A question as a record.

    Args:
        question: The row.
        shot: Its image.
        checks: What is told of it.
        names: Of people, by id.
    """
    return Annotation(
        id=question.uid,
        image=ImageRecord(id=shot.image, width=shot.width, height=shot.height, mode="RGB", format=shot.format),
        question=question.question,
        answer=question.answer,
        answer_type=cast("AnswerType", question.answer_type),
        choices=choices_of(question),
        category=question.category,
        box=box_of(question),
        hidden_when_small=question.hidden_when_small,
        state=cast("State", question.state),
        author=names.get(question.author_id, ""),
        checks=tuple(check_of(row, names) for row in checks),
        source=shot.source,
        licence=shot.licence,
        gold=question.gold,
        at=question.submitted or 0.0,
        seconds=question.seconds,
    )


def check_of(row: CheckRow, names: dict[int, str]) -> Check:
    """What somebody said, as a record."""
    facts: dict[str, Any] = {"role": row.role, "verdict": row.verdict}
    return Check(
        person=names.get(row.reviewer_id, ""),
        **facts,
        answer=row.answer,
        agrees=row.agrees,
        category=row.category,
        reason=": ".join(filter(None, (row.reason, row.note))),
        at=row.created,
        seconds=row.seconds,
    )
