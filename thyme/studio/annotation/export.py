"""Questions of a database as records, for whoever exports them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.data.annotation.records import Annotation
from thyme.studio.annotation.rows import annotation_of
from thyme.studio.database import Database
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CheckRow, CollectionRow, Question, Shot
from thyme.studio.refusal import missing

_BATCH = 200


def annotations(database: Database, collection: str, states: Sequence[str] = ()) -> Iterator[Annotation]:
    """Questions about the images of a collection, with all that was said of them and stands, in their order.

    Answers to a question that measured people (``gold``) are left out: they say nothing of the question.

    Args:
        database: The studio's.
        collection: Its name.
        states: Only these; empty: all, drafts among them.

    Raises:
        Refusal: There is no such collection (404).
    """
    with database.read() as session:
        id = session.scalar(select(CollectionRow.id).where(CollectionRow.name == collection))
        if id is None:
            raise missing("collection")
        names = dict(session.execute(select(Reviewer.id, Reviewer.name)).all())
        last = 0
        while True:
            query = select(Question, Shot).join(Shot, Shot.id == Question.shot_id).where(Shot.collection_id == id)
            query = query.where(Question.id > last, *([Question.state.in_(states)] if states else []))
            found = session.execute(query.order_by(Question.id).limit(_BATCH)).all()
            if not found:
                return
            said = _said(session, [question.id for question, _ in found])
            for question, shot in found:
                yield annotation_of(question, shot, said[question.id], names)
            last = found[-1][0].id


def _said(session: Session, ids: list[int]) -> dict[int, list[CheckRow]]:
    query = select(CheckRow).where(CheckRow.question_id.in_(ids), CheckRow.undone.is_(None), CheckRow.gold.is_(False))
    found: dict[int, list[CheckRow]] = defaultdict(list)
    for row in session.scalars(query.order_by(CheckRow.id)):
        found[row.question_id].append(row)
    return found
