"""The viewer: stored trajectories on pages, listed, searched and filtered. It reads files and changes nothing."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from thyme.errors import StoreError
from thyme.eval.records import Filter, Records
from thyme.eval.runner import score_trajectory
from thyme.serve.refusal import Refusal, misaddressed
from thyme.serve.ui import pages
from thyme.store import load_images
from thyme.view.html import make_cases, render_page
from thyme.view.pictures import Linked
from thyme.view.served import HEADERS

PER_PAGE = 50
"""Records on a page of the list."""
_HOSTS = ["127.0.0.1", "localhost"]
"""Names under which the viewer answers: a page elsewhere cannot reach it by a name of its own that leads here."""


def create_viewer(records: Records) -> FastAPI:
    """The application that shows these records."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)
    viewer = _Viewer(records)
    app.add_api_route("/", viewer.listing, methods=["GET"])
    app.add_api_route("/records/{place}", viewer.record, methods=["GET"])
    app.add_api_route("/records/{place}/page.html", viewer.share, methods=["GET"])
    app.add_api_route("/records/{place}/images/{image_id}", viewer.image, methods=["GET"])
    app.add_api_route("/ui/static/{name}", pages.static, methods=["GET"])

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse(refusal.body(), refusal.status, HEADERS)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        return await refused(request, misaddressed(error))

    @app.exception_handler(StoreError)
    async def unreadable(request: Request, error: StoreError) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error)}}, 404, HEADERS)

    return app


class _Viewer:
    """The paths, with what they share."""

    def __init__(self, records: Records) -> None:
        self._records = records
        entries = records.entries
        self._choices = {
            "kind": _choices(entry.kind for entry in entries),
            "verdict": _choices(entry.verdict for entry in entries),
            "stop": _choices(entry.stop for entry in entries),
            "rounds": _choices(entry.rounds for entry in entries),
        }

    async def listing(
        self, search: str = "", kind: str = "", verdict: str = "", stop: str = "", rounds: str = "", page: int = 1
    ) -> Response:
        """The records that match, a page at a time."""
        wanted = _filter(search, kind, verdict, stop, rounds)
        found = self._records.find(wanted)
        last = max(1, -(-len(found) // PER_PAGE))
        page = min(max(1, page), last)
        first = (page - 1) * PER_PAGE
        return pages.page(
            "viewer_list.html.j2",
            records=self._records,
            wanted=wanted,
            choices=self._choices,
            query=_query(wanted),
            found=len(found),
            counts=Counter(self._records.entries[place].verdict for place in found),
            shown=[(place, self._records.entries[place]) for place in found[first : first + PER_PAGE]],
            first=first + 1,
            page=page,
            last=last,
        )

    async def record(
        self, place: int, search: str = "", kind: str = "", verdict: str = "", stop: str = "", rounds: str = ""
    ) -> Response:
        """One record, between its neighbours among those that match."""
        self._check(place)
        wanted = _filter(search, kind, verdict, stop, rounds)
        found = self._records.find(wanted)
        trajectory = await asyncio.to_thread(self._records.trajectory, place)
        (case,) = make_cases([trajectory], [score_trajectory(trajectory)], Linked(f"/records/{place}/images"))
        return pages.page(
            "viewer_record.html.j2",
            case=case,
            place=place,
            entry=self._records.entries[place],
            previous=max((other for other in found if other < place), default=None),
            following=min((other for other in found if other > place), default=None),
            query=_query(wanted),
            page=found.index(place) // PER_PAGE + 1 if place in found else 1,
        )

    async def share(self, place: int) -> Response:
        """One record as an HTML file that needs nothing beside it."""
        self._check(place)
        html = await asyncio.to_thread(self._stand_alone, place)
        headers = {**HEADERS, "content-disposition": f'attachment; filename="thyme-{place + 1}.html"'}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    async def image(self, place: int, image_id: str, side: int | None = None, seen: str | None = None) -> Response:
        """An image of a record, read when it is asked for."""
        self._check(place)
        record = await asyncio.to_thread(self._records.image, place, image_id)
        if record is None:
            raise Refusal(404, "this record has no such image", code="not_found")
        return await pages.image(record, side, seen)

    def _stand_alone(self, place: int) -> str:
        trajectory = load_images(self._records.entries[place].path, self._records.trajectory(place))
        return render_page([trajectory], trajectory.problem.question, scores=[score_trajectory(trajectory)])

    def _check(self, place: int) -> None:
        if not 0 <= place < len(self._records.entries):
            raise Refusal(404, f"there is no record {place}", code="not_found")


def _choices(values: Iterable[str] | Iterable[int]) -> list[tuple[str, int]]:
    """What there is to choose from, and how many records of each."""
    counted: Counter[str | int] = Counter(values)
    return [(str(value), counted[value]) for value in sorted(counted) if value != ""]


def _filter(search: str, kind: str, verdict: str, stop: str, rounds: str) -> Filter:
    return Filter(search.strip(), kind, stop, verdict, int(rounds) if re.fullmatch(r"[0-9]{1,9}", rounds) else None)


def _query(wanted: Filter) -> str:
    """The filter as the end of an address."""
    fields = {
        "search": wanted.search,
        "kind": wanted.kind,
        "verdict": wanted.verdict,
        "stop": wanted.stop,
        "rounds": "" if wanted.rounds is None else wanted.rounds,
    }
    return urlencode({name: value for name, value in fields.items() if value != ""})
