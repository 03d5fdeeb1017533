"""The playground's paths: the page at ``/``, all else below ``/ui/``."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from thyme.sandbox.server.bodies import read_body
from thyme.sandbox.server.refusal import Refusal as BodyRefusal
from thyme.serve.completion import data_urls
from thyme.serve.refusal import Refusal
from thyme.serve.runtime import AgentRuntime
from thyme.serve.ui import pages
from thyme.serve.ui.asking import read_wish
from thyme.serve.ui.questions import Bounds, Question, Questions
from thyme.serve.ui.security import Sessions, refuse_other_origins
from thyme.types import Problem, Trajectory
from thyme.view.html import render_page
from thyme.view.parts import make_scene
from thyme.view.pictures import Linked, Picture, original
from thyme.view.served import HEADERS

NANO = "nano"
"""Name of the embedded model, which knows no pictures but those of its own world."""
_KEY_BODY_BYTES, _KEY_BODY_S = 4096, 10.0


def router(runtime: AgentRuntime, bounds: Bounds | None = None) -> APIRouter:
    """The page and what it needs, for an application to include.

    Args:
        runtime: Answers the questions.
        bounds: How much of them is kept.
    """
    playground = _Playground(runtime, bounds)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        await playground.questions.aclose()

    routes = APIRouter(lifespan=lifespan)
    own = [Depends(refuse_other_origins)]
    one = "/ui/questions/{id}"
    routes.add_api_route("/", playground.home, methods=["GET"])
    routes.add_api_route("/ui/static/{name}", pages.static, methods=["GET"], response_model=None)
    routes.add_api_route("/ui/key", playground.key, methods=["POST"], dependencies=own)
    routes.add_api_route("/ui/questions", playground.ask, methods=["POST"], dependencies=own)
    routes.add_api_route("/ui/recent", playground.recent, methods=["GET"])
    routes.add_api_route("/ui/example", playground.example, methods=["GET"])
    routes.add_api_route(one, playground.question, methods=["GET"])
    routes.add_api_route(f"{one}/events", playground.events, methods=["GET"])
    routes.add_api_route(f"{one}/stop", playground.stop, methods=["POST"], dependencies=own)
    routes.add_api_route(f"{one}/images/{{image_id}}", playground.image, methods=["GET"])
    routes.add_api_route(f"{one}/page.html", playground.share, methods=["GET"])
    routes.add_api_route(f"{one}/trajectory.json", playground.record, methods=["GET"])
    return routes


class _Playground:
    """The paths, with what they share."""

    def __init__(self, runtime: AgentRuntime, bounds: Bounds | None) -> None:
        self._runtime, self._config = runtime, runtime.config
        self._sessions = Sessions(runtime.keys)
        self._decoding = asyncio.Semaphore(self._config.uploads)
        self.questions = Questions(runtime, pages.templates(), bounds)

    @property
    def _is_nano(self) -> bool:
        return self._runtime.engine.info.name == NANO

    # --- pages --------------------------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        """The empty page. A session begins with it, so that two tabs whose first questions cross share one."""
        if not self._sessions.admits(request):
            return pages.page("key.html.j2", 401, error="")
        response = self._page(request, None)
        if not self._sessions.of(request):
            self._sessions.set_cookie(request, response, self._sessions.start())
        return response

    async def question(self, request: Request, id: str) -> Response:
        """The page with a question that was asked before."""
        if not self._sessions.admits(request):
            return pages.page("key.html.j2", 401, error="")
        question = self.questions.find(self._sessions.of(request), id)
        if question is None:
            return pages.page("gone.html.j2", 404)
        return self._page(request, question)

    def _page(self, request: Request, question: Question | None) -> Response:
        runtime = self._runtime
        return pages.page(
            "playground.html.j2",
            model=runtime.model_name,
            isolation=runtime.sandbox.isolation,
            nano=self._is_nano,
            limits=self._config,
            rollout=self._config.rollout,
            shown=None if question is None else self._shown(question),
            recent=self.questions.recent(self._sessions.of(request)),
        )

    def _shown(self, question: Question) -> dict[str, object]:
        return {"question": question, "scene": self._scene(question)}

    def _scene(self, question: Question) -> list[Picture]:
        seen = {image.id: self._runtime.engine.seen_size(*image.size) for image in question.problem.images}
        return make_scene(question.problem, seen, Linked(f"{question.path}/images"))

    async def key(self, request: Request) -> Response:
        """Take an API key once; the browser's session is let in by it."""
        try:
            body = await read_body(request, _KEY_BODY_BYTES, _KEY_BODY_S)
        except BodyRefusal as refusal:
            raise Refusal(refusal.status, refusal.message, code=refusal.code) from None
        given = parse_qs(bytes(body).decode("utf-8", "replace")).get("key", [""])[0].strip()
        token = self._sessions.start()
        if not self._sessions.let_in(token, given):
            return pages.page("key.html.j2", 401, error="This is not a key of this server.")
        response = RedirectResponse("/", 303, HEADERS)
        self._sessions.set_cookie(request, response, token)
        return response

    # --- questions ----------------------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        """Start a question; the reply holds its part of the page."""
        session = self._sessions.admitted(request)
        with self._runtime.arriving():
            wish, problem = await read_wish(request, self._config, self._decoding)
        new = "" if session else self._sessions.start()
        notes = await asyncio.to_thread(_notes, problem) if self._is_nano else []
        config = wish.rollout(self._config.rollout)
        question = self.questions.ask(session or new, problem, config, wish.seed, notes)
        html = pages.fragment("question.html.j2", **self._shown(question))
        response = JSONResponse({"path": question.path, "html": html}, 201, HEADERS)
        if new:
            self._sessions.set_cookie(request, response, new)
        return response

    async def events(self, request: Request, id: str, after: int = 0) -> Response:
        """What happens to a question, as server-sent events; a page that comes back goes on where it was."""
        question = self._find(request, id)
        last = request.headers.get("last-event-id", "")
        start = int(last) if re.fullmatch(r"[0-9]{1,9}", last) else max(0, after)
        headers = {**HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(question, start), media_type="text/event-stream", headers=headers)

    async def _stream(self, question: Question, start: int) -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        async with aclosing(self.questions.follow(question, start)) as told:
            async for known, patches in told:
                yield _event("patches", [asdict(patch) for patch in patches], known) if patches else ": waiting\n\n"
        complete = question.trajectory is not None
        yield _event("end", {"state": question.state, "message": question.message, "complete": complete})

    async def stop(self, request: Request, id: str) -> Response:
        """Cancel a question; its sandbox session is free when the reply arrives."""
        await self.questions.stop(self._find(request, id))
        return Response(status_code=204, headers=HEADERS)

    async def recent(self, request: Request) -> Response:
        """The list of this session's questions."""
        session = self._sessions.admitted(request)
        return pages.page("recent.html.j2", recent=self.questions.recent(session))

    async def example(self, request: Request) -> Response:
        """A fresh scene of the embedded model's world, with a question about it."""
        self._sessions.admitted(request)
        if not self._is_nano:
            raise Refusal(404, "only the embedded model has a world to draw from", code="not_found")
        return JSONResponse(await asyncio.to_thread(_example), headers=HEADERS)

    # --- what a question leaves behind --------------------------------------------------------------------------------

    async def image(
        self, request: Request, id: str, image_id: str, side: int | None = None, seen: str | None = None
    ) -> Response:
        """One of its images."""
        record = self._find(request, id).images.get(image_id)
        if record is None:
            raise Refusal(404, "this question has no such image", code="not_found")
        return await pages.image(record, side, seen)

    async def share(self, request: Request, id: str) -> Response:
        """The trajectory as one HTML file that needs nothing beside it."""
        trajectory = self._trajectory(request, id)
        html = await asyncio.to_thread(render_page, [trajectory], trajectory.problem.question)
        return _download(html, "text/html; charset=utf-8", f"thyme-{id[:8]}.html")

    async def record(self, request: Request, id: str) -> Response:
        """The trajectory as JSON, in the form of the API's side field, images as data URLs."""
        text = await asyncio.to_thread(_json, self._trajectory(request, id))
        return _download(text, "application/json", f"thyme-{id[:8]}.json")

    def _trajectory(self, request: Request, id: str) -> Trajectory:
        trajectory = self._find(request, id).trajectory
        if trajectory is None:
            raise Refusal(
                409, "this question has no trajectory: it is not finished, or it was stopped", code="unfinished"
            )
        return trajectory

    def _find(self, request: Request, id: str) -> Question:
        question = self.questions.find(self._sessions.admitted(request), id)
        if question is None:
            raise Refusal(404, "this question is not known here any more; ask it again", code="not_found")
        return question


def _event(name: str, data: object, id: int | None = None) -> str:
    """A server-sent event; its data is one line, as JSON escapes line breaks."""
    head = "" if id is None else f"id: {id}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"


def _download(text: str, kind: str, name: str) -> Response:
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=kind, headers=headers)


def _json(trajectory: Trajectory) -> str:
    record = {"trajectory": json.loads(trajectory.model_dump_json()), "images": data_urls(trajectory)}
    return json.dumps(record, ensure_ascii=False)


def _notes(problem: Problem) -> list[str]:
    """Which pictures the embedded model can say nothing true about, and why."""
    from thyme.nano.foreign import foreign

    reasons = ((image.name, foreign(image.image)) for image in problem.images)
    return [
        f"{name} is no picture of nano's world: {reason}. The answer means nothing."
        for name, reason in reasons
        if reason
    ]


def _example() -> dict[str, str]:
    from thyme.nano.world import problem

    drawn = problem("test", random.randrange(1 << 30), 0, "zoom")
    return {"question": drawn.question, "image": base64.b64encode(original(drawn.images[0]).data).decode()}
