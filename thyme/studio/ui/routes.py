"""The paths of the pages. They read; whatever changes something goes through the paths below ``/api``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from thyme.data.drafts import Draft
from thyme.errors import StoreError
from thyme.studio import figures
from thyme.studio.accounts import Person
from thyme.studio.entries import listed, still_open
from thyme.studio.filters import Filter, choices
from thyme.studio.leases import has_place
from thyme.studio.models import DISPUTED, OPEN, STATES, Item, ReviewRow, Revision
from thyme.studio.records import draft_of, record_view, title_of
from thyme.studio.refusal import Refusal, missing
from thyme.studio.reviews import REASONS
from thyme.studio.service import Studio
from thyme.studio.times import midnight
from thyme.studio.ui import annotate, pages, words
from thyme.studio.ui.record import show

PER_PAGE = 50
"""Records on a page of the list."""
_MOST_ID = 1 << 63
"""Numbers that a database cannot hold name no record."""

Page = Callable[[Request, Person], Response]


def router(studio: Studio) -> APIRouter:
    """The pages and what they load, for the application to include."""
    routes, made = APIRouter(), _Pages(studio)
    routes.add_api_route("/ui/static/{name}", pages.static, methods=["GET"], response_model=None)
    for path, page in (
        ("/", made.listing),
        ("/items/{item_id:int}", made.record),
        ("/items/{item_id:int}/edit", made.edit),
        ("/progress", made.progress),
        ("/people", made.people),
    ):
        routes.add_api_route(path, made.guarded(page), methods=["GET"], response_model=None)
    routes.include_router(annotate.routes(made.page, made.guarded))
    routes.add_api_route("/join", made.join, methods=["GET"], response_model=None)
    return routes


class _Pages:
    """The pages, with what they share."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def page(self, name: str, me: Person | None, here: str = "", status: int = 200, **values: Any) -> Response:
        """A page of this studio: with the places that there are in it."""
        return pages.page(name, me, here, status, places=self._places(me), **values)

    def _places(self, me: Person | None) -> list[tuple[str, str]]:
        collections = bool(self._studio.collections.folders)
        found = list(annotate.PLACES) if collections else []
        if self._studio.builds.folders or not collections:
            found = [("/", "Records"), ("/progress", "Progress"), *found]
        return [*found, ("/people", "People")] if me and me.lead else found

    def _refused(self, me: Person | None, status: int, message: str) -> Response:
        heading = words.HEADINGS.get(status, words.HEADINGS[503])
        return self.page("gone.html.j2", me, status=status, heading=heading, message=words.sentence(message))

    def guarded(self, page: Page) -> Callable[[Request], Response]:
        """The page for those who are let in; for others, and where something is not there, a page that says so."""

        def shown(request: Request) -> Response:
            me = None
            try:
                me = self._studio.accounts.person_of(request)
                return self._refused(None, 401, words.STRANGER) if me is None else page(request, me)
            except Refusal as refusal:
                return self._refused(me, refusal.status, refusal.message)
            except StoreError as error:
                return self._refused(me, 503, str(error))

        return shown

    # --- lists --------------------------------------------------------------------------------------------------------

    def listing(self, request: Request, me: Person) -> Response:
        """Where people begin: what waits, and the records that match."""
        if self._studio.collections.folders and not self._studio.builds.folders:
            return RedirectResponse("/annotate", 303)
        wanted = read_filter(request)
        with self._studio.database.read() as session:
            found = listed(session, wanted, me.id, _number(request.query_params.get("page", ""), 1), PER_PAGE)
            return self.page(
                "list.html.j2",
                me,
                "/",
                wanted=wanted,
                query=query_of(wanted),
                next=next_filter(wanted),
                filters=_filters(session),
                found=found,
                first=(found["page"] - 1) * PER_PAGE + 1,
                open=still_open(session, wanted.model_copy(update={"mine": ""}), me.id),
                counts=_states(session),
                done=_own(session, me),
                states=words.STATES,
                title_of=title_of,
                finished="finished" in request.query_params,
            )

    def progress(self, request: Request, me: Person) -> Response:
        """How far the reviews are, and how far reviewers agree."""
        build = request.query_params.get("build", "")
        with self._studio.database.read() as session:
            return self.page(
                "progress.html.j2",
                me,
                "/progress",
                build=build,
                builds=[one["value"] for one in choices(session)["builds"]],
                progress=figures.progress(session, build),
                agreement=figures.agreement(session, build),
                states=words.STATES,
                share=words.share,
                moment=words.moment,
            )

    def people(self, request: Request, me: Person) -> Response:
        """Who reviews, and links for more; the script asks for them."""
        if not me.lead:
            raise Refusal(403, "lead", "only those who lead may see this")
        roles = annotate.ROLES if self._studio.collections.folders else {}
        return self.page("people.html.j2", me, "/people", roles=roles)

    def join(self, request: Request) -> Response:
        """Where a link leads; its token is behind the ``#``, which browsers send to nobody."""
        try:
            known = self._studio.accounts.person_of(request)
        except Refusal:
            known = None
        return pages.page("join.html.j2", None, known=known)

    # --- records ------------------------------------------------------------------------------------------------------

    def record(self, request: Request, me: Person) -> Response:
        """One record."""
        with self._studio.database.read() as session:
            view, draft = self._opened(session, request, me)
            return self.page(
                "record.html.j2",
                me,
                view=view,
                record=show(view["id"], draft),
                turn=turn_of(view, me, has_place(session, view["id"], me.id)),
                revision=next((one for one in view["revisions"] if one["id"] == view["revision"]), None),
                done=_own(session, me),
                lease_s=self._studio.config.lease_s,
                reasons=REASONS,
                states=words.STATES,
                keys=words.KEYS,
                verdicts=words.VERDICTS,
                **_around(request),
            )

    def edit(self, request: Request, me: Person) -> Response:
        """One record, to be changed."""
        with self._studio.database.read() as session:
            view, draft = self._opened(session, request, me)
            shown = show(view["id"], draft)
            return self.page(
                "edit.html.j2",
                me,
                view=view,
                record=shown,
                labels=words.BLOCKS,
                lease_s=self._studio.config.lease_s,
                **_around(request),
            )

    def _opened(self, session: Session, request: Request, me: Person) -> tuple[dict[str, Any], Draft]:
        """What is known of the record that is asked for, and the record as it was made or changed."""
        id = request.path_params["item_id"]
        item = session.get(Item, id) if id < _MOST_ID else None
        if item is None:
            raise missing("record")
        asked = request.query_params.get("revision", "")
        view = record_view(session, self._studio.builds, item, me, _number(asked, -1) if asked else None)
        revision = session.get(Revision, view["revision"]) if view["revision"] else None
        return view, draft_of(session, self._studio.builds, item, revision)


