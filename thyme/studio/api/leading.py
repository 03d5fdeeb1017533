"""What only those do who lead: links, people, export."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy import select

from thyme.studio.accounts import roles_of
from thyme.studio.api.asking import Body, BuildName, Id, Leading, Shared
from thyme.studio.filters import Words
from thyme.studio.models import Build, Invite, Reviewer
from thyme.studio.refusal import Refusal, missing
from thyme.studio.verdicts import export, verdicts

router = APIRouter()


class Which(Body):
    """Name of a build."""

    build: Words = Field(max_length=200)


class Invitation(Body):
    """Whom a link lets in."""

    name: str = Field("", max_length=400)
    lead: bool = False
    roles: list[str] | None = Field(None, max_length=10)


class Change(Body):
    """What a person may do from now on."""

    active: bool | None = None
    lead: bool | None = None
    roles: list[str] | None = Field(None, max_length=10)


@router.post("/export")
def write(studio: Shared, person: Leading, body: Which) -> dict[str, int]:
    """Write the verdicts into the build's folder."""
    return export(studio.database, body.build, studio.builds.folder(body.build))


@router.get("/export")
def lines(studio: Shared, person: Leading, build: BuildName) -> StreamingResponse:
    """The verdicts as JSON lines."""
    with studio.database.read() as session:
        if session.scalar(select(Build.id).where(Build.name == build)) is None:
            raise missing("build")

    def rows() -> Iterator[str]:
        with studio.database.read() as session:
            for review in verdicts(session, build):
                yield review.model_dump_json() + "\n"

    headers = {"content-disposition": 'attachment; filename="reviews.jsonl"'}
    return StreamingResponse(rows(), media_type="application/x-ndjson", headers=headers)


@router.get("/invites")
def invites(studio: Shared, person: Leading) -> dict[str, Any]:
    """Links that still work; their tokens are kept as hashes only."""
    query = select(Invite).where(Invite.used.is_(None), Invite.expires > time.time()).order_by(Invite.id)
    with studio.database.read() as session:
        found = [
            {"id": one.id, "name": one.name, "lead": one.lead, "expires": one.expires} for one in session.scalars(query)
        ]
    return {"invites": found}


@router.post("/invites")
def invite(studio: Shared, person: Leading, body: Invitation) -> dict[str, Any]:
    """Make a link; it is shown this once."""
    return {"link": studio.link(body.name, lead=body.lead, roles=body.roles)}


@router.delete("/invites/{invite_id}")
def uninvite(studio: Shared, person: Leading, invite_id: Id) -> dict[str, Any]:
    """Take a link back."""
    with studio.database.write() as session:
        found = session.get(Invite, invite_id)
        if found is None or found.used is not None:
            raise missing("link that still works")
        session.delete(found)
    return {}


@router.get("/reviewers")
def reviewers(studio: Shared, person: Leading) -> dict[str, Any]:
    """Who there is."""
    with studio.database.read() as session:
        return {"reviewers": [_told(one) for one in session.scalars(select(Reviewer).order_by(Reviewer.name))]}


@router.post("/reviewers/{reviewer_id}")
def change(studio: Shared, person: Leading, reviewer_id: Id, body: Change) -> dict[str, Any]:
    """Change what a person may."""
    if reviewer_id == person.id:
        raise Refusal(409, "self", "somebody else who leads has to change this about you")
    changed = studio.accounts.change(reviewer_id, active=body.active, lead=body.lead, roles=body.roles)
    return {"reviewer": _told(changed)}


def _told(reviewer: Reviewer) -> dict[str, Any]:
    roles = roles_of(reviewer.roles, lead=reviewer.lead)
    return {
        "id": reviewer.id, "name": reviewer.name, "lead": reviewer.lead, "active": reviewer.active, "roles": roles
    }  # fmt: skip
