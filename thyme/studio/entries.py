"""Records in a list: a line each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from thyme.studio.filters import Filter, conditions
from thyme.studio.leases import free_for
from thyme.studio.models import OPEN, Build, Item, Lease, ReviewRow

MOST: Final = 200
"""Entries of a page."""


def listed(session: Session, wanted: Filter, reviewer: int, page: int, size: int) -> dict[str, Any]:
    """A page of the records that match.

    Args:
        session: Of the database.
        wanted: Which.
        reviewer: Id of the person who asks.
        page: From 1; past the end: the last one.
        size: Entries of a page.
    """
    where = conditions(session, wanted, reviewer)
    size = min(max(size, 1), MOST)
    total = session.scalar(select(func.count()).select_from(Item).where(*where)) or 0
    pages = max(1, -(-total // size))
    page = min(max(page, 1), pages)
    rows = session.scalars(select(Item).where(*where).order_by(Item.id).offset((page - 1) * size).limit(size))
    return {"items": entries(session, list(rows), reviewer), "total": total, "page": page, "pages": pages}


def entries(session: Session, items: Sequence[Item], reviewer: int) -> list[dict[str, Any]]:
    """Lines of records, in their order."""
    ids = [item.id for item in items]
    builds = dict(session.execute(select(Build.id, Build.name)).all())
    said = select(ReviewRow.item_id, ReviewRow.verdict).where(
        ReviewRow.item_id.in_(ids), ReviewRow.reviewer_id == reviewer, ReviewRow.undone.is_(None)
    )
    mine = dict(session.execute(said.order_by(ReviewRow.id)).all())
    held = select(Lease.item_id, Lease.reviewer_id).where(
        Lease.item_id.in_(ids), Lease.done.is_(False), Lease.until > time.time()
    )
    leased: dict[int, str] = {}
    for item_id, holder in session.execute(held):
        if leased.get(item_id) != "me":
            leased[item_id] = "me" if holder == reviewer else "other"
    return [
        {
            "id": item.id,
            "record": item.record,
            "build": builds[item.build_id],
            "scenario": item.scenario,
            "source": item.source,
            "teacher": item.teacher,
            "kind": item.kind,
            "rounds": item.rounds,
            "question": item.question,
            "wanted": item.wanted,
            "state": item.state,
            "mine": mine.get(item.id),
            "leased": leased.get(item.id),
        }
        for item in items
    ]


def entry(session: Session, item: Item, reviewer: int) -> dict[str, Any]:
    """The line of one record."""
    (found,) = entries(session, [item], reviewer)
    return found


def still_open(session: Session, wanted: Filter, reviewer: int) -> dict[str, int]:
    """Of the records that match: how many this person could review now, all that are open, and with others now."""
    where = [*conditions(session, wanted.model_copy(update={"state": ""}), reviewer), Item.state == OPEN]

    def count(*more: Any) -> int:
        return session.scalar(select(func.count()).select_from(Item).where(*where, *more)) or 0

    active = select(Lease.item_id).where(
        Lease.done.is_(False), Lease.until > time.time(), Lease.reviewer_id != reviewer
    )
    reviewed = select(Lease.item_id).where(Lease.reviewer_id == reviewer, Lease.done)
    total = count()
    # What is open and has no place is with somebody now, or was reviewed by this person: few, of which indexes tell.
    taken = count(Item.id.in_(active.union(reviewed)), ~free_for(reviewer))
    return {"free": total - taken, "open": total, "others": count(Item.id.in_(active))}
