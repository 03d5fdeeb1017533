"""Chunks on their way from a model's thread to the event loops that wait for them. No tensors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from thyme.engines.base import Chunk
from thyme.errors import ThymeError


class Outbox:
    """Chunks of one span.

    One chunk a token, however late it is taken: whoever stops a span at a chunk stops it at the same token every time.
    """

    def __init__(self) -> None:
        """Bind to the running loop."""
        self.loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Chunk | ThymeError] = asyncio.Queue()

    def put(self, item: Chunk | ThymeError) -> None:
        """Deliver; on the loop's own thread."""
        self._items.put_nowait(item)

    async def get(self) -> Chunk:
        """The next chunk.

        Raises:
            ThymeError: What ended the span instead, once the chunks before it were taken.
        """
        item = await self._items.get()
        if isinstance(item, ThymeError):
            raise item
        return item


Delivery = tuple[Outbox, Chunk | ThymeError]


def deliver(deliveries: Sequence[Delivery]) -> set[Outbox]:
    """Hand out what a step gave: one call into each event loop.

    Returns:
        Outboxes of loops that were closed: nobody waits there any more.
    """
    gone: set[Outbox] = set()
    for loop in {outbox.loop for outbox, _ in deliveries}:
        mine = [delivery for delivery in deliveries if delivery[0].loop is loop]
        try:
            loop.call_soon_threadsafe(_hand_over, mine)
        except RuntimeError:
            gone |= {outbox for outbox, _ in mine}
    return gone


def _hand_over(deliveries: Sequence[Delivery]) -> None:
    for outbox, item in deliveries:
        outbox.put(item)
