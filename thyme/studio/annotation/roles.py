"""What a person has to do with a question, and how much of it they may see."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.studio.accounts import Person
from thyme.studio.annotation.places import said
from thyme.studio.models_annotation import CheckRow, Question
from thyme.studio.refusal import Refusal

Role = Literal["author", "second", "adjudicator", "expert", "lead"]
_QUEUES: dict[str, tuple[str, Role]] = {
    "submitted": ("second", "second"),
    "checked": ("expert", "expert"),
    "disputed": ("adjudicate", "adjudicator"),
}
"""By state: what somebody must be allowed to do (`Person.roles`), and in which role they then do it."""


def role_of(session: Session, question: Question, person: Person) -> Role:
    """What a person has to do with a question now: what is asked of them, else what they did, else what they lead.

    Raises:
        Refusal: Nothing (403).
    """
    if question.author_id == person.id:
        return "author"
    queue, role = _QUEUES.get(question.state, ("", "lead"))
    if queue in person.roles and not _barred(session, question, person, queue):
        return role
    if question.gold and not person.lead and "second" in person.roles:
        return "second" if not _judged(session, question, person) else "expert"
    if person.lead:
        return "second" if question.state == "submitted" else "lead"
    roles = {row.role for row in checks_by(session, question, person)}
    if "expert" in roles:
        return "expert"
    if "second" in roles:
        return "second"
    raise Refusal(403, "role", "this question is with others; take the next one")


def turn_of(session: Session, question: Question, person: Person) -> str:
    """What is asked of a person about a question now: a role of `Check`, ``author``, or nothing."""
    if question.author_id == person.id:
        return "author" if question.state == "draft" else ""
    if question.gold:
        mine = checks_by(session, question, person)
        told = person.lead or "second" not in person.roles or mine or _barred(session, question, person, "second")
        return "" if told else "second"
    queue, role = _QUEUES.get(question.state, ("", "lead"))
    return role if queue in person.roles and not _barred(session, question, person, queue) else ""


def is_blind(question: Question, role: Role) -> bool:
    """Whether somebody in a role must see neither answer nor box: it may still be they who answer the question."""
    return role == "second" or (role != "author" and question.state in {"draft", "submitted"})


def checks_by(session: Session, question: Question, person: Person) -> list[CheckRow]:
    """What a person said of a question in this round, measures of the person among it."""
    query = select(CheckRow).where(
        CheckRow.question_id == question.id,
        CheckRow.reviewer_id == person.id,
        CheckRow.round == question.round,
        CheckRow.undone.is_(None),
    )
    return list(session.scalars(query.order_by(CheckRow.id)))


def _barred(session: Session, question: Question, person: Person, queue: str) -> bool:
    return bool(session.scalar(select(said(person, queue)).where(Question.id == question.id)))


def _judged(session: Session, question: Question, person: Person) -> bool:
    return any(row.role != "second" for row in checks_by(session, question, person))
