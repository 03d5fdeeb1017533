"""Verdicts: given, taken back, decided by a lead; and the state of an item that follows from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.data.drafts import Draft
from thyme.studio import leases
from thyme.studio.accounts import Person
from thyme.studio.models import ACCEPTED, DISPUTED, OPEN, REJECTED, Item, Lease, ReviewRow, Revision
from thyme.studio.refusal import Refusal, missing
from thyme.studio.times import page_seconds
from thyme.types import Generated

REASONS: Final[dict[str, str]] = {
    "wrong_answer": "the answer is wrong",
    "wrong_reasoning": "the answer may be right, but the reasoning does not lead to it",
    "wrong_region": "the code looks at the wrong part of the picture",
    "wrong_operation": "the code does the wrong thing, or does it badly",
    "needless_code": "the question is answered as well without the code",
    "bad_question": "the question cannot be answered, or has several right answers",
    "bad_picture": "the picture is broken, unreadable, or does not belong to the question",
    "bad_language": "the text is badly written, repeats itself, or is in the wrong language",
    "gives_away": "question, names or comments give the answer away",
    "unsuitable": "private, hurtful, or otherwise not to be trained on",
    "other": "something else; the note says what",
}
"""Why a record is rejected, and what it means."""


@dataclass(frozen=True)
class Said:
    """A verdict as it is given."""

    verdict: Literal["accept", "reject"]
    reason: str = ""
    note: str = ""
    revision: int | None = None
    """Id of the revision that is accepted; None: the record as it was made."""
    seconds: float | None = None


def give(session: Session, person: Person, item_id: int, said: Said, lease_s: float) -> tuple[ReviewRow, Item]:
    """Keep a person's verdict, in place of one that they gave before.

    Args:
        session: In a transaction.
        person: Who has the item, or can still have it.
        item_id: The item.
        said: What they say.
        lease_s: For how long the place is theirs, should they take it back.

    Raises:
        Refusal: The item is with others (409), or cannot be accepted so (400, 409).
    """
    item = leases.locked(session, item_id)
    lease = leases.require(session, item, person.id, lease_s)
    _check(session, person, item, said)
    for before in _standing(session, item, person.id, decision=False):
        before.undone = time.time()
    row = _add(session, person, item, said, decision=False)
    lease.done = True
    settle(session, item)
    return row, item


def decide(session: Session, person: Person, item_id: int, said: Said) -> tuple[ReviewRow, Item]:
    """Keep a lead's decision, over what reviewers said.

    Raises:
        Refusal: The person does not lead (403), or the item cannot be accepted so (400, 409).
    """
    if not person.lead:
        raise Refusal(403, "lead", "only those who lead decide")
    item = leases.locked(session, item_id)
    _check(session, person, item, said)
    for before in _standing(session, item, None, decision=True):
        before.undone = time.time()
    row = _add(session, person, item, said, decision=True)
    settle(session, item)
    return row, item


def undo(session: Session, person: Person, lease_s: float) -> Item | None:
    """Take back the verdict that a person gave last; the item is leased to them again.

    Args:
        session: In a transaction.
        person: Whose verdict.
        lease_s: For how long.

    Returns:
        The item; None where nothing that they said stands.
    """
    standing = (ReviewRow.reviewer_id == person.id, ReviewRow.undone.is_(None))
    row = session.scalars(select(ReviewRow).where(*standing).order_by(ReviewRow.id.desc()).limit(1)).first()
    if row is None:
        return None
    item = leases.locked(session, row.item_id)
    now = time.time()
    row.undone = now
    if not row.decision:
        for lease in session.scalars(select(Lease).where(Lease.item_id == item.id, Lease.reviewer_id == person.id)):
            lease.done, lease.until = False, now + lease_s
    settle(session, item)
    return item


def standing(session: Session, item_id: int) -> list[ReviewRow]:
    """What stands of an item, in the order in which it was said."""
    rows = select(ReviewRow).where(ReviewRow.item_id == item_id, ReviewRow.undone.is_(None)).order_by(ReviewRow.id)
    return list(session.scalars(rows))


def sees_others(session: Session, item: Item, person: Person) -> bool:
    """Whether somebody may know what others said, and how they changed the record.

    Who has said something themselves may; and who leads, but where that would be a second review that knows the first.
    """
    if person.lead and (item.state != OPEN or item.wanted == 1):
        return True
    return any(row.reviewer_id == person.id for row in standing(session, item.id))


def settle(session: Session, item: Item) -> None:
    """Put an item into the state that follows from what stands of it."""
    session.flush()
    rows = standing(session, item.id)
    item.state = state_of(rows, item.wanted, _texts(session, rows))


def _texts(session: Session, rows: Sequence[ReviewRow]) -> dict[int, str]:
    """What was written in the revisions that were accepted, where these are several."""
    ids = {row.revision_id for row in rows if row.revision_id is not None}
    if len(ids) < 2:
        return {}
    drafts = session.execute(select(Revision.id, Revision.draft).where(Revision.id.in_(ids)))
    return {id: _written(Draft.model_validate_json(draft)) for id, draft in drafts}


def _written(draft: Draft) -> str:
    return "".join(segment.text for segment in draft.segments if isinstance(segment, Generated))


def state_of(rows: Sequence[ReviewRow], wanted: int, texts: Mapping[int, str] = MappingProxyType({})) -> str:
    """The state that follows from reviews.

    A lead's decision counts alone. Else all that are wanted must be there, and say the same: the same verdict and, of a
    record that they accept, the same text.

    Args:
        rows: What stands of the item, in order.
        wanted: Reviews.
        texts: Of revisions, by id; those that are missing are like no other.
    """
    decisions = [row for row in rows if row.decision]
    if decisions:
        return decisions[-1].verdict
    if len(rows) < wanted:
        return OPEN
    if all(row.verdict == REJECTED for row in rows):
        return REJECTED
    accepted = {texts.get(row.revision_id or 0, row.revision_id) for row in rows}
    return ACCEPTED if all(row.verdict == ACCEPTED for row in rows) and len(accepted) == 1 else DISPUTED


def _standing(session: Session, item: Item, reviewer: int | None, *, decision: bool) -> list[ReviewRow]:
    rows = standing(session, item.id)
    return [row for row in rows if row.decision is decision and reviewer in {None, row.reviewer_id}]


def _check(session: Session, person: Person, item: Item, said: Said) -> None:
    if said.verdict == REJECTED:
        if said.reason not in REASONS:
            raise Refusal(400, "reason", f"a rejection needs one of the reasons: {', '.join(REASONS)}")
        if said.reason == "other" and not said.note.strip():
            raise Refusal(400, "note", "say in the note what is wrong")
    elif said.revision is not None:
        revision = session.get(Revision, said.revision)
        if revision is None or revision.item_id != item.id:
            raise missing("revision")
        if revision.reviewer_id != person.id and not sees_others(session, item, person):
            raise missing("revision")
        if revision.fault:
            raise Refusal(409, "fault", f"this revision cannot be accepted: {revision.fault}")


def _add(session: Session, person: Person, item: Item, said: Said, *, decision: bool) -> ReviewRow:
    accepted = said.verdict == ACCEPTED
    row = ReviewRow(
        item_id=item.id,
        reviewer_id=person.id,
        verdict=said.verdict,
        reason="" if accepted else said.reason,
        note=said.note.strip(),
        revision_id=said.revision if accepted else None,
        decision=decision,
        seconds=page_seconds(said.seconds),
        created=time.time(),
    )
    session.add(row)
    session.flush()
    return row
