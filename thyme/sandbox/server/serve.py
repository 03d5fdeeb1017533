"""The sandbox's server: SIGTERM lets sessions finish, a second one does not."""

from __future__ import annotations

from collections.abc import Callable

from thyme.config.sandbox import SandboxConfig
from thyme.config.sandbox_server import SandboxServerConfig
from thyme.errors import UsageError
from thyme.hosting import Address, listening, serve_app
from thyme.sandbox.server.app import Service, make_app
from thyme.sandbox.server.guard import Guard

_SHORTEST_TOKEN = 16


def require_token(address: Address, token: str | None, without_token: bool) -> None:
    """See to it that nobody opens the sandbox to a network by mistake.

    Raises:
        UsageError: There is no token where one is needed, or it is too short.
    """
    if token is not None and len(token) < _SHORTEST_TOKEN:
        message = f"the token has {len(token)} characters; take at least {_SHORTEST_TOKEN}, e.g. openssl rand -hex 32"
        raise UsageError(message)
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("the token must be printable ASCII without spaces, e.g. openssl rand -hex 32")
    if token is None and not address.is_private and not without_token:
        raise UsageError(
            f"{address.host} is reachable from other machines, and there is no token: set THYME_SANDBOX_TOKEN or "
            "--token-file, listen on 127.0.0.1 or --unix, or say --without-token where the network is closed"
        )


async def serve(
    address: Address,
    token: str | None,
    config: SandboxConfig,
    limits: SandboxServerConfig,
    ready: Callable[[str, Service], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then let sessions finish for `drain_s`; a second signal ends them at once.

    Args:
        address: Where to listen.
        token: What clients must show; None: everybody may.
        config: The sandbox.
        limits: The server.
        ready: Called with the URL when requests are taken.

    Raises:
        UsageError: The address cannot be had.
        IsolationError: The level asked for is not to be had here.
    """
    with listening(address) as (opened, url):
        async with Service.start(config, limits) as service:
            only_loopback = address.unix is None and address.is_private
            app = Guard(make_app(service), token=token, only_loopback=only_loopback, metrics=service.metrics)

            async def drain() -> None:
                await service.sessions.drain(limits.drain_s)
                await service.sessions.aclose()  # before the connections, so that whoever waits is told

            await serve_app(app, opened, drain, lambda: ready(url, service))
