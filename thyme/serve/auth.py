"""API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from pydantic import SecretStr


class ApiKeys:
    """The keys that let clients in; compared in a time that says nothing about them."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        """Accept any of `keys`; none: everybody."""
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    @property
    def required(self) -> bool:
        """Whether a client must show one."""
        return bool(self._digests)

    def accepts(self, key: str) -> bool:
        """Whether this key lets in; with no keys set, every one does."""
        given = _digest(key)
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]  # all of them, in the same time
        return any(matches) or not self.required

    def accepts_header(self, authorization: str) -> bool:
        """Whether ``Authorization: Bearer KEY`` lets in."""
        scheme, _, key = authorization.partition(" ")
        return self.accepts(key.strip() if scheme.lower() == "bearer" else "")


def is_own_page(origin: str, host: str) -> bool:
    """Whether a page of this origin came from the host that a request names, as the headers say.

    Both are compared as they are: what a stranger sends may be no URL at all.
    """
    name = origin.partition("://")[2]
    return bool(name) and name == host


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
