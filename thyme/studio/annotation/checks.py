"""What others say of a question: second persons answer it, experts and adjudicators judge it; and taking that back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.agreement import agrees
from thyme.data.annotation.records import CATEGORIES
from thyme.studio.accounts import Person
from thyme.studio.annotation import places
from thyme.studio.annotation.questions import settle
from thyme.studio.annotation.roles import checks_by, turn_of
from thyme.studio.annotation.rows import choices_of, locked, standing
from thyme.studio.annotation.states import REASONS
from thyme.studio.annotation.views import faults_of
from thyme.studio.models import Setting
from thyme.studio.models_annotation import CheckRow, Question, Shot
from thyme.studio.refusal import Refusal
from thyme.studio.times import page_seconds

_DEMANDS = "annotation_checks"
"""Setting that says how many people were wanted when the studio was started last."""


@dataclass(frozen=True)
class Answer:
    """What a second person says."""

    answer: str = ""
    unanswerable: bool = False
    category: str = ""
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What an expert or adjudicator says."""

    verdict: Literal["accept", "reject", "return"]
    reason: str = ""
    note: str = ""
    answer: str | None = None
    """That an adjudicator takes for right; None: the author's."""
    seconds: float | None = None


def answer(
    session: Session, person: Person, question_id: int, said: Answer, settings: AnnotationSettings
) -> tuple[CheckRow, Question]:
    """Keep a second person's answer.

    Raises:
        Refusal: It is not theirs to answer (409), or says too little (400).
    """
    question = locked(session, question_id)
    kind = "unanswerable" if said.unanswerable else "answered"
    if (known := _sent_before(session, question, person, kind, said)) is not None:
        return known, question
    _require_turn(session, question, person, {"second"})
    places.require(session, question, person, places.places_of(session, question, "second", settings), settings.lease_s)
    if not said.unanswerable and not said.answer.strip():
        raise Refusal(400, "answer", "give an answer, or say that the question cannot be answered")
    if said.category not in CATEGORIES:
        raise Refusal(400, "category", f"choose one of {', '.join(CATEGORIES)}")
    same = not said.unanswerable and agrees(
        question.answer, said.answer, question=question.question, choices=choices_of(question)
    )
    row = _row(question, person, "second", kind, said.note, said.seconds)
    row.answer, row.agrees, row.category = said.answer.strip(), same, said.category
    session.add(row)
    places.release(session, question.id, person)
    if not question.gold:
        settle(session, question, settings)
    return row, question


def judge(
    session: Session, person: Person, question_id: int, said: Verdict, settings: AnnotationSettings
) -> tuple[CheckRow, Question]:
    """Keep an expert's or adjudicator's verdict.

    Raises:
        Refusal: It is not theirs to judge, or what they accept breaks a rule (409); a reason is missing (400).
    """
    question = locked(session, question_id)
    if (known := _sent_before(session, question, person, said.verdict, said)) is not None:
        return known, question
    role = _require_turn(session, question, person, {"expert", "adjudicator"})
    _require_reason(said, role)
    places.require(session, question, person, places.places_of(session, question, role, settings), settings.lease_s)
    row = _row(question, person, role, said.verdict, said.note, said.seconds)
    row.reason = "" if said.verdict == "accept" else said.reason
    session.add(row)
    if role == "adjudicator" and said.verdict == "accept":
        _accept(session, question, row, said.answer, settings)
    elif said.verdict == "return":
        question.returned = f"{REASONS[said.reason]}: {row.note}" if row.note else REASONS[said.reason]
    row.version = question.version
    places.release(session, question.id, person)
    settle(session, question, settings)
    return row, question


def undo(session: Session, person: Person, settings: AnnotationSettings) -> Question | None:
    """Take back what a person said last, if nobody built on it; the question is theirs again.

    Returns:
        The question; None where nothing that they said stands.

    Raises:
        Refusal: Somebody built on it (409).
    """
    mine = (CheckRow.reviewer_id == person.id, CheckRow.undone.is_(None))
    row = session.scalars(select(CheckRow).where(*mine).order_by(CheckRow.id.desc()).limit(1)).first()
    if row is None:
        return None
    question = locked(session, row.question_id)
    if _is_built_on(session, row, question):
        raise Refusal(409, "built", "others have gone on from what you said last; it can no longer be taken back")
    row.undone = time.time()
    if row.verdict == "return":
        question.returned = ""
    if question.answer != row.answer_then and row.role == "adjudicator":
        question.answer = row.answer_then
        question.version += 1
    if not row.gold:
        settle(session, question, settings)
    places.take(session, question, person, places.places_of(session, question, row.role, settings), settings.lease_s)
    return question


