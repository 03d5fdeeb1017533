"""What stands before every path: headers that let nothing foreign run, the host's name, and the size of a request."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thyme.config.studio import StudioConfig
from thyme.hosting import Address
from thyme.sandbox.server.guard import LOOPBACK, host_of
from thyme.studio.accounts import Person
from thyme.studio.refusal import Refusal
from thyme.view.served import HEADERS

CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_other_origins(request: Request, config: StudioConfig) -> None:
    """Let only this server's own pages change anything.

    Browsers say where a request comes from: ``Sec-Fetch-Site`` behind https and on this machine, ``Origin`` everywhere.

    Raises:
        Refusal: It comes from elsewhere, or does not say (403).
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        same = bool(origin) and origin in {request.headers.get("host", ""), urlsplit(config.public_url).netloc}
    else:
        same = site == "same-origin"
    if not same:
        raise Refusal(403, "other_origin", "this request does not come from the studio's own page; open the page")


def require_token(request: Request, person: Person) -> None:
    """Let a change through only if the page shows what was given to it.

    Raises:
        Refusal: It does not (403).
    """
    given = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode(), person.csrf.encode()):
        raise Refusal(403, "csrf", "this page is no longer signed in as it was; load it again")


def set_cookie(request: Request, response: Response, name: str, token: str, config: StudioConfig) -> None:
    """Have the browser send its token: to no other site, and never to scripts.

    ``lax``, as a link to the studio in a message would otherwise open it without the cookie; changes are guarded by
    `refuse_other_origins` and `require_token`.
    """
    secure = request.url.scheme == "https" or config.public_url.startswith("https://")
    response.set_cookie(
        name, token, max_age=int(config.session_s), httponly=True, samesite="lax", secure=secure, path="/"
    )


class Guard:
    """ASGI middleware before all else."""

    def __init__(self, app: ASGIApp, config: StudioConfig) -> None:
        """Stand before `app`.

        Requests that name another host than this machine's, or the one of `StudioConfig.public_url`, are refused where
        only this machine reaches the server: a page elsewhere could give itself a name that leads here.
        """
        self._app, self._most = app, config.max_body_kb * 1024
        names = {*LOOPBACK, host_of(urlsplit(config.public_url).netloc)} - {""}
        self._hosts = names if Address(config.host).is_private else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with our headers on its answer, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left, started = self._most, False

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, _too_large(self._most).message)  # no other passes through FastAPI's reading
            return message

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(Headers(scope=scope))
            await self._app(scope, counted, headed)
        except Refusal as refusal:
            if started:
                raise
            await JSONResponse(refusal.body(), refusal.status)(scope, receive, headed)

    def _check(self, headers: Headers) -> None:
        if self._hosts is not None and host_of(headers.get("host", "")) not in self._hosts:
            raise Refusal(403, "host", "the studio answers to localhost only; name another host with --public-url")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most:
            raise _too_large(self._most)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"a request has at most {most // 1024} KiB")
