"""Listens, and ends in good order: SIGTERM lets requests finish, a second one does not."""

from __future__ import annotations

from collections.abc import Callable

from thyme.config.serve import ServeConfig
from thyme.engines.base import Engine
from thyme.errors import UsageError
from thyme.sandbox.base import Sandbox
from thyme.sandbox.server.serve import Address, listening, serve_app
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
    engine: Engine, sandbox: Sandbox, config: ServeConfig, ready: Callable[[str, AgentRuntime], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests finish for `drain_s`; a second signal ends them at once.

    Args:
        engine: The model; the caller closes it.
        sandbox: Runs its code; the caller closes it.
        config: The server.
        ready: Called with the URL when requests are taken.

    Raises:
        UsageError: The address cannot be had.
        ConfigError: The prompts cannot be read.
    """
    app = create_app(engine, sandbox, config)
    runtime: AgentRuntime = app.state.runtime
    with listening(Address(config.host, config.port)) as (opened, url):
        await serve_app(app, opened, lambda: runtime.drain(config.drain_s), lambda: ready(url, runtime))
