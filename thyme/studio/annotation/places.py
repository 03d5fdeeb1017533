"""Who has which image or question: kept for a while, and by nobody else.

All changes are made while the row of the image or question is locked, so that two people never get the same place; the
key of the table of `Hold` would refuse it besides.
"""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.studio.accounts import Person
from thyme.studio.annotation.rows import standing
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CheckRow, Hold, Question, Shot, Sight
from thyme.studio.refusal import Refusal

MOST_GOLD = 1_000
"""Places of a question that measures people: they answer it independently of each other."""


def take_shot(session: Session, shot: Shot, person: Person, seconds: float) -> None:
    """Lease an image, or renew its lease.

    Raises:
        Refusal: Somebody else has it (409).
    """
    now = time.time()
    if shot.holder_id not in {None, person.id} and shot.until > now:
        raise Refusal(409, "leased", f"{_name(session, shot.holder_id)} has this image now; take the next one")
    shot.holder_id, shot.until = person.id, now + seconds


def release_shot(shot: Shot, person: Person) -> None:
    """Give an image back."""
    if shot.holder_id == person.id:
        shot.holder_id, shot.until = None, 0.0


def take(session: Session, question: Question, person: Person, places: int, seconds: float) -> Hold | None:
    """Lease a question, or renew its lease; None where all its places are taken.

    Args:
        session: In a transaction that holds the question.
        question: To be leased.
        person: To whom.
        places: How many people may have it at once.
        seconds: For how long.
    """
    now = time.time()
    held = {hold.slot: hold for hold in session.scalars(select(Hold).where(Hold.question_id == question.id))}
    mine = next((hold for hold in held.values() if hold.reviewer_id == person.id), None)
    if mine is not None and (mine.until > now or _active(held, now) < places):
        mine.until = now + seconds
        return mine
    if _active(held, now) >= places:
        return None
    for hold in held.values():
        if hold.until <= now:
            session.delete(hold)
    session.flush()
    slot = next(slot for slot in range(len(held) + 1) if slot not in held or held[slot].until <= now)
    made = Hold(question_id=question.id, slot=slot, reviewer_id=person.id, until=now + seconds)
    session.add(made)
    session.flush()
    return made


def require(session: Session, question: Question, person: Person, places: int, seconds: float) -> Hold:
    """As `take`, for somebody who must have the question to go on.

    Raises:
        Refusal: It is with others (409).
    """
    found = take(session, question, person, places, seconds)
    if found is None:
        names = session.scalars(
            select(Reviewer.name)
            .join(Hold, Hold.reviewer_id == Reviewer.id)
            .where(Hold.question_id == question.id, Hold.until > time.time())
        )
        holders = " and ".join(sorted(names)) or "somebody else"
        raise Refusal(409, "leased", f"{holders} has this question now; take the next one")
    return found


def release(session: Session, question_id: int, person: Person) -> None:
    """Give a question back."""
    session.execute(delete(Hold).where(Hold.question_id == question_id, Hold.reviewer_id == person.id))


def empty(session: Session, question: Question) -> None:
    """Take a question from all who have it, as it goes on to others."""
    session.execute(delete(Hold).where(Hold.question_id == question.id))


def places_of(session: Session, question: Question, role: str, settings: AnnotationSettings) -> int:
    """How many people may have a question in a role at once: as many as are still wanted."""
    if role == "second" and question.gold:
        return MOST_GOLD
    wanted = {"second": settings.second, "expert": settings.experts}.get(role, 1)
    if role in {"second", "expert"}:
        return max(0, wanted - sum(check.role == role for check in standing(session, question)))
    return wanted


def waits_for(role: str, person: Person, settings: AnnotationSettings) -> list[ColumnElement[bool]]:
    """What a question must meet to wait for a person in a role, leases aside: nobody judges a question twice.

    Args:
        role: ``second``, ``expert`` or ``adjudicate``; ``returned`` means the author.
        person: Who.
        settings: How many are wanted.
    """
    if role == "returned":
        return [Question.state == "draft", Question.returned != "", Question.author_id == person.id]
    state = {"second": "submitted", "expert": "checked", "adjudicate": "disputed"}[role]
    return [Question.state == state, Question.author_id != person.id, ~said(person, role)]


def said(person: Person, role: str) -> ColumnElement[bool]:
    """That a person has had to do with a question in a way that bars them from a role.

    A second person must not have judged it or looked at its answer before; who adjudicated it may do so again.
    """
    mine = (CheckRow.question_id == Question.id, CheckRow.reviewer_id == person.id, CheckRow.undone.is_(None))
    now = and_(CheckRow.round == Question.round, CheckRow.gold.is_(False))
    if role == "second":
        return or_(exists().where(*mine, or_(now, CheckRow.role != "second")), seen_by(person))
    if role == "adjudicate":
        return exists().where(*mine, now, CheckRow.role != "adjudicator")
    return exists().where(*mine, now)


def seen_by(person: Person) -> ColumnElement[bool]:
    """That a person was shown the answer of a question that is not theirs."""
    return exists().where(Sight.question_id == Question.id, Sight.reviewer_id == person.id)


def has_place(role: str, person: Person, settings: AnnotationSettings) -> ColumnElement[bool]:
    """That a question has a place left for a person in a role."""
    others = (
        select(func.count())
        .select_from(Hold)
        .where(Hold.question_id == Question.id, Hold.reviewer_id != person.id, Hold.until > time.time())
        .scalar_subquery()
    )
    if role not in {"second", "expert"}:
        return others < 1
    done = (
        select(func.count())
        .select_from(CheckRow)
        .where(
            CheckRow.question_id == Question.id,
            CheckRow.round == Question.round,
            CheckRow.role == role,
            CheckRow.undone.is_(None),
            CheckRow.gold.is_(False),
        )
        .scalar_subquery()
    )
    return others + done < (settings.second if role == "second" else settings.experts)


def is_gold_for(person: Person) -> list[ColumnElement[bool]]:
    """What a question must meet to measure a person, who must not know its answer."""
    mine = (CheckRow.question_id == Question.id, CheckRow.reviewer_id == person.id)
    return [
        Question.gold.is_(True),
        Question.state == "accepted",
        Question.author_id != person.id,
        ~exists().where(*mine),
        ~seen_by(person),
    ]


def _active(held: dict[int, Hold], now: float) -> int:
    return sum(hold.until > now for hold in held.values())


def _name(session: Session, id: int | None) -> str:
    return session.scalar(select(Reviewer.name).where(Reviewer.id == id)) or "somebody else"
