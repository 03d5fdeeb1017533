"""One broker for each set of limits that sessions ask for; nearly always there is one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from pydantic import ValidationError

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxError
from thyme.sandbox.broker import Broker
from thyme.sandbox.protocol import SETTINGS
from thyme.sandbox.server.refusal import Refusal


def session_config(own: SandboxConfig, settings: dict[str, Any]) -> SandboxConfig:
    """The server's settings with those of one session.

    Args:
        own: The server's; its numbers are the upper limits.
        settings: What the session wants otherwise.

    Raises:
        Refusal: It may not, or the values make no sense.
    """
    if foreign := sorted(settings.keys() - SETTINGS):
        raise _unfit(f"a session cannot set {', '.join(foreign)[:500]}; it may set {', '.join(sorted(SETTINGS))}")
    try:
        config = SandboxConfig.model_validate({**own.model_dump(), **settings})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise _unfit(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    for name in settings:
        value, limit = getattr(config, name), getattr(own, name)
        if name == "importable" and (more := set(value) - set(limit)):
            raise _unfit(f"this server lets no code import {', '.join(sorted(more))[:500]}")
        if isinstance(limit, int | float) and value > limit:
            raise _unfit(f"{name} = {value:g} is more than this server's {limit:g}; ask for less, or raise it there")
    return config


def _unfit(message: str) -> Refusal:
    return Refusal(422, "settings", message)


class Brokers:
    """Starts brokers when they are needed, and ends those that nobody uses when there are too many."""

    def __init__(self, config: SandboxConfig, own: Broker, most: int) -> None:
        """Take over the broker of the server's own settings; use `start`."""
        self.config, self.own, self._most = config, own, most
        self._others: OrderedDict[str, Broker] = OrderedDict()
        self._users: dict[str, int] = {}
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, config: SandboxConfig, most: int) -> Brokers:
        """Start the first one.

        Args:
            config: The server's own settings.
            most: Brokers at once.

        Raises:
            IsolationError: The level asked for is not to be had here.
        """
        return cls(config, await Broker.start(config), most)

    async def take(self, settings: dict[str, Any]) -> tuple[Broker, SandboxConfig]:
        """The broker for such sessions, and its settings; pair it with `give_back`.

        Raises:
            Refusal: The settings are not allowed, or there are too many different ones in use.
        """
        config = session_config(self.config, settings)
        if config == self.config:
            return self.own, config
        key = config.model_dump_json()
        async with self._turn:
            if key not in self._others:
                await self._make_room()
                # The level is the server's, also where `best` came to something else a moment ago.
                strict = config.model_copy(update={"isolation": self.own.isolation})
                self._others[key] = await Broker.start(strict)
            self._others.move_to_end(key)
            self._users[key] = self._users.get(key, 0) + 1
            return self._others[key], config

    async def _make_room(self) -> None:
        while len(self._others) >= self._most - 1:
            idle = next((key for key in self._others if not self._users.get(key)), None)
            if idle is None:
                message = f"{self._most} different settings of sessions are in use, as many as this server takes"
                raise Refusal(429, "too_many_settings", message, retry_after_s=5)
            self._users.pop(idle, None)
            await self._others.pop(idle).aclose()

    def give_back(self, config: SandboxConfig) -> None:
        """A session with these settings has ended."""
        if config != self.config:
            self._users[config.model_dump_json()] -= 1

    def all(self) -> list[Broker]:
        """Those that run now."""
        return [self.own, *self._others.values()]

    async def aclose(self) -> None:
        """End all of them.

        Raises:
            SandboxError: One of them could not be ended.
        """
        ended = await asyncio.gather(*(broker.aclose() for broker in self.all()), return_exceptions=True)
        if failed := [result for result in ended if result is not None]:
            raise SandboxError(f"{len(failed)} sandboxes could not be ended: {failed[0]}")
