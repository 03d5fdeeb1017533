"""Questions in a list: a page of those that match."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.records import Category, State
from thyme.studio.accounts import Person
from thyme.studio.annotation.views import question_view
from thyme.studio.filters import Words
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CheckRow, CollectionRow, Question, Shot

MOST = 200
"""Questions on a page."""


class Wanted(BaseModel):
    """Which questions, and which page of them."""

    model_config = ConfigDict(extra="forbid")

    state: State | Literal[""] = ""
    category: Category | Literal[""] = ""
    author: Annotated[Words, Field(max_length=400)] = ""
    collection: Annotated[Words, Field(max_length=200)] = ""
    search: Annotated[Words, Field(max_length=300)] = ""
    """In the question; upper and lower case are one."""
    mine: Literal["", "written", "checked"] = ""
    gold: bool | None = None
    page: int = 1
    size: int = 50


def listed(session: Session, wanted: Wanted, person: Person, settings: AnnotationSettings) -> dict[str, Any]:
    """A page of the questions that match: of all for those who lead, else of a person's own.

    Args:
        session: Of the database.
        wanted: Which.
        person: Who asks.
        settings: The rules.
    """
    where = _conditions(wanted, person)
    size = min(max(wanted.size, 1), MOST)
    total = session.scalar(select(func.count()).select_from(Question).where(*where)) or 0
    pages = max(1, -(-total // size))
    page = min(max(wanted.page, 1), pages)
    rows = session.scalars(select(Question).where(*where).order_by(Question.id).offset((page - 1) * size).limit(size))
    questions = [question_view(session, row, person, settings) for row in rows]
    return {"questions": questions, "total": total, "page": page, "pages": pages}


def _conditions(wanted: Wanted, person: Person) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.state:
        found.append(Question.state == wanted.state)
    if wanted.category:
        found.append(Question.category == wanted.category)
    if wanted.author:
        found.append(Question.author_id.in_(select(Reviewer.id).where(Reviewer.name == wanted.author)))
    if wanted.collection:
        shots = select(Shot.id).join(CollectionRow).where(CollectionRow.name == wanted.collection)
        found.append(Question.shot_id.in_(shots))
    if words := wanted.search.strip():
        found.append(Question.question.icontains(words, autoescape=True))
    if not person.lead or wanted.mine == "written":
        found.append(Question.author_id == person.id)
    elif wanted.mine == "checked":
        mine = (CheckRow.question_id == Question.id, CheckRow.reviewer_id == person.id, CheckRow.undone.is_(None))
        found.append(exists().where(*mine))
    if person.lead and wanted.gold is not None:
        found.append(Question.gold.is_(wanted.gold))
    return found
