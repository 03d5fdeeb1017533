"""Who looks at which record: a place is taken for a while, and by nobody else.

All changes of an item's places are made while its row is locked (`locked`), so that two people never get the same one;
the key of the table would refuse it besides.
"""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from thyme.studio.models import OPEN, Item, Lease, Reviewer
from thyme.studio.refusal import Refusal, missing


def locked(session: Session, item_id: int) -> Item:
    """An item that nobody else changes until this transaction ends.

    Raises:
        Refusal: There is none (404).
    """
    item = session.get(Item, item_id, with_for_update=True)
    if item is None:
        raise missing("record")
    return item


def take(session: Session, item: Item, reviewer: int, seconds: float) -> Lease | None:
    """Lease an item, or renew the lease; None where all its places are taken.

    Args:
        session: In a transaction that holds the item (`locked`).
        item: To be leased; in any state, as decided ones may be looked at again.
        reviewer: Id of the person.
        seconds: For how long.
    """
    now = time.time()
    held = {lease.slot: lease for lease in session.scalars(select(Lease).where(Lease.item_id == item.id))}
    mine = next((lease for lease in held.values() if lease.reviewer_id == reviewer), None)
    if mine is not None:
        mine.until = mine.until if mine.done else now + seconds
        return mine
    for slot in range(item.wanted):
        if slot in held and (held[slot].done or held[slot].until > now):
            continue
        if slot in held:
            session.delete(held[slot])
            session.flush()
        lease = Lease(item_id=item.id, slot=slot, reviewer_id=reviewer, until=now + seconds, done=False)
        session.add(lease)
        session.flush()
        return lease
    return None


def require(session: Session, item: Item, reviewer: int, seconds: float) -> Lease:
    """As `take`, for somebody who must have the item to go on.

    Raises:
        Refusal: It is with others (409).
    """
    lease = take(session, item, reviewer, seconds)
    if lease is None:
        raise Refusal(409, "leased", f"{_holders(session, item)} has this record now; take the next one")
    return lease


def release(session: Session, item_id: int, reviewer: int) -> None:
    """Give an item back that nothing was said of."""
    session.execute(delete(Lease).where(Lease.item_id == item_id, Lease.reviewer_id == reviewer, Lease.done.is_(False)))


def take_next(
    session: Session, wanted: list[ColumnElement[bool]], reviewer: int, seconds: float, after: int = 0, skipped: int = 0
) -> Item | None:
    """Lease the next open item that this person has not reviewed; None where there is none.

    One that they have leased already comes first, unless `after` says to go on behind it.

    Args:
        session: In a transaction.
        wanted: What the item must meet beside.
        reviewer: Id of the person.
        seconds: For how long.
        after: Id of an item: what comes behind it first, then from the beginning.
        skipped: Id of an item that they have just given back, and do not get again.
    """
    wanted = [*wanted, Item.id != skipped] if skipped else wanted
    if not after and (mine := _leased(session, wanted, reviewer)) is not None:
        take(session, mine, reviewer, seconds)
        return mine
    for first, last in ((after, None), (0, after)) if after else ((0, None),):
        position = first
        while (item := _candidate(session, wanted, reviewer, position, last)) is not None:
            if take(session, item, reviewer, seconds) is not None:
                return item
            position = item.id  # somebody else was quicker
    return None


def _leased(session: Session, wanted: list[ColumnElement[bool]], reviewer: int) -> Item | None:
    held = select(Lease.item_id).where(Lease.reviewer_id == reviewer, Lease.done.is_(False), Lease.until > time.time())
    query = select(Item).where(Item.state == OPEN, Item.id.in_(held), *wanted).order_by(Item.id).limit(1)
    return session.scalars(query.with_for_update()).first()


def _candidate(
    session: Session, wanted: list[ColumnElement[bool]], reviewer: int, after: int, last: int | None
) -> Item | None:
    query = select(Item).where(Item.state == OPEN, Item.id > after, free_for(reviewer), *wanted)
    if last is not None:
        query = query.where(Item.id <= last)
    return session.scalars(query.order_by(Item.id).limit(1).with_for_update(skip_locked=True)).first()


def free_for(reviewer: int) -> ColumnElement[bool]:
    """That an item has a place for somebody who has not reviewed it."""
    taken = or_(Lease.done, Lease.until > time.time())
    others = (
        select(func.count()).select_from(Lease).where(Lease.item_id == Item.id, Lease.reviewer_id != reviewer, taken)
    ).scalar_subquery()
    reviewed = exists().where(and_(Lease.item_id == Item.id, Lease.reviewer_id == reviewer, Lease.done))
    return and_(others < Item.wanted, ~reviewed)


def has_place(session: Session, item: int, reviewer: int) -> bool:
    """Whether somebody who has not reviewed an item could do so now."""
    return session.scalar(select(Item.id).where(Item.id == item, free_for(reviewer))) is not None


def _holders(session: Session, item: Item) -> str:
    names = session.scalars(
        select(Reviewer.name).join(Lease, Lease.reviewer_id == Reviewer.id).where(Lease.item_id == item.id)
    )
    return " and ".join(sorted(names)) or "somebody else"
