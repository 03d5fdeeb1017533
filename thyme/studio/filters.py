"""Which records are meant."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, exists, false, func, or_, select
from sqlalchemy.orm import Session

from thyme.studio.database import storable
from thyme.studio.models import Build, Item, Lease, ReviewRow, Revision

COLUMNS = ("scenario", "source", "teacher", "kind")
"""What is filtered by as it is."""


Words = Annotated[str, AfterValidator(lambda text: storable(text, ""))]
"""Text for the database, without what it cannot hold."""


class Filter(BaseModel):
    """What records must meet; what is empty excludes none."""

    model_config = ConfigDict(extra="forbid")

    build: Words = Field("", max_length=200)
    scenario: Words = Field("", max_length=100)
    source: Words = Field("", max_length=200)
    teacher: Words = Field("", max_length=300)
    kind: Words = Field("", max_length=200)
    state: Literal["", "open", "accept", "reject", "disputed"] = ""
    search: Words = Field("", max_length=300)
    """In question and id; upper and lower case are one."""
    rounds: int | None = Field(None, ge=0, le=1000)
    mine: Literal["", "reviewed", "leased", "edited"] = ""


def conditions(session: Session, wanted: Filter, reviewer: int) -> list[ColumnElement[bool]]:
    """A filter as the database reads it.

    Args:
        session: Knows the builds.
        wanted: The filter.
        reviewer: Id of the person whose records ``mine`` means.
    """
    found: list[ColumnElement[bool]] = []
    if wanted.build:
        build = session.scalar(select(Build.id).where(Build.name == wanted.build))
        found.append(false() if build is None else Item.build_id == build)
    for name in COLUMNS:
        if value := getattr(wanted, name):
            found.append(getattr(Item, name) == value)
    if wanted.state:
        found.append(Item.state == wanted.state)
    if wanted.rounds is not None:
        found.append(Item.rounds == wanted.rounds)
    if words := wanted.search.strip():
        found.append(
            or_(Item.question.icontains(words, autoescape=True), Item.record.icontains(words, autoescape=True))
        )
    if wanted.mine:
        found.append(_mine(wanted.mine, reviewer))
    return found


def _mine(which: str, reviewer: int) -> ColumnElement[bool]:
    if which == "reviewed":
        said = (ReviewRow.reviewer_id == reviewer, ReviewRow.undone.is_(None))
        return exists().where(ReviewRow.item_id == Item.id, *said)
    if which == "edited":
        return exists().where(Revision.item_id == Item.id, Revision.reviewer_id == reviewer)
    now = time.time()
    return exists().where(
        Lease.item_id == Item.id, Lease.reviewer_id == reviewer, Lease.done.is_(False), Lease.until > now
    )


def choices(session: Session) -> dict[str, list[dict[str, Any]]]:
    """What there is to choose from, and how many records of each."""
    names = session.execute(
        select(Build.name, func.count(Item.id)).outerjoin(Item).group_by(Build.name).order_by(Build.name)
    )
    found = {"builds": [{"value": value, "items": count} for value, count in names]}
    for name in COLUMNS:
        column = getattr(Item, name)
        rows = session.execute(select(column, func.count()).where(column != "").group_by(column).order_by(column))
        found[f"{name}s"] = [{"value": value, "items": count} for value, count in rows]
    return found
