"""What annotators look at beside their work: lists, figures, wrong options, pictures; and what leads do there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import and_, or_, select

from thyme.data.annotation.distractors import distractors
from thyme.data.annotation.records import AnswerType, Category
from thyme.studio.annotation import figures, questions
from thyme.studio.annotation.listing import Wanted, listed
from thyme.studio.annotation.rows import locked
from thyme.studio.annotation.sights import looking
from thyme.studio.annotation.views import question_view
from thyme.studio.api import replies
from thyme.studio.api.asking import Asking, Body, Id, Leading, Shared
from thyme.studio.filters import Words
from thyme.studio.models_annotation import Question
from thyme.studio.refusal import Refusal

router = APIRouter()

_LATEST = 300
"""Answers of others that options are taken from."""


class Target(Body):
    """What wrong options are wanted for."""

    question: Annotated[Words, Field(max_length=10_000)] = ""
    answer: Annotated[Words, Field(max_length=1_000)]
    category: Category | Literal[""] = ""
    answer_type: AnswerType = "choice"


class Gold(Body):
    """Whether a question measures people."""

    gold: bool


@router.post("/distractors")
def options(studio: Shared, person: Asking, body: Target) -> dict[str, Any]:
    """Plausible wrong options; of others' answers none that this person may still be asked for."""
    with studio.database.read() as session:
        mine = and_(Question.author_id == person.id, Question.round > 0)
        settled = and_(Question.state.in_(("checked", "accepted")), Question.gold.is_(False))
        query = select(Question.answer).where(Question.category == body.category, or_(mine, settled))
        others = list(session.scalars(query.order_by(Question.id.desc()).limit(_LATEST)))
    found = distractors(body.answer, category=body.category, others=others, question=body.question)
    return {"choices": found}


@router.get("/questions")
def matching(studio: Shared, person: Asking, wanted: Annotated[Wanted, Query()]) -> dict[str, Any]:
    """Questions that match, a page at a time."""
    with looking(studio.database, person) as session:
        return listed(session, wanted, person, studio.config.annotation)


@router.post("/questions/{question_id}/gold")
def mark(studio: Shared, person: Leading, question_id: Id, body: Gold) -> dict[str, Any]:
    """Have an accepted question measure second persons, or no longer."""
    with studio.database.write() as session:
        question = locked(session, question_id)
        if body.gold and question.state != "accepted":
            raise Refusal(409, "state", "only an accepted question can measure people")
        question.gold = body.gold
        return question_view(session, question, person, studio.config.annotation)


@router.post("/questions/{question_id}/take")
def take(studio: Shared, person: Leading, question_id: Id) -> dict[str, Any]:
    """Go on with a draft of somebody who was let go."""
    settings = studio.config.annotation
    with studio.database.write() as session:
        question = questions.take_over(session, person, question_id)
        return question_view(session, question, person, settings, "author")


@router.get("/progress")
def progress(
    studio: Shared, person: Asking, collection: Annotated[Words, Query(max_length=200)] = ""
) -> dict[str, Any]:
    """How far the work is, by person and day, and how far people agree."""
    with studio.database.read() as session:
        return figures.progress(session, collection, gold=person.lead)


@router.get("/images/{shot_id}/picture")
def picture(studio: Shared, person: Asking, shot_id: Id, side: int = 1600, first_view: bool = False) -> Response:
    """A reduced picture, or the image as the model first sees it."""
    return replies.picture(studio.images.first_view(shot_id) if first_view else studio.images.reduced(shot_id, side))


@router.get("/images/{shot_id}/tiles/{level}/{x}_{y}")
def tile(studio: Shared, person: Asking, shot_id: Id, level: int, x: int, y: int) -> Response:
    """A tile, for deep zoom."""
    return replies.picture(studio.images.tile(shot_id, level, x, y))
