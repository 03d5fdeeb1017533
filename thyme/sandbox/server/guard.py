"""Lets in who holds the token, before anything else of a request is looked at."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

from thyme.sandbox.server.metrics import Metrics

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_OPEN = frozenset({"/healthz", "/readyz"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""How a client on the same machine names it."""


class Guard:
    """ASGI middleware."""

    def __init__(self, app: App, *, token: str | None, only_loopback: bool, metrics: Metrics) -> None:
        """Stand before `app`.

        Args:
            app: What is guarded; its health is open to everybody.
            token: None: everybody who reaches the server may come in.
            only_loopback: Refuse requests that name another host, as those of a page do whose name was made to point
                here (DNS rebinding).
            metrics: Counts who was turned away.
        """
        self._app, self._only_loopback, self._metrics = app, only_loopback, metrics
        self._expected = f"Bearer {token}".encode() if token is not None else None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass the request on, or answer 401 or 403."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, code, message = refusal
        self._metrics.refused.labels(code).inc()
        headers = {"www-authenticate": "Bearer"} if status == 401 else None
        answer = JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)
        await answer(scope, receive, send)

    def _refusal(self, scope: Message) -> tuple[int, str, str] | None:
        if scope["path"] in _OPEN:
            return None
        headers = dict(scope["headers"])
        if self._expected is not None:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                return 401, "token", "this server wants its token: Authorization: Bearer TOKEN"
        elif self._only_loopback and host_of(headers.get(b"host", b"").decode("latin-1")) not in LOOPBACK:
            return 403, "host", "this server has no token and answers to localhost only"
        return None


def host_of(header: str) -> str:
    """The name in a ``Host`` header, without its port."""
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdecimal() else header
