"""A web application on this machine, served by a thread with an event loop of its own, or by the test's own loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from waiting import until

from thyme.hosting import Address, listening, uvicorn_for

START_S, END_S = 60, 60
"""Seconds that a server is given to come up and to end."""


@dataclass
class WebServer:
    """A server that takes requests."""

    url: str
    stop: Callable[[], None] = field(repr=False)
    """End it before its time; what is under way is given a second."""


@contextmanager
def serving(
    open_app: Callable[[], AbstractAsyncContextManager[Any]], port: int = 0, **settings: Any
) -> Iterator[WebServer]:
    """Serve an application until the context ends.

    Args:
        open_app: Gives the application, and what lives as long as it; opened and closed in the server's event loop.
        port: 0 is any that is free.
        settings: More of `uvicorn.Config`.

    Raises:
        Exception: What opening, serving or closing it raised.
    """
    listener = socket.create_server(("127.0.0.1", port))
    servers: list[uvicorn.Server] = []
    failures: list[BaseException] = []
    opened = threading.Event()

    async def serve() -> None:
        async with open_app() as app:
            config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, **settings)
            servers.append(uvicorn.Server(config))
            opened.set()
            await servers[0].serve(sockets=[listener])

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # of a thread, which has nobody else to tell
            failures.append(error)
        finally:
            opened.set()

    def stop() -> None:
        for server in servers:
            server.should_exit = True
        thread.join(END_S)
        assert not thread.is_alive(), f"the server did not end within {END_S} s"

    thread = threading.Thread(target=work, name="web server of a test", daemon=True)
    thread.start()
    try:
        assert opened.wait(START_S), f"the server did not come up within {START_S} s"
        if not failures:
            yield WebServer(f"http://127.0.0.1:{listener.getsockname()[1]}", stop)
    finally:
        stop()
        listener.close()
    if failures:
        raise failures[0]


@asynccontextmanager
async def serving_here(app: Any, address: Address | None = None) -> AsyncIterator[str]:
    """Serve an application from the running event loop, as the servers of the package do; gives its address.

    A test sees application, engine and sandbox from inside.

    Args:
        app: What is served.
        address: Where; None: any free port of this machine.
    """
    with listening(address or Address("127.0.0.1", 0)) as (opened, url):
        server = uvicorn_for(app)
        task = asyncio.create_task(server.serve(sockets=[opened]))
        try:
            await until(lambda: server.started or task.done(), START_S)
            yield url
        finally:
            server.should_exit = True
            await task
