"""Questions as their authors write them: begun, saved, dropped, submitted; and images that are done."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.records import AnswerType, Box
from thyme.studio.accounts import Person
from thyme.studio.annotation import places
from thyme.studio.annotation.rows import locked, locked_shot, standing
from thyme.studio.annotation.states import ASIDE, state_of
from thyme.studio.annotation.views import faults_of, question_view
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import DONE, OPEN, UNSUITABLE, CheckRow, Question, Shot
from thyme.studio.refusal import Refusal, missing
from thyme.studio.times import page_seconds


@dataclass(frozen=True)
class Fields:
    """What an author writes."""

    question: str = ""
    answer: str = ""
    answer_type: AnswerType = "text"
    choices: tuple[str, ...] = ()
    category: str = ""
    box: Box | None = None
    hidden_when_small: bool | None = None

    def columns(self) -> dict[str, Any]:
        """As they are kept."""
        return {
            "question": self.question,
            "answer": self.answer,
            "answer_type": self.answer_type,
            "choices": json.dumps(self.choices, ensure_ascii=False),
            "category": self.category,
            "box": json.dumps(self.box),
            "hidden_when_small": self.hidden_when_small,
        }


def begin(
    session: Session, person: Person, shot_id: int, fields: Fields, settings: AnnotationSettings, key: str = ""
) -> Question:
    """Begin a question about an image.

    Args:
        session: In a transaction.
        person: The author, who has the image or can have it.
        shot_id: The image.
        fields: As far as they are known.
        settings: The rules.
        key: Made up by the page: a second time it gives the question that the first made.

    Raises:
        Refusal: Somebody else has the image, or no more questions about it are wanted (409).
    """
    shot = locked_shot(session, shot_id)
    if key:
        query = select(Question).where(Question.author_id == person.id, Question.key == key)
        if (known := session.scalars(query).first()) is not None:
            return known
    if "annotate" not in person.roles:
        raise Refusal(403, "role", "you are not asked to write questions here; ask who leads")
    if shot.state != OPEN:
        raise Refusal(409, "done", "this image is done; take the next one")
    places.take_shot(session, shot, person, settings.lease_s)
    alive = (Question.shot_id == shot.id, Question.state != "rejected")
    count = session.scalar(select(func.count()).select_from(Question).where(*alive)) or 0
    if count >= settings.per_image:
        message = f"there are {count} questions about this image, and no more are wanted; take the next image"
        raise Refusal(409, "rule", message, field="image")
    made = Question(
        uid=secrets.token_hex(12), shot_id=shot.id, author_id=person.id, key=key or None, created=time.time()
    )
    _set(made, fields)
    session.add(made)
    session.flush()
    return made


def save(
    session: Session, person: Person, question_id: int, fields: Fields, version: int, settings: AnnotationSettings
) -> Question:
    """Save a draft; what is sent a second time changes nothing.

    Raises:
        Refusal: Another tab saved since, or it is no draft any more (409); it is not one's own (404).
    """
    question = own_draft(session, person, question_id)
    columns = fields.columns()
    if all(getattr(question, name) == value for name, value in columns.items()) and version <= question.version:
        return question
    require_version(session, question, person, version, settings)
    _set(question, fields)
    question.version += 1
    session.flush()
    return question


def drop(session: Session, person: Person, question_id: int) -> None:
    """Drop a draft; one that others have spoken about stays, as rejected.

    Raises:
        Refusal: It is no draft any more (409), or not one's own (404).
    """
    question = own_draft(session, person, question_id)
    places.empty(session, question)
    if session.scalar(select(func.count()).select_from(CheckRow).where(CheckRow.question_id == question.id)):
        question.state, question.returned = "rejected", ""
        return
    session.execute(delete(Question).where(Question.id == question.id))


def take_over(session: Session, person: Person, question_id: int) -> Question:
    """Make a draft of somebody who was let go a lead's own, to be finished or dropped.

    Raises:
        Refusal: Its author is still here, or it is no draft (409).
    """
    question = locked(session, question_id)
    if question.state != "draft":
        raise Refusal(409, "state", "only a draft waits for its author; others go on without them")
    author = session.get_one(Reviewer, question.author_id)
    if author.active and author.id != person.id:
        raise Refusal(
            409, "author", f"{author.name} may still finish this; ask them, or let them go under People first"
        )
    question.author_id, question.key = person.id, None
    places.empty(session, question)
    return question


def submit(
    session: Session, person: Person, question_id: int, version: int, seconds: float | None,
    settings: AnnotationSettings,
) -> Question:  # fmt: skip
    """Hand a draft in.

    Raises:
        Refusal: A rule is broken, another tab saved since, or it is no draft any more (409); it is not one's own (404).
    """
    question = locked(session, question_id)
    if question.author_id == person.id and question.state != "draft" and question.version == version:
        return question  # it was sent twice
    question = own_draft(session, person, question_id)
    require_version(session, question, person, version, settings)
    shot = session.get_one(Shot, question.shot_id)
    if found := faults_of(question, shot, settings):
        raise Refusal(409, "rule", found[0]["message"], field=found[0]["field"], faults=found)
    question.round += 1
    question.returned = ""
    question.submitted = question.submitted or time.time()
    if (spent := page_seconds(seconds)) is not None:
        question.seconds = (question.seconds or 0.0) + spent
    places.empty(session, question)
    settle(session, question, settings)
    return question


def finish(session: Session, person: Person, shot_id: int, unsuitable: str, note: str) -> Shot:
    """Say that no more is to be asked about an image, or that it is not fit for it.

    Raises:
        Refusal: Somebody else has it, there are drafts or questions about it, or none where it is to be done (409);
            there is no such reason (400).
    """
    if unsuitable and unsuitable not in ASIDE:
        raise Refusal(400, "reason", f"an image is put aside for one of: {', '.join(ASIDE)}")
    if unsuitable == "other" and not note.strip():
        raise Refusal(400, "note", "say in the note what is wrong")
    shot = locked_shot(session, shot_id)
    if shot.state != OPEN and shot.done_by == person.id:
        return shot
    places.take_shot(session, shot, person, 0.0)
    mine = (Question.shot_id == shot.id, Question.state == "draft", Question.round == 0)
    if session.scalar(select(func.count()).select_from(Question).where(*mine, Question.author_id == person.id)):
        raise Refusal(409, "drafts", "a question about this image is neither submitted nor dropped; do that first")
    alive = (Question.shot_id == shot.id, Question.state != "rejected")
    if unsuitable and session.scalar(select(exists().where(*alive))):
        raise Refusal(409, "questions", "there are questions about this image; say that it is done instead (N)")
    if not unsuitable and not session.scalar(select(exists().where(Question.shot_id == shot.id))):
        message = "nothing was asked about this image; put it aside with a reason (X), or leave it to somebody else (S)"
        raise Refusal(409, "questions", message)
    shot.state, shot.reason, shot.note = (UNSUITABLE if unsuitable else DONE), unsuitable, note.strip()
    shot.done_by = person.id
    places.release_shot(shot, person)
    return shot


def settle(session: Session, question: Question, settings: AnnotationSettings) -> None:
    """Put a question into the state that follows from what stands of it; who holds it loses it where that is new."""
    session.flush()
    state = state_of(standing(session, question), settings)
    if state != question.state:
        question.state = state
        places.empty(session, question)


def own_draft(session: Session, person: Person, question_id: int) -> Question:
    """A draft of a person's own, locked.

    Raises:
        Refusal: It is no draft any more (409), or not their own (404).
    """
    question = locked(session, question_id)
    if question.author_id != person.id:
        raise missing("question of yours")
    if question.state != "draft":
        raise Refusal(409, "submitted", "this question is submitted; it is changed only if it comes back")
    return question


def require_version(
    session: Session, question: Question, person: Person, version: int, settings: AnnotationSettings
) -> None:
    """See to it that a page knows the latest text.

    Raises:
        Refusal: It does not (409); the question is sent along.
    """
    if version != question.version:
        stored = question_view(session, question, person, settings, "author")
        raise Refusal(409, "version", "this question was changed in another tab or browser", question=stored)


def _set(question: Question, fields: Fields) -> None:
    for name, value in fields.columns().items():
        setattr(question, name, value)
