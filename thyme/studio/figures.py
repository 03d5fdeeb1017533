"""How far the reviews are, and how far reviewers agree."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from thyme.data.annotation.agreement import kappa
from thyme.studio.models import ACCEPTED, REJECTED, STATES, Build, Item, Lease, Reviewer, ReviewRow
from thyme.studio.times import midnight

_LATEST = 500
"""Reviews whose median time is told."""
_DONE = ("accepted", "rejected", "edited", "undone", "today", "last")
"""What is told of a reviewer, in the order in which it is counted."""


def progress(session: Session, build: str = "") -> dict[str, Any]:
    """How many records are in which state, and what each reviewer has done.

    Args:
        session: Of the database.
        build: Name of one; empty: all of them.
    """
    of, stands = _of(build), ReviewRow.undone.is_(None)
    states = dict(session.execute(select(Item.state, func.count()).where(*of).group_by(Item.state)).all())
    held = select(func.count()).select_from(Lease).join(Item, Item.id == Lease.item_id)
    leased = session.scalar(held.where(Lease.done.is_(False), Lease.until > time.time(), *of))
    counted = session.execute(
        select(
            ReviewRow.reviewer_id,
            func.sum(case((and_(stands, ReviewRow.verdict == ACCEPTED), 1), else_=0)),
            func.sum(case((and_(stands, ReviewRow.verdict == REJECTED), 1), else_=0)),
            func.sum(case((and_(stands, ReviewRow.revision_id.is_not(None)), 1), else_=0)),
            func.sum(case((~stands, 1), else_=0)),
            func.sum(case((and_(stands, ReviewRow.created >= midnight()), 1), else_=0)),
            func.max(ReviewRow.created),
        )
        .join(Item, Item.id == ReviewRow.item_id)
        .where(*of)
        .group_by(ReviewRow.reviewer_id)
    )
    done = {reviewer: figures for reviewer, *figures in counted}
    people = session.scalars(select(Reviewer).order_by(Reviewer.name)).all()
    return {
        "states": {state: states.get(state, 0) for state in STATES},
        "leased": leased or 0,
        "reviewers": [
            {
                "name": one.name,
                **dict(zip(_DONE, done.get(one.id, (0, 0, 0, 0, 0, None)), strict=True)),
                "seconds": _usual_seconds(session, one.id),
            }
            for one in people
        ],
    }


def _usual_seconds(session: Session, reviewer: int) -> float | None:
    """Median of how long a reviewer's latest reviews took; None where nothing is known."""
    query = select(ReviewRow.seconds).where(ReviewRow.reviewer_id == reviewer, ReviewRow.seconds.is_not(None))
    seconds = [one for one in session.scalars(query.order_by(ReviewRow.id.desc()).limit(_LATEST)) if one is not None]
    return median(seconds) if seconds else None


def agreement(session: Session, build: str = "") -> dict[str, Any]:
    """How far those agree who reviewed the same records, each pair of them and all together.

    What counts is what they said when their reviews first stood beside each other: from then on they see the other's.
    A lead's decision is no review. The figure of all together is the mean of the pairs' kappas, weighted by their
    records, over the pairs that have one.

    Args:
        session: Of the database.
        build: Name of one; empty: all of them.
    """
    rows = session.execute(
        select(ReviewRow, Reviewer.name)
        .join(Reviewer, Reviewer.id == ReviewRow.reviewer_id)
        .join(Item, Item.id == ReviewRow.item_id)
        .where(ReviewRow.decision.is_(False), Item.wanted > 1, *_of(build))
        .order_by(ReviewRow.id)
    )
    said: dict[int, list[tuple[ReviewRow, str]]] = defaultdict(list)
    for row, name in rows:
        said[row.item_id].append((row, name))
    tables: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for verdicts in map(_independent, said.values()):
        for first, second in combinations(sorted(verdicts), 2):
            tables[first, second][verdicts[first], verdicts[second]] += 1
    pairs = [{"first": a, "second": b, **_figures(tables[a, b])} for a, b in sorted(tables)]
    items, agreed = sum(pair["items"] for pair in pairs), sum(pair["agreed"] for pair in pairs)
    known = [(pair["kappa"], pair["items"]) for pair in pairs if pair["kappa"] is not None]
    weights = sum(weight for _, weight in known)
    return {
        "items": items,
        "agreed": agreed,
        "share": agreed / items if items else None,
        "kappa": sum(value * weight for value, weight in known) / weights if weights else None,
        "pairs": pairs,
    }


def _independent(rows: Sequence[tuple[ReviewRow, str]]) -> dict[str, str]:
    """Verdicts by name when those of two people first stood; empty where they never did.

    Args:
        rows: All reviews of an item, those that were taken back, too, in the order in which they were given.
    """
    for place, (latest, _) in enumerate(rows):
        stood = {
            name: row.verdict for row, name in rows[: place + 1] if row.undone is None or row.undone > latest.created
        }
        if len(stood) > 1:
            return stood
    return {}


def _figures(table: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    items, agreed = sum(table.values()), sum(count for (a, b), count in table.items() if a == b)
    return {"items": items, "agreed": agreed, "share": agreed / items if items else None, "kappa": kappa(table)}


def _of(build: str) -> Iterable[Any]:
    return [Item.build_id.in_(select(Build.id).where(Build.name == build))] if build else []
