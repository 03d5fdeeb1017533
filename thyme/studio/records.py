"""A record as a page shows it. All texts are as models and people wrote them: it is the page that escapes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from thyme.data.drafts import Draft
from thyme.data.scenarios import SCENARIOS
from thyme.errors import MarkupError
from thyme.markup import extract_code, parse
from thyme.studio.accounts import Person
from thyme.studio.builds import Builds
from thyme.studio.entries import entry
from thyme.studio.models import Build, Item, Lease, Reviewer, ReviewRow, Revision
from thyme.studio.refusal import missing
from thyme.studio.reviews import sees_others
from thyme.studio.times import lease_view
from thyme.types import ImageRecord, Observation


def record_view(
    session: Session, builds: Builds, item: Item, person: Person, revision: int | None = None
) -> dict[str, Any]:
    """All that a page shows of a record.

    Args:
        session: Of the database.
        builds: Where records lie.
        item: Which.
        person: Who asks.
        revision: Id of the revision; 0: as it was made; None: the person's own latest, or as it was made.

    Raises:
        Refusal: There is no such revision (404).
        StoreError: The record is not in the build's folder any more.
    """
    shown = _revision(session, item, person, revision)
    draft = draft_of(session, builds, item, shown)
    return {
        **entry(session, item, person.id),
        **draft_view(item.id, draft),
        "lease": _lease(session, item, person),
        "reviews": _reviews(session, item, person),
        "revisions": _revisions(session, item, person),
        "revision": None if shown is None else shown.id,
        "fault": "" if shown is None else shown.fault,
    }


def draft_of(session: Session, builds: Builds, item: Item, revision: Revision | None) -> Draft:
    """The draft of an item, as it was made or changed, without pixels."""
    if revision is not None:
        return Draft.model_validate_json(revision.draft)
    return builds.draft(build_name(session, item), item.record)


def build_name(session: Session, item: Item) -> str:
    """Name of the build that an item is of."""
    return session.scalars(select(Build.name).where(Build.id == item.build_id)).one()


def draft_view(item_id: int, draft: Draft) -> dict[str, Any]:
    """What is shown of a draft itself."""
    steps = list(_steps(item_id, draft))
    return {
        "title": title_of(draft.scenario),
        "question": draft.problem.question,
        "choices": list(draft.problem.choices),
        "answer": draft.problem.answer,
        "images": [_picture(item_id, image) for image in draft.problem.images],
        "steps": steps,
        "blocks": [{"kind": one["kind"], "text": one["text"]} for one in steps if one["kind"] != "observation"],
        "hints": draft.hints,
        "verdicts": [verdict.model_dump() for verdict in draft.verdicts],
    }


def title_of(scenario: str) -> str:
    """What a scenario is called on pages."""
    return SCENARIOS[scenario].title if scenario in SCENARIOS else scenario


def images_of(draft: Draft) -> dict[str, ImageRecord]:
    """Pictures that belong to a draft, by id."""
    made = (image for one in draft.segments if isinstance(one, Observation) for image in one.execution.images)
    return {image.id: image for image in (*draft.problem.images, *made)}


def _steps(item_id: int, draft: Draft) -> Iterator[dict[str, Any]]:
    observations = [segment for segment in draft.segments if isinstance(segment, Observation)]
    try:
        blocks = parse("".join(segment.text for segment in draft.segments))
    except MarkupError:
        blocks = ()
    kinds = [block.kind for block in blocks]
    if not blocks or {kinds.count("code"), kinds.count("observation")} != {len(observations)}:
        yield from _raw_steps(item_id, draft)  # what breaks the grammar is shown as it stands
        return
    ran, gave, before = iter(observations), iter(observations), ""
    for block in blocks:
        if block.kind == "observation":
            yield _observation(item_id, next(gave))
        elif block.kind == "code":
            yield _code(extract_code(block.text), next(ran))
        else:  # an observation ends its line, which is no part of the text behind it
            text = block.text.removeprefix("\n") if before == "observation" else block.text
            yield {"kind": block.kind, "text": text}
        before = block.kind


def _raw_steps(item_id: int, draft: Draft) -> Iterator[dict[str, Any]]:
    for place, segment in enumerate(draft.segments):
        if isinstance(segment, Observation):
            yield _observation(item_id, segment)
        elif segment.kind == "code":
            following = draft.segments[place + 1] if place + 1 < len(draft.segments) else None
            yield _code(extract_code(segment.text), following if isinstance(following, Observation) else None)
        else:
            yield {"kind": "text", "text": segment.text}


def _code(ran: str, observation: Observation | None) -> dict[str, Any]:
    step: dict[str, Any] = {"kind": "code", "text": ran}
    if observation is not None and observation.execution.code.strip() != ran.strip():
        step["written"] = observation.execution.code
    return step


def _observation(item_id: int, observation: Observation) -> dict[str, Any]:
    execution = observation.execution
    return {
        "kind": "observation",
        "text": observation.text,
        "images": [_picture(item_id, image) for image in execution.images],
        "stdout": execution.stdout,
        "error": None if execution.error is None else execution.error.model_dump(),
        "repairs": [{"name": repair.name, "note": repair.note} for repair in execution.repairs],
        "seconds": execution.duration_s,
        "truncated": execution.truncated,
    }


def _picture(item_id: int, image: ImageRecord) -> dict[str, Any]:
    return {
        "id": image.id,
        "name": image.name,
        "width": image.width,
        "height": image.height,
        "url": f"/api/items/{item_id}/images/{image.id}",
    }


def latest_revision(session: Session, item: Item, person: Person) -> Revision | None:
    """The record as this person changed it last; None where they did not."""
    query = select(Revision).where(Revision.item_id == item.id, Revision.reviewer_id == person.id)
    return session.scalars(query.order_by(Revision.id.desc()).limit(1)).first()


def _revision(session: Session, item: Item, person: Person, id: int | None) -> Revision | None:
    if id == 0:
        return None
    if id is None:
        return latest_revision(session, item, person)
    found = session.scalars(select(Revision).where(Revision.item_id == item.id, Revision.id == id)).first()
    if found is None or (found.reviewer_id != person.id and not sees_others(session, item, person)):
        raise missing("revision")
    return found


def _lease(session: Session, item: Item, person: Person) -> dict[str, float] | None:
    query = select(Lease).where(Lease.item_id == item.id, Lease.reviewer_id == person.id, Lease.done.is_(False))
    lease = session.scalars(query).first()
    return None if lease is None else lease_view(lease.until)


def _reviews(session: Session, item: Item, person: Person) -> list[dict[str, Any]]:
    query = (
        select(ReviewRow, Reviewer.name)
        .join(Reviewer, Reviewer.id == ReviewRow.reviewer_id)
        .where(ReviewRow.item_id == item.id, ReviewRow.undone.is_(None))
        .order_by(ReviewRow.id)
    )
    if not sees_others(session, item, person):
        query = query.where(ReviewRow.reviewer_id == person.id)
    return [review_view(row, name) for row, name in session.execute(query)]


def review_view(row: ReviewRow, name: str) -> dict[str, Any]:
    """A verdict as a page shows it."""
    return {
        "id": row.id,
        "name": name,
        "verdict": row.verdict,
        "reason": row.reason,
        "note": row.note,
        "at": row.created,
        "revision": row.revision_id,
        "decision": row.decision,
    }


def _revisions(session: Session, item: Item, person: Person) -> list[dict[str, Any]]:
    query = (
        select(Revision.id, Reviewer.name, Revision.created, Revision.fault)
        .join(Reviewer, Reviewer.id == Revision.reviewer_id)
        .where(Revision.item_id == item.id)
        .order_by(Revision.id)
    )
    if not sees_others(session, item, person):
        query = query.where(Revision.reviewer_id == person.id)
    rows = session.execute(query)
    return [{"id": id, "name": name, "at": at, "fault": fault} for id, name, at, fault in rows]