def resettle(session: Session, settings: AnnotationSettings) -> None:
    """Put questions that wait into the state that changed settings give them; does nothing where none changed."""
    wanted = f"{settings.second} {settings.experts}"
    kept = session.get(Setting, _DEMANDS)
    if kept is not None and kept.value == wanted:
        return
    session.merge(Setting(name=_DEMANDS, value=wanted))
    for question in session.scalars(select(Question).where(Question.state.in_(("submitted", "checked")))):
        settle(session, question, settings)


def wanted_a_question(session: Session) -> dict[str, int]:
    """How many people of each role a question is to pass, as the studio was started last; empty where it never was."""
    kept = session.get(Setting, _DEMANDS)
    return {} if kept is None else dict(zip(("second", "expert"), map(int, kept.value.split()), strict=True))


def _sent_before(
    session: Session, question: Question, person: Person, verdict: str, said: Answer | Verdict
) -> CheckRow | None:
    """What a person said last of this round of a question, if it is this: its reply was lost, and it is sent again."""
    if turn_of(session, question, person):
        return None
    last = next(reversed(checks_by(session, question, person)), None)
    if last is None or (last.verdict, last.note) != (verdict, said.note.strip()):
        return None
    if isinstance(said, Answer):
        return last if (last.answer, last.category) == (said.answer.strip(), said.category) else None
    if last.reason != ("" if verdict == "accept" else said.reason):
        return None
    return last if last.role == "expert" or said.answer in {None, "", last.answer} else None


def _require_turn(session: Session, question: Question, person: Person, roles: set[str]) -> str:
    role = turn_of(session, question, person)
    if role not in roles:
        raise Refusal(409, "turn", "nothing of this kind is asked of you about this question now; take the next one")
    return role


def _require_reason(said: Verdict, role: str) -> None:
    if said.verdict == "return" and role != "adjudicator":
        raise Refusal(400, "verdict", "experts accept or reject; an adjudicator sends back")
    if said.verdict == "accept":
        return
    if said.reason not in REASONS:
        raise Refusal(400, "reason", f"this needs one of the reasons: {', '.join(REASONS)}")
    if said.reason == "other" and not said.note.strip():
        raise Refusal(400, "note", "say in the note what is wrong")


def _accept(
    session: Session, question: Question, row: CheckRow, right: str | None, settings: AnnotationSettings
) -> None:
    """Let an adjudicator's answer stand in place of the author's."""
    row.answer = (question.answer if right is None or not right.strip() else right).strip()
    if row.answer == question.answer:
        return
    question.answer = row.answer
    question.version += 1
    if found := faults_of(question, session.get_one(Shot, question.shot_id), settings):
        raise Refusal(409, "rule", found[0]["message"], field=found[0]["field"], faults=found)


def _row(
    question: Question, person: Person, role: str, verdict: str, note: str, seconds: float | None
) -> CheckRow:  # fmt: skip
    return CheckRow(
        question_id=question.id,
        reviewer_id=person.id,
        round=question.round,
        version=question.version,
        role=role,
        verdict=verdict,
        note=note.strip(),
        gold=question.gold,
        answer_then=question.answer,
        category_then=question.category,
        seconds=page_seconds(seconds),
        created=time.time(),
    )


def _is_built_on(session: Session, row: CheckRow, question: Question) -> bool:
    """Whether anything followed from what somebody said: another kind of check, a change of the text, a gold mark."""
    if row.gold:
        return not question.gold
    if question.gold or question.round != row.round or question.version != row.version:
        return True
    if (question.state == "draft") != (row.verdict == "return"):
        return True
    if session.scalar(select(exists().where(CheckRow.question_id == question.id, CheckRow.gold))):
        return True
    return any(other.id > row.id and other.role != row.role for other in standing(session, question))
