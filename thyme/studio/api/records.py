"""Lists, records and pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from thyme.studio import figures
from thyme.studio.api import replies
from thyme.studio.api.asking import Asking, BuildName, Id, Number, Shared
from thyme.studio.entries import listed
from thyme.studio.filters import Filter, choices
from thyme.studio.models import STATES, Item
from thyme.studio.records import record_view
from thyme.studio.refusal import missing
from thyme.studio.reviews import REASONS

router = APIRouter()


class Page(Filter):
    """A filter, and which page of what it finds."""

    page: int = 1
    size: int = 50


@router.get("/choices")
def options(studio: Shared, person: Asking) -> dict[str, Any]:
    """What there is to choose from."""
    with studio.database.read() as session:
        found = choices(session)
    return {**found, "states": list(STATES), "reasons": REASONS, "lease_s": studio.config.lease_s}


@router.get("/items")
def items(studio: Shared, person: Asking, wanted: Annotated[Page, Query()]) -> dict[str, Any]:
    """Records that match, a page at a time."""
    with studio.database.read() as session:
        return listed(session, wanted, person.id, wanted.page, wanted.size)


@router.get("/items/{item_id}")
def item(studio: Shared, person: Asking, item_id: Id, revision: Number | None = None) -> dict[str, Any]:
    """All of one record."""
    with studio.database.read() as session:
        found = session.get(Item, item_id)
        if found is None:
            raise missing("record")
        return record_view(session, studio.builds, found, person, revision)


@router.get("/items/{item_id}/images/{image}")
def image(studio: Shared, person: Asking, item_id: Id, image: str, side: int | None = None) -> Response:
    """A picture of a record."""
    return replies.picture(studio.pictures.whole(item_id, image, side))


@router.get("/items/{item_id}/images/{image}/{level}/{x}_{y}")
def tile(studio: Shared, person: Asking, item_id: Id, image: str, level: int, x: int, y: int) -> Response:
    """A tile of a picture, for deep zoom."""
    return replies.picture(studio.pictures.tile(item_id, image, level, x, y))


@router.get("/progress")
def progress(studio: Shared, person: Asking, build: BuildName = "") -> dict[str, Any]:
    """How far the reviews are."""
    with studio.database.read() as session:
        return figures.progress(session, build)


@router.get("/agreement")
def agreement(studio: Shared, person: Asking, build: BuildName = "") -> dict[str, Any]:
    """How far reviewers agree."""
    with studio.database.read() as session:
        return figures.agreement(session, build)
