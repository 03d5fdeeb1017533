"""Sessions that wait, started and locked down, for the next trajectory; and what all sessions of one zygote share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxDiedError, SandboxError
from thyme.sandbox.process import Order, SessionProcess
from thyme.sandbox.store import InputStore
from thyme.sandbox.zygote import ZygoteProcess

_FILL_AFTER_S = 0.003
"""Seconds until a session that was taken is made good: its first code has run by then, most likely."""


class Pool:
    """The sessions of one zygote that nobody has asked for yet."""

    def __init__(self, zygote: ZygoteProcess, config: SandboxConfig) -> None:
        """Own a zygote; `fill` starts the first sessions."""
        self.zygote, self._config = zygote, config
        store = InputStore(zygote, (config.inputs_mb << 20) // 4, config.start_timeout_s)
        self._store = store if zygote.level == "namespaces" else None
        self._waiting: deque[SessionProcess] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def fill(self) -> None:
        """See to it in the background that enough sessions wait."""
        if self._filling is None and self._missing():
            self._filling = asyncio.ensure_future(self._fill())
            self._filling.add_done_callback(self._filled)

    def _missing(self) -> bool:
        return not self._closed and not self.zygote.dead and len(self._waiting) < self._config.pool

    async def _fill(self) -> None:
        while self._missing():
            self._waiting.append(await SessionProcess.start(self.zygote, self._config, rehearse=True))

    def _filled(self, task: asyncio.Task[None]) -> None:
        self._filling = None
        if not task.cancelled():
            task.exception()  # whoever asks for a session next meets the same, and is told

    async def take(self, order: Order) -> SessionProcess:
        """A session bound to its inputs.

        Raises:
            SandboxDiedError: The zygote, or the session, went away.
            SandboxError: There can be no session.
        """
        process = await self._started()
        try:
            start_s = self._config.start_timeout_s
            await process.send_bind(order.seed, [item.description for item in order.inputs], start_s)
            await self._show(process, order)
            await process.await_ready(start_s)
        except BaseException as error:
            died = process.ended and isinstance(error, SandboxError)
            await asyncio.shield(process.kill())
            if died:
                raise SandboxDiedError("a session ended while it waited") from error
            raise
        self._fill_soon()
        return process

    def _fill_soon(self) -> None:
        """Make the next session a little later, out of the way of this one's first code; at once where none is left."""
        if self._waiting:
            asyncio.get_running_loop().call_later(_FILL_AFTER_S, self.fill)
        else:
            self.fill()

    async def _started(self) -> SessionProcess:
        while self._waiting:
            process = self._waiting.popleft()
            if not process.ended:
                return process
            await asyncio.shield(process.kill())
        return await SessionProcess.start(self.zygote, self._config)

    async def _show(self, process: SessionProcess, order: Order) -> None:
        """Put the input files where the session sees them."""
        if not order.inputs:
            return
        if self._store:
            await self._store.link(process.name, [(item.path, item.data) for item in order.inputs])
        else:
            await asyncio.to_thread(process.copy_in, [(item.path, item.data) for item in order.inputs])

    async def settle(self) -> None:
        """Wait until as many sessions wait as should, or there can be none."""
        self.fill()
        if self._filling:
            await asyncio.wait({self._filling})

    async def aclose(self) -> None:
        """End the zygote and every session of it, those in use as well."""
        self._closed = True
        if self._filling:
            self._filling.cancel()
            with contextlib.suppress(asyncio.CancelledError, SandboxError):
                await self._filling
        while self._waiting:
            await self._waiting.popleft().kill()
        await self.zygote.aclose()
