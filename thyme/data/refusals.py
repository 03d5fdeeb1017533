"""Tells a request that its server refuses from a server that refuses requests.

A status 400 is an answer: the server looked at the request and does not want it. It may be the request (a conversation
too long, a picture of a kind that it does not read, a word that its provider does not like), and then one record is
dropped; or the recipe (a model that sees nothing, a field that it does not know), and then the build must end before it
drops them all. What becomes of the others says which it is, so a refused request waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 20
"""So many refusals in a row, with no answer between them, are no accident."""


class Refusals:
    """Requests to one endpoint in one event loop, as far as they were refused."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._under_way = 0
        self._waiting: asyncio.Future[None] | None = None
        self.row = 0
        """Refused since the last answer."""

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is under way, from where it waits for its turn."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._wake()

    def answered(self) -> None:
        """The server answered one: what it refused before is the fault of those requests."""
        self.row = 0
        self._wake()

    def refused(self) -> None:
        """The server refused one."""
        self.row += 1

    async def many(self) -> bool:
        """Whether a refused request is one of too many. It waits for an answer to another, or until none is under way.

        It is asked when the request itself is no longer under way.
        """
        if self._under_way:
            self._waiting = self._waiting or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting)
        return self.row >= MOST

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
        self._waiting = None
