"""Questions from elsewhere, taken into the database as if they had been written here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.records import Annotation
from thyme.studio.accounts import clean_name
from thyme.studio.annotation.questions import Fields, settle
from thyme.studio.annotation.views import faults_of
from thyme.studio.database import Database, storable
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CollectionRow, Question, Shot
from thyme.studio.refusal import Refusal, missing

NOBODY = "imported"
"""Who wrote what names nobody that could be somebody's name."""
Outcome = Literal["added", "drafts", "known", "no_image"]
"""Waits for second persons; breaks a rule, and so waits for its author; is there already; is about an image that the
collection does not hold."""


def take_annotations(
    database: Database, collection: str, found: Iterable[Annotation], settings: AnnotationSettings, author: str = ""
) -> dict[Outcome, int]:
    """Take questions into a collection; what is there stays as it is, so that it may be done again.

    What others said of a question elsewhere is not taken over: here it is answered and judged anew. Questions that
    break a rule become drafts of their author, with the faults to be seen.

    Args:
        database: The studio's.
        collection: Name of a collection that was taken in.
        found: The questions; an id is unique over all collections.
        settings: The rules.
        author: Who is to have written them; empty: whom they name. They need not be known yet, and who comes in by
            that name has them.

    Returns:
        How many became what.

    Raises:
        Refusal: There is no such collection (404), or `author` cannot be a name (400).
    """
    if author:
        author = clean_name(author)
    with database.write() as session:
        id = session.scalar(select(CollectionRow.id).where(CollectionRow.name == collection))
        if id is None:
            raise missing("collection")
        counted: Counter[Outcome] = Counter(
            _take(session, id, one, settings, author or _name(one.author)) for one in found
        )
    kinds: tuple[Outcome, ...] = ("added", "drafts", "known", "no_image")
    return {outcome: counted[outcome] for outcome in kinds}


def _take(session: Session, collection: int, one: Annotation, settings: AnnotationSettings, author: str) -> Outcome:
    shot = session.scalars(select(Shot).where(Shot.collection_id == collection, Shot.image == one.image.id)).first()
    if shot is None:
        return "no_image"
    if session.scalar(select(Question.id).where(Question.uid == one.id[:64])) is not None:
        return "known"
    fields = Fields(
        storable(one.question), storable(one.answer).strip(), one.answer_type, tuple(map(storable, one.choices)),
        one.category[:20], one.box, one.hidden_when_small,
    )  # fmt: skip
    question = Question(
        uid=one.id[:64],
        shot_id=shot.id,
        author_id=_person(session, author),
        created=one.at or time.time(),
        seconds=one.seconds,
        **fields.columns(),
    )
    session.add(question)
    session.flush()
    if broken := faults_of(question, shot, settings):
        question.returned = f"taken in from elsewhere: {'; '.join(fault['message'] for fault in broken)}"
        return "drafts"
    question.round, question.submitted = 1, one.at or time.time()
    settle(session, question, settings)
    return "added"


def _person(session: Session, name: str) -> int:
    """Id of a person of this name, who has come in or will."""
    known = session.scalar(select(Reviewer.id).where(Reviewer.name == name))
    if known is not None:
        return known
    made = Reviewer(name=name, lead=False, active=True, created=time.time())
    session.add(made)
    session.flush()
    return made.id


def _name(given: str) -> str:
    try:
        return clean_name(given)
    except Refusal:
        return NOBODY
