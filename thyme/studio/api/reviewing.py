"""Leases, verdicts, edits, and taking back."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from thyme.data.drafts import Draft
from thyme.studio import leases, reviews
from thyme.studio.accounts import Person
from thyme.studio.api.asking import Asking, Body, Id, Leading, Number, Shared
from thyme.studio.database import storable
from thyme.studio.editing import MOST_BLOCKS, Block, require_blocks, rerun
from thyme.studio.entries import entry, still_open
from thyme.studio.filters import Filter, Words, conditions
from thyme.studio.models import Revision
from thyme.studio.records import (
    build_name,
    draft_of,
    draft_view,
    latest_revision,
    record_view,
    review_view,
)
from thyme.studio.refusal import Refusal
from thyme.studio.service import Studio
from thyme.studio.times import lease_view

router = APIRouter()


class Next(Filter):
    """Which record to go on with."""

    state: Literal["", "open"] = ""
    after: Number = 0
    """Id of an item: what comes behind it first."""
    release: Number = 0
    """Id of an item to give back."""


class VerdictBody(Body):
    """A verdict as it is sent."""

    verdict: Literal["accept", "reject"]
    reason: str = Field("", max_length=100)
    note: Words = Field("", max_length=10_000)
    revision: Number | None = None
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)

    def said(self) -> reviews.Said:
        """As it is kept."""
        return reviews.Said(self.verdict, self.reason, self.note, self.revision, self.seconds)


class Edit(Body):
    """A record as a person wants it."""

    blocks: list[Block] = Field(min_length=1, max_length=MOST_BLOCKS)


@router.post("/next")
def take_next(studio: Shared, person: Asking, body: Next) -> dict[str, Any]:
    """Lease the next record that matches and is to be reviewed."""
    with studio.database.write() as session:
        if body.release:
            leases.release(session, body.release, person.id)
        where = conditions(session, body, person.id)
        found = leases.take_next(session, where, person.id, studio.config.lease_s, body.after, body.release)
        line = None if found is None else entry(session, found, person.id)
    with studio.database.read() as session:
        return {"item": line, "open": still_open(session, body, person.id)}


@router.post("/items/{item_id}/lease")
def lease(studio: Shared, person: Asking, item_id: Id) -> dict[str, Any]:
    """Lease a record, or renew its lease."""
    with studio.database.write() as session:
        item = leases.locked(session, item_id)
        return {"lease": lease_view(leases.require(session, item, person.id, studio.config.lease_s).until)}


@router.delete("/items/{item_id}/lease")
def give_back(studio: Shared, person: Asking, item_id: Id) -> dict[str, Any]:
    """Give a record back."""
    with studio.database.write() as session:
        leases.release(session, item_id, person.id)
    return {}


@router.post("/items/{item_id}/verdict")
def verdict(studio: Shared, person: Asking, item_id: Id, body: VerdictBody) -> dict[str, Any]:
    """Accept or reject a record."""
    with studio.database.write() as session:
        row, item = reviews.give(session, person, item_id, body.said(), studio.config.lease_s)
        return {"review": review_view(row, person.name), "state": item.state}


@router.post("/items/{item_id}/decision")
def decision(studio: Shared, person: Leading, item_id: Id, body: VerdictBody) -> dict[str, Any]:
    """Decide over what reviewers said."""
    with studio.database.write() as session:
        row, item = reviews.decide(session, person, item_id, body.said())
        return {"review": review_view(row, person.name), "state": item.state}


@router.post("/undo")
def undo(studio: Shared, person: Asking) -> dict[str, Any]:
    """Take back what one said last."""
    with studio.database.write() as session:
        item = reviews.undo(session, person, studio.config.lease_s)
        return {"item": None if item is None else entry(session, item, person.id)}


@router.post("/items/{item_id}/edit")
async def edit(studio: Shared, person: Asking, item_id: Id, body: Edit) -> dict[str, Any]:
    """Run a record anew as a person wrote it, and keep it as a revision."""
    require_blocks(body.blocks)
    if studio.sandbox is None:
        raise Refusal(503, "sandbox", "this studio was started without builds, and so without a sandbox")
    draft, build = await asyncio.to_thread(_opened, studio, person, item_id)
    recipe = studio.builds.recipe(build)
    async with studio.running:
        made, fault = await rerun(
            draft, body.blocks, studio.builds.folder(build), recipe, studio.sandbox, studio.prompts(recipe)
        )
    return await asyncio.to_thread(_kept, studio, person, item_id, made, fault)


def _opened(studio: Studio, person: Person, item_id: int) -> tuple[Draft, str]:
    """The record to be edited, leased to the person who does so."""
    with studio.database.write() as session:
        item = leases.locked(session, item_id)
        if not person.lead:  # who leads may decide about any record, and so mend any
            leases.require(session, item, person.id, studio.config.lease_s)
        latest = latest_revision(session, item, person)
        return draft_of(session, studio.builds, item, latest), build_name(session, item)


def _kept(studio: Studio, person: Person, item_id: int, draft: Draft, fault: str) -> dict[str, Any]:
    with studio.database.write() as session:
        item = leases.locked(session, item_id)
        made = draft_of(session, studio.builds, item, None)
        if not fault and draft_view(item_id, draft)["blocks"] == draft_view(item_id, made)["blocks"]:
            return record_view(session, studio.builds, item, person, 0)  # nothing was changed after all
        revision = Revision(
            item_id=item_id,
            reviewer_id=person.id,
            created=time.time(),
            draft=draft.model_dump_json(),
            fault=storable(fault, ""),
        )
        session.add(revision)
        session.flush()
        return record_view(session, studio.builds, item, person, revision.id)