Turn = Literal["review", "again", "decide", "free", "taken", "closed"]
"""What a person can do about a record: review it, review it once more, decide it as a lead, take it, wait, or look."""


def turn_of(view: dict[str, Any], me: Person, free: bool) -> Turn:
    """What a person can do about a record.

    Args:
        view: As `record_view` gives it.
        me: The person.
        free: Whether the record has a place for them.
    """
    if view["lease"] is not None:
        return "review"
    if me.lead and (view["state"] == DISPUTED or (view["state"] != OPEN and view["mine"] is None)):
        return "decide"
    if view["mine"] is not None:
        return "again"
    if view["state"] != OPEN:
        return "closed"
    return "free" if free else "taken"


def read_filter(request: Request) -> Filter:
    """What the address asks for; what it cannot mean is left out."""
    given = {name: value for name, value in request.query_params.items() if name in Filter.model_fields and value}
    while given:
        try:
            return Filter.model_validate(given)
        except ValidationError as error:
            for fault in error.errors():
                given.pop(str(fault["loc"][0]), None)
    return Filter.model_validate({})


def query_of(wanted: Filter) -> str:
    """A filter as the end of an address."""
    return urlencode({name: value for name, value in wanted.model_dump().items() if value not in {"", None}})


def next_filter(wanted: Filter) -> dict[str, Any]:
    """The part of a filter that says which record comes next: those to be reviewed are open, and nobody's."""
    return wanted.model_dump(exclude={"state", "mine"}, exclude_defaults=True)


def _around(request: Request) -> dict[str, Any]:
    """The list that a record was opened from."""
    wanted = read_filter(request)
    return {"query": query_of(wanted), "next": next_filter(wanted)}


def _filters(session: Session) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    """Name, label, word for all, and values with their words, of each filter that leaves a choice."""
    known = choices(session)
    found = [("state", "State", "any", [(state, words.STATES[state]) for state in STATES])]
    for name, label in (
        ("scenario", "Scenario"),
        ("source", "Source"),
        ("teacher", "Teacher"),
        ("kind", "Kind"),
        ("build", "Build"),
    ):
        values = known[f"{name}s"]
        if len(values) > 1 or (values and name == "scenario"):
            called = title_of if name == "scenario" else str
            found.append((name, label, "all", [(v["value"], f"{called(v['value'])} ({v['items']})") for v in values]))
    found.append(("mine", "Mine", "anybody's", list(words.MINE.items())))
    return found


def _own(session: Session, me: Person) -> dict[str, int]:
    """How many verdicts of a person stand, over all builds: all of them, and today's (UTC)."""
    count = select(func.count()).where(ReviewRow.reviewer_id == me.id, ReviewRow.undone.is_(None))
    today = count.where(ReviewRow.created >= midnight())
    return {"all": session.scalar(count) or 0, "today": session.scalar(today) or 0}


def _states(session: Session) -> dict[str, int]:
    """How many records are in which state, over all builds."""
    known = dict(session.execute(select(Item.state, func.count()).group_by(Item.state)).all())
    return {state: known.get(state, 0) for state in STATES}


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 16 else otherwise
