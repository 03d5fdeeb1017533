"""``thyme sandbox serve``: sessions over HTTP or a unix socket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thyme.cli import options
from thyme.config.sandbox import SandboxConfig
from thyme.config.sandbox_server import SandboxServerConfig
from thyme.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from thyme.sandbox.server.app import Service

TOKEN = "THYME_SANDBOX_TOKEN"
_OWN, _SERVER = SandboxConfig(), SandboxServerConfig.model_validate({})


def serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8765,
    unix: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Listen on a unix socket instead, open to its owner only.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"File with the bearer token; else {TOKEN} is taken.")
    ] = None,
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Let everybody who reaches the address run code.")
    ] = False,
    isolation: options.Isolation = "best",
    max_sessions: Annotated[int, typer.Option(min=1, help="Sessions at once.")] = _OWN.max_sessions,
    pool: Annotated[int, typer.Option(min=0, help="Sessions kept ready for the next.")] = _OWN.pool,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds one run may take.")] = _OWN.timeout_s,
    memory_mb: Annotated[int, typer.Option(min=64, help="MiB of memory a session may take.")] = _OWN.memory_mb,
    session_ttl: Annotated[
        float, typer.Option(min=0.1, help="Seconds a session may stand idle.")
    ] = _SERVER.session_ttl_s,
    queue_s: Annotated[
        float, typer.Option(min=0, help="Seconds a new session waits for a place before it is refused.")
    ] = _SERVER.queue_s,
    max_waiting: Annotated[int, typer.Option(min=0, help="New sessions that wait at once.")] = _SERVER.max_waiting,
    max_body: Annotated[int, typer.Option(min=1, metavar="MIB", help="MiB of one request.")] = _SERVER.max_body_mb,
    max_inputs: Annotated[int, typer.Option(min=0, help="Input images of a session.")] = _SERVER.max_inputs,
    max_input_pixels: Annotated[int, typer.Option(min=1, help="Pixels of one input image.")] = _SERVER.max_input_pixels,
    drain_s: Annotated[float, typer.Option(min=0, help="Seconds sessions may go on after SIGTERM.")] = _SERVER.drain_s,
    instance: Annotated[str, typer.Option(help="Name of this server among several; made up when empty.")] = "",
) -> None:
    """Serve sandbox sessions to other processes and machines, until SIGTERM or Ctrl-C.

    Clients: thyme.sandbox.remote.open_remote, or plain HTTP. See docs/sandbox_server.md.

    Example: thyme sandbox serve --unix /run/thyme/sandbox.sock

    Example: thyme sandbox serve --host 0.0.0.0 --port 8765 --token-file token
    """
    try:
        from thyme.hosting import Address
        from thyme.sandbox.server.serve import require_token, serve
    except ImportError as error:
        raise MissingExtraError("thyme sandbox serve", "serve") from error
    address, token = Address(host, port, unix), read_token(token_file)
    require_token(address, token, without_token)
    config = _OWN.model_copy(
        update={"isolation": isolation, "max_sessions": max_sessions, "pool": pool, "timeout_s": timeout,
                "memory_mb": memory_mb}
    )  # fmt: skip
    limits = SandboxServerConfig.model_validate({
        "session_ttl_s": session_ttl, "queue_s": queue_s, "max_waiting": max_waiting, "max_body_mb": max_body,
        "max_inputs": max_inputs, "max_input_pixels": max_input_pixels, "drain_s": drain_s,
        "instance": _instance(instance),
    })  # fmt: skip
    asyncio.run(serve(address, token, config, limits, _announce))


def _announce(url: str, service: Service) -> None:
    sandbox = service.brokers
    typer.echo(
        f"thyme: sandbox server at {url}, isolation {sandbox.own.isolation}, {sandbox.config.max_sessions} sessions, "
        f"instance {service.sessions.instance}",
        err=True,
    )


def _instance(name: str) -> str:
    if len(name) > 64 or not all(letter.isascii() and (letter.isalnum() or letter in "_.-") for letter in name):
        raise UsageError(f"--instance {name!r}: take at most 64 letters, digits, and . _ -")
    return name


def read_token(file: Path | None) -> str | None:
    """The token out of a file, or else out of the environment.

    Raises:
        UsageError: The file cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the token file {file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not token:
        raise UsageError(f"the token file {file} is empty; write one into it, e.g. openssl rand -hex 32")
    return token
