"""Listens at an address and serves an application there until SIGTERM, in good order; a second one ends it at once.

Shared by ``thyme serve``, ``thyme sandbox serve`` and the studio. Needs uvicorn, which the extra ``serve`` brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from thyme.errors import UsageError

_KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection, so that it is they who close it."""
_UNREAD_S = 60.0
"""How long a client may leave what was sent to it unread before its connection is cut."""


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str = "127.0.0.1"
    port: int = 8765
    """0: any that is free."""
    unix: Path | None = None
    """A socket in the file system, instead of host and port; only its owner may connect."""

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches it."""
        if self.unix is not None or self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False


@contextlib.contextmanager
def listening(address: Address, unread_s: float = _UNREAD_S) -> Iterator[tuple[socket.socket, str]]:
    """Open the socket, and say how clients name it.

    Args:
        address: Where.
        unread_s: Seconds that a client may leave what was sent to it unread, or a machine that is gone may stay silent,
            before its connection is cut. The kernel sees to it, where it can (Linux, TCP).

    Raises:
        UsageError: The address cannot be had.
    """
    if address.unix is not None:
        with _unix_socket(address.unix) as opened:
            yield opened, f"unix:{address.unix}"
        return
    try:
        (family, _, _, _, where), *_ = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        opened = socket.create_server(where[:2], family=family, backlog=512)
    except OSError as error:
        raise UsageError(f"cannot listen on {address.host} port {address.port}: {error.strerror or error}") from error
    with opened:
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # taken over by every connection that is accepted
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(unread_s * 1000))
        host = f"[{address.host}]" if ":" in address.host else address.host
        yield opened, f"http://{host}:{opened.getsockname()[1]}"


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    _remove_stale(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else may connect, not even for a moment
    try:
        opened.bind(str(path))
        opened.listen(512)
    except OSError as error:
        opened.close()
        raise UsageError(
            f"cannot listen on {path}: {error.strerror or error}; name another path with --unix"
        ) from error
    finally:
        os.umask(before)
    made = path.stat().st_ino
    try:
        yield opened
    finally:
        opened.close()
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == made:  # and not that of a server that has taken over
                path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that is gone."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path} exists and is no socket; name another path with --unix")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise UsageError(f"{path} cannot be asked whether a server is behind it: {error}") from error
    raise UsageError(f"a server listens on {path} already; end it, or name another path with --unix")


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def uvicorn_for(app: ASGIApp, *, proxy_headers: bool = True) -> uvicorn.Server:
    """The server of an application; it ends when its `should_exit` is set, and by no signal."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=proxy_headers,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
        backlog=512,
    )
    return _Server(config)


async def serve_app(
    app: ASGIApp,
    opened: socket.socket,
    drain: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
    *,
    proxy_headers: bool = True,
) -> None:
    """Serve an application until SIGTERM or SIGINT, and end it in good order; a second signal ends it at once.

    Args:
        app: What to serve.
        opened: A socket that listens.
        drain: Called after the first signal; ends when nothing goes on any more.
        ready: Called when requests are taken.
        proxy_headers: Whether a proxy on this machine is believed about who is behind it. Without, the client of a
            request is whoever has connected.
    """
    server = uvicorn_for(app, proxy_headers=proxy_headers)
    async with _drained_by_signals(drain, server):
        serving = asyncio.create_task(server.serve(sockets=[opened]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        ready()
        await serving


@contextlib.asynccontextmanager
async def _drained_by_signals(drain: Callable[[], Awaitable[None]], server: uvicorn.Server) -> AsyncIterator[None]:
    loop, draining = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def end() -> None:
        await drain()
        server.should_exit = True

    def stop() -> None:
        if draining:
            server.should_exit = server.force_exit = True
        else:
            draining.add(loop.create_task(end()))

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        for task in draining:
            task.cancel()
            await asyncio.wait({task})
