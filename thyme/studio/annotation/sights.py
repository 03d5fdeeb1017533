"""Who was shown the answer of a question: they are not asked for it as a second person later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.studio.accounts import Person
from thyme.studio.database import Database
from thyme.studio.models_annotation import Sight

_SHOWN: Final = "shown"


def shown(session: Session, question_id: int) -> None:
    """Note that what this session reads shows the answer of a question to somebody who did not write it."""
    session.info.setdefault(_SHOWN, set()).add(question_id)


@contextmanager
def looking(database: Database, person: Person, *, writing: bool = False) -> Iterator[Session]:
    """A session whose reply a person gets to see; what it shows them is kept before they see it.

    Args:
        database: To read.
        person: Who looks.
        writing: Whether the session changes anything.

    Raises:
        StoreError: The database went away.
    """
    with database.write() if writing else database.read() as session:
        yield session
    _keep(database, person, session.info.get(_SHOWN, set()))


def _keep(database: Database, person: Person, ids: set[int]) -> None:
    if not ids:
        return
    known = select(Sight.question_id).where(Sight.reviewer_id == person.id, Sight.question_id.in_(ids))
    with database.read() as session:
        new = sorted(ids.difference(session.scalars(known)))
    database.insert_missing(Sight, ({"question_id": id, "reviewer_id": person.id} for id in new))
