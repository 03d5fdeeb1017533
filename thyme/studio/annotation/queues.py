"""What waits for whom, and what comes next."""

from __future__ import annotations

import random
import time
from typing import Final

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from thyme.config.annotation import AnnotationSettings
from thyme.studio.accounts import Person
from thyme.studio.annotation import places
from thyme.studio.models_annotation import OPEN, CollectionRow, Hold, Question, Shot

QUEUES: Final = ("annotate", "second", "expert", "adjudicate", "returned")
_ROLE: Final = {"second": "second", "expert": "expert", "adjudicate": "adjudicator", "returned": "author"}
"""Role of a check by queue."""
_draw = random.SystemRandom().random
"""Says whether a question of known answer comes next: nobody can foresee it."""


def may(person: Person, queue: str) -> bool:
    """Whether a person is asked for what waits in a queue; what came back to its author always is."""
    return queue == "returned" or queue in person.roles


def counts(session: Session, person: Person, settings: AnnotationSettings) -> dict[str, int]:
    """How many images or questions wait for a person, by queue; what others have at the moment is left out.

    Questions that measure are not counted, as they would tell themselves apart.
    """
    found = dict.fromkeys(QUEUES, 0)
    if may(person, "annotate"):
        query = select(func.count()).select_from(Shot).where(*_free_shots(person, settings))
        found["annotate"] = session.scalar(query) or 0
    for queue in QUEUES[1:]:
        if may(person, queue):
            where = places.waits_for(queue, person, settings)
            query = select(func.count()).select_from(Question).where(*where, places.has_place(queue, person, settings))
            found[queue] = session.scalar(query) or 0
    return found


def next_shot(
    session: Session, person: Person, settings: AnnotationSettings, collection: str = "", after: int = 0
) -> Shot | None:
    """Lease the next image to be annotated; None where there is none. One that the person has comes first.

    Args:
        session: In a transaction.
        person: Who annotates.
        settings: The rules.
        collection: Name of one; empty: any.
        after: Id of an image: what comes behind it first, then from the beginning.
    """
    where = [*_free_shots(person, settings), *_shots_of(collection)]
    held = [Shot.holder_id == person.id, Shot.until > time.time()]
    first = [] if after else [[*where, *held]]
    for conditions in (*first, *([*where, part] for part in _around(after, Shot.id))):
        query = select(Shot).where(*conditions).order_by(Shot.id).limit(1)
        found = session.scalars(query.with_for_update(skip_locked=True)).first()
        if found is not None:
            places.take_shot(session, found, person, settings.lease_s)
            return found
    return None


def next_question(
    session: Session, person: Person, queue: str, settings: AnnotationSettings, collection: str = "",
    category: str = "", after: int = 0,
) -> Question | None:  # fmt: skip
    """Lease the next question of a queue; None where there is none. One that the person has comes first.

    Second persons get one whose answer is known now and then (`AnnotationSettings.gold`), in place of one that waits:
    where nothing does, what comes would tell itself apart.

    Args:
        session: In a transaction.
        person: Who asks.
        queue: Of `QUEUES`, but ``annotate``.
        settings: The rules.
        collection: Name of one; empty: any.
        category: One; empty: any. Second persons name it themselves, so that it does not choose for them.
        after: Id of a question: what comes behind it first, then from the beginning.
    """
    narrow: list[ColumnElement[bool]] = []
    if collection:
        narrow.append(Question.shot_id.in_(select(Shot.id).where(*_shots_of(collection))))
    if category and queue != "second":
        narrow.append(Question.category == category)
    waiting = [*places.waits_for(queue, person, settings), *narrow]
    gold = [*places.is_gold_for(person), *narrow] if queue == "second" and not person.lead else None
    if not after and (mine := _held(session, person, queue, waiting, gold, settings)) is not None:
        return mine
    free = [*waiting, places.has_place(queue, person, settings)]
    if gold is not None and _draw() < settings.gold and session.scalar(select(exists().where(*free))):
        others = [*gold, Question.id != after]  # what was skipped does not come again at once
        if (found := _first(session, others, person, queue, settings, 0)) is not None:
            return found
    return _first(session, free, person, queue, settings, after)


def _held(
    session: Session, person: Person, queue: str, waiting: list[ColumnElement[bool]],
    gold: list[ColumnElement[bool]] | None, settings: AnnotationSettings,
) -> Question | None:  # fmt: skip
    held = select(Hold.question_id).where(Hold.reviewer_id == person.id, Hold.until > time.time())
    for where in (waiting, gold):
        if where is not None:
            found = _first(session, [*where, Question.id.in_(held)], person, queue, settings, 0)
            if found is not None:
                return found
    return None


def _first(
    session: Session, where: list[ColumnElement[bool]], person: Person, queue: str, settings: AnnotationSettings,
    after: int,
) -> Question | None:  # fmt: skip
    """The first question that can be leased."""
    for part in _around(after, Question.id):
        position = 0
        while True:
            query = select(Question).where(*where, part, Question.id > position).order_by(Question.id).limit(1)
            found = session.scalars(query.with_for_update(skip_locked=True)).first()
            if found is None:
                break
            wanted = places.places_of(session, found, _ROLE[queue], settings)
            if places.take(session, found, person, wanted, settings.lease_s) is not None:
                return found
            position = found.id  # somebody else was quicker
    return None


def _free_shots(person: Person, settings: AnnotationSettings) -> list[ColumnElement[bool]]:
    asked = (
        select(func.count())
        .select_from(Question)
        .where(Question.shot_id == Shot.id, Question.state != "rejected")
        .scalar_subquery()
    )
    mine = or_(Shot.holder_id.is_(None), Shot.holder_id == person.id, Shot.until <= time.time())
    return [Shot.state == OPEN, mine, asked < settings.per_image]


def _shots_of(collection: str) -> list[ColumnElement[bool]]:
    ids = select(CollectionRow.id).where(CollectionRow.name == collection)
    return [Shot.collection_id.in_(ids)] if collection else []


def _around(after: int, column: InstrumentedAttribute[int]) -> list[ColumnElement[bool]]:
    """What lies behind an id, then what lies before it."""
    return [column > after, column <= after] if after else [column > 0]
