"""Stands before everything: names each request, and lets in who may come in."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thyme.sandbox.server.guard import LOOPBACK, host_of
from thyme.serve.auth import is_own_page
from thyme.serve.refusal import Refusal
from thyme.serve.runtime import AgentRuntime, request_id

REQUEST_ID = "x-request-id"

_OPEN = frozenset({"/health", "/ready"})
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, runtime: AgentRuntime, only_loopback: bool) -> None:
        """Stand before `app`.

        Args:
            app: What is guarded; its health is open to everybody, and its page asks for the key itself.
            runtime: Has the keys, and counts who was turned away.
            only_loopback: The server listens on this machine only. Then, and without keys, requests that name another
                host are refused, as those of a page whose name was made to point here (DNS rebinding) do.
        """
        self._app, self._runtime, self._only_loopback = app, runtime, only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        name = given if _ID.fullmatch(given) else uuid.uuid4().hex
        request_id.set(name)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = name
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, named)
            return
        self._runtime.metrics.refused.labels(refusal.code).inc()
        answer = JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers())
        await answer(scope, receive, named)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        if scope["path"] in _OPEN:
            return None
        keys = self._runtime.keys
        if not keys.required and self._only_loopback and host_of(headers.get("host", "")) not in LOOPBACK:
            message = "this server has no API keys and answers to localhost only"
            return Refusal(403, message, code="host")
        if self._is_foreign_page(scope, headers):
            message = f"pages of {headers['origin'][:200]} may not ask this server; allow them with --cors-origin"
            return Refusal(403, message, code="origin")
        if self._asks_itself(scope["path"]) or keys.accepts_header(headers.get("authorization", "")):
            return None
        return Refusal(401, "a valid API key is needed: Authorization: Bearer KEY", code="invalid_api_key")

    def _asks_itself(self, path: str) -> bool:
        return self._runtime.config.ui and (path == "/" or path.startswith("/ui/"))

    def _is_foreign_page(self, scope: Scope, headers: Headers) -> bool:
        """Whether a page of another origin sends something: a browser tells, and nobody else says so."""
        origin, allowed = headers.get("origin"), self._runtime.config.cors_origins
        if origin is None or scope["method"] in {"GET", "HEAD", "OPTIONS"} or "*" in allowed or origin in allowed:
            return False
        return not is_own_page(origin, headers.get("host", ""))
