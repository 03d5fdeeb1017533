"""Listens, and ends in good order: SIGTERM lets requests finish, a second one does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from thyme.config.serve import ServeConfig
from thyme.engines.base import Engine
from thyme.errors import UsageError
from thyme.hosting import Address, listening, serve_app
from thyme.sandbox.base import Sandbox
from thyme.serve.app import create_app
from thyme.serve.runtime import AgentRuntime


def require_keys(config: ServeConfig, without_key: bool) -> None:
    """See to it that nobody opens the agent to a network by mistake.

    Raises:
        UsageError: Other machines reach the address, and there are no keys.
    """
    if not config.api_keys and not without_key and not Address(config.host).is_private:
        raise UsageError(
            f"{config.host} is reachable from other machines, and there is no API key: set THYME_SERVE_API_KEY or "
            "--api-key-file, listen on 127.0.0.1, or say --without-key where the network is closed"
        )


async def serve(
    runtime: AbstractAsyncContextManager[tuple[Engine, Sandbox]],
    config: ServeConfig,
    ready: Callable[[str, AgentRuntime], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests finish for `drain_s`; a second signal ends them at once.

    Args:
        runtime: Opens engine and sandbox, once the address is had, and closes them at the end.
        config: The server.
        ready: Called with the URL when requests are taken.

    Raises:
        UsageError: The address cannot be had.
        ConfigError: The prompts cannot be read.
    """
    with listening(Address(config.host, config.port)) as (opened, url):
        async with runtime as (engine, sandbox):
            app = create_app(engine, sandbox, config)
            agent: AgentRuntime = app.state.runtime
            await serve_app(app, opened, lambda: agent.drain(config.drain_s), lambda: ready(url, agent))
