"""The verdicts of a build, as the export of its records reads them (`thyme.data.export.reviews`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.data.drafts import Draft
from thyme.data.export.reviews import Review, write_reviews
from thyme.studio.database import Database
from thyme.studio.models import ACCEPTED, DISPUTED, OPEN, REJECTED, Build, Item, Reviewer, ReviewRow, Revision
from thyme.studio.refusal import missing
from thyme.studio.reviews import standing

_BATCH = 200


def verdicts(session: Session, build: str) -> Iterator[Review]:
    """What was decided of each record of a build, in its order; those that are open or disputed are left out.

    Args:
        session: Of the database.
        build: Its name.

    Raises:
        Refusal: There is no such build (404).
    """
    id = session.scalar(select(Build.id).where(Build.name == build))
    if id is None:
        raise missing("build")
    names = dict(session.execute(select(Reviewer.id, Reviewer.name)).all())
    last = 0
    while True:
        query = select(Item).where(Item.build_id == id, Item.state.in_((ACCEPTED, REJECTED)), Item.id > last)
        items = list(session.scalars(query.order_by(Item.id).limit(_BATCH)))
        if not items:
            return
        yield from (_verdict(session, item, names) for item in items)
        last = items[-1].id


def _verdict(session: Session, item: Item, names: dict[int, str]) -> Review:
    rows = standing(session, item.id)
    deciding = [row for row in rows if row.decision][-1:] or rows
    revision = deciding[0].revision_id if item.state == ACCEPTED else None
    edited = None if revision is None else session.get(Revision, revision)
    return Review(
        id=item.record,
        verdict=cast("Literal['accept', 'reject']", item.state),
        reason="; ".join(dict.fromkeys(filter(None, map(_reason, deciding)))),
        reviewers=tuple(dict.fromkeys(names[row.reviewer_id] for row in rows)),
        record=None if edited is None else Draft.model_validate_json(edited.draft),
    )


def _reason(row: ReviewRow) -> str:
    return f"{row.reason}: {row.note}" if row.note and row.reason else row.reason


def export(database: Database, build: str, out: Path) -> dict[str, int]:
    """Write the verdicts of a build into its folder.

    Returns:
        How many were ``accepted``, ``rejected`` and, of the accepted ones, ``edited``; and how many are not decided:
        ``open`` and ``disputed``.

    Raises:
        Refusal: There is no such build (404).
        StoreError: They cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    counted: Counter[str] = Counter()

    def noted(review: Review) -> Review:
        counted.update([review.verdict, *(["edited"] if review.record is not None else [])])
        return review

    with database.read() as session:
        write_reviews(out, map(noted, verdicts(session, build)))
        id = session.scalar(select(Build.id).where(Build.name == build))
        states = Counter(session.scalars(select(Item.state).where(Item.build_id == id)))
    found = {"accepted": counted[ACCEPTED], "rejected": counted[REJECTED], "edited": counted["edited"]}
    return {**found, **{state: states[state] for state in (OPEN, DISPUTED)}}
