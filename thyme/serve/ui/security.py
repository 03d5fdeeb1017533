"""What keeps the page to those it is meant for, beside its headers: a same-origin check, a session's cookie."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict

from fastapi import Request
from fastapi.responses import Response

from thyme.serve.auth import ApiKeys, is_own_page
from thyme.serve.refusal import Refusal

COOKIE = "thyme_session"
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""What so many bytes look like."""
_MAX_SESSIONS = 10_000
"""Sessions that may be let in by a key at once; the one that came first has to show it again."""


def refuse_other_origins(request: Request) -> None:
    """Let only this server's own pages change anything.

    Browsers say where a request comes from: ``Sec-Fetch-Site`` behind https and on this machine, ``Origin`` everywhere.

    Raises:
        Refusal: It comes from elsewhere, or does not say.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        same = is_own_page(request.headers.get("origin", ""), request.headers.get("host", ""))
    else:
        same = site == "same-origin"
    if not same:
        raise Refusal(403, "this request does not come from the server's own page; open the page", code="other_origin")


class Sessions:
    """Browser sessions: a random token in a cookie that scripts cannot read and other sites cannot send."""

    def __init__(self, keys: ApiKeys) -> None:
        """With keys set, a session is let in only after it has shown one."""
        self._keys = keys
        self._let_in: OrderedDict[str, None] = OrderedDict()

    def of(self, request: Request) -> str:
        """The token a browser sent; empty where it has none of ours."""
        token = request.cookies.get(COOKIE, "")
        return token if _TOKEN.fullmatch(token) else ""

    def admits(self, request: Request) -> bool:
        """Whether this browser may use the page."""
        return not self._keys.required or self.of(request) in self._let_in

    def admitted(self, request: Request) -> str:
        """The token of a browser that may use the page.

        Raises:
            Refusal: It may not (401).
        """
        if not self.admits(request):
            raise Refusal(401, "this server wants an API key; load the page again and enter it", code="missing_key")
        return self.of(request)

    def let_in(self, token: str, key: str) -> bool:
        """Let a session in if the key is right."""
        if not self._keys.accepts(key):
            return False
        self._let_in[token] = None
        while len(self._let_in) > _MAX_SESSIONS:
            self._let_in.popitem(last=False)
        return True

    def start(self) -> str:
        """A new token."""
        return secrets.token_urlsafe(_TOKEN_BYTES)

    def set_cookie(self, request: Request, response: Response, token: str) -> None:
        """Have the browser send the token until it is closed."""
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/")
