"""Images and questions as pages get them: never more than a person may see."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.rules import faults, share
from thyme.families.sizes import smart_resize
from thyme.studio.accounts import Person
from thyme.studio.annotation.roles import Role, checks_by, is_blind, role_of
from thyme.studio.annotation.rows import annotation_of, box_of, choices_of, standing
from thyme.studio.annotation.sights import shown
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CheckRow, CollectionRow, Hold, Question, Shot
from thyme.studio.times import lease_view

_PATCH = 28
"""Pixels of a side of what one visual token shows; sides of what the model sees are multiples of it."""


def first_view(size: tuple[int, int], settings: AnnotationSettings) -> tuple[int, int]:
    """Width and height at which the model first sees an image."""
    return smart_resize(*size, factor=_PATCH, min_pixels=_PATCH**2, max_pixels=settings.first_view_pixels)


def shot_view(session: Session, shot: Shot, person: Person, settings: AnnotationSettings) -> dict[str, Any]:
    """An image, with a person's own questions about it: what the page on which it is asked about shows."""
    mine = select(Question).where(Question.shot_id == shot.id, Question.author_id == person.id).order_by(Question.id)
    held = shot.holder_id == person.id
    return {
        "kind": "image",
        "id": shot.id,
        **_facts(session, shot, settings),
        "state": shot.state,
        "lease": lease_view(shot.until) if held else None,
        "questions": [question_view(session, one, person, settings, "author") for one in session.scalars(mine)],
    }


def work_view(session: Session, question: Question, person: Person, settings: AnnotationSettings) -> dict[str, Any]:
    """A question with its image: what a page shows to somebody in the role that they have in it.

    Raises:
        Refusal: They have none (403).
    """
    role = role_of(session, question, person)
    shot = session.get_one(Shot, question.shot_id)
    until = session.scalar(select(Hold.until).where(Hold.question_id == question.id, Hold.reviewer_id == person.id))
    return {
        **question_view(session, question, person, settings, role),
        "kind": "question",
        "role": role,
        **_facts(session, shot, settings),
        "lease": None if until is None else lease_view(until),
    }


def question_view(
    session: Session, question: Question, person: Person, settings: AnnotationSettings, role: Role | None = None
) -> dict[str, Any]:
    """A question, without what the role must not see; None: the role that the person has in it.

    Raises:
        Refusal: They have none (403).
    """
    role = role or role_of(session, question, person)
    shot, blind = session.get_one(Shot, question.shot_id), is_blind(question, role)
    box = None if blind else box_of(question)
    if not blind and role != "author":
        shown(session, question.id)
    rows = _visible(session, question, person, role)
    names = names_of(session, {question.author_id, *(row.reviewer_id for row in rows)})
    return {
        "id": question.id,
        "image": shot.id,
        "state": _shown_state(question, role, rows),
        "version": question.version,
        "question": question.question,
        "answer": "" if blind else question.answer,
        "answer_type": question.answer_type,
        "choices": list(choices_of(question)),
        "category": "" if blind else question.category,
        "box": None if box is None else list(box),
        "hidden_when_small": None if blind else question.hidden_when_small,
        "author": "" if role == "second" else names.get(question.author_id, ""),
        "gold": question.gold if person.lead and not blind else None,
        "checks": [_check_view(row, names) for row in rows],
        "share": None if box is None else share(box, (shot.width, shot.height)),
        "faults": [] if blind else faults_of(question, shot, settings),
        "returned": question.returned if role in {"author", "lead"} else "",
    }


def faults_of(question: Question, shot: Shot, settings: AnnotationSettings) -> list[dict[str, str]]:
    """What is wrong with a question, as pages get it."""
    found = faults(annotation_of(question, shot, [], {}), settings)
    return [{"field": fault.field, "message": fault.message} for fault in found]


def names_of(session: Session, ids: set[int]) -> dict[int, str]:
    """Names of people."""
    return dict(session.execute(select(Reviewer.id, Reviewer.name).where(Reviewer.id.in_(ids))).all())


def _facts(session: Session, shot: Shot, settings: AnnotationSettings) -> dict[str, Any]:
    """What every page with an image wants to know of it."""
    return {
        "image": shot.id,
        "picture": shot.image,
        "width": shot.width,
        "height": shot.height,
        "collection": session.get_one(CollectionRow, shot.collection_id).name,
        "source": shot.source,
        "licence": shot.licence,
        "first_view": list(first_view((shot.width, shot.height), settings)),
    }


def _visible(session: Session, question: Question, person: Person, role: Role) -> list[CheckRow]:
    """What a role may know of what was said: second persons their own word only, experts not each other's."""
    if role == "second":
        return [row for row in checks_by(session, question, person) if row.role == "second"]
    if question.state in {"draft", "submitted"}:
        return _earlier(session, question) if role == "author" else []
    rows = standing(session, question)
    if question.state == "checked":
        return [row for row in rows if row.role != "expert" or row.reviewer_id == person.id]
    return rows


def _earlier(session: Session, question: Question) -> list[CheckRow]:
    """Why a draft came back, and what was said before that: its author should know."""
    query = select(CheckRow).where(
        CheckRow.question_id == question.id, CheckRow.undone.is_(None), CheckRow.gold.is_(False)
    )
    rows = session.scalars(query.order_by(CheckRow.id))
    return [row for row in rows if row.round < question.round or question.state == "draft"]


def _shown_state(question: Question, role: Role, rows: list[CheckRow]) -> str:
    """A second person knows what their own answer made of it, so that nothing tells a gold question apart."""
    if role != "second":
        return question.state
    if not rows:
        return "submitted"
    return "checked" if rows[-1].agrees else "disputed"


def _check_view(row: CheckRow, names: dict[int, str]) -> dict[str, Any]:
    return {
        "name": names.get(row.reviewer_id, ""),
        "role": row.role,
        "verdict": row.verdict,
        "answer": row.answer,
        "agrees": row.agrees,
        "category": row.category,
        "reason": row.reason,
        "note": row.note,
        "at": row.created,
        "seconds": row.seconds,
    }
