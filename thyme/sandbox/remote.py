"""A sandbox on a server (``thyme sandbox serve``): the contract of a local one, over HTTP or a unix socket.

The server is trusted little: its answers are at most so long, of exactly the known shape, and its pictures are raw
pixels whose sizes add up. Sessions, runs and their ends carry names that this side makes up, so that asking again after
a broken connection never runs anything twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from thyme import __version__
from thyme.config.sandbox import SandboxConfig
from thyme.errors import IsolationError, SandboxDiedError, SandboxError
from thyme.sandbox import protocol
from thyme.sandbox.connection import TOKEN, BrokenError, Connection, Reply
from thyme.sandbox.far import AnswerLostError, FarSession, FarSessions, SessionGoneError
from thyme.sandbox.inputs import encode_png
from thyme.sandbox.lru import ByteLru
from thyme.sandbox.protocol import Hello, MalformedError, Opened
from thyme.types import EXTENSIONS, Execution, ImageRecord

_ENCODED_BYTES = 128 << 20
_MOST_KNOWN = 100_000
_GREETING_S = 15.0
_END_S = 5.0
_SOON_READ_BYTES = 1 << 18
"""Longer answers are read in a thread, so that nobody else waits for them."""


@contextlib.asynccontextmanager
async def open_remote(
    url: str,
    token: str | None = None,
    *,
    config: SandboxConfig | None = None,
    wait_s: float = 300.0,
    connect_s: float = 2.0,
    grace_s: float = 15.0,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[RemoteSandbox]:
    """Connect to a sandbox server; the sessions opened through it end with the context.

    Args:
        url: ``http://HOST:PORT``, ``https://…`` or ``unix:PATH``.
        token: The server's bearer token; else the environment's THYME_SANDBOX_TOKEN.
        config: Settings that are given (not left at their defaults) are asked of the server for each session; those
            in `thyme.sandbox.protocol.SETTINGS`, no higher than the server's own. Its limits also bound what is
            accepted in an answer.
        wait_s: Seconds to wait for a place where all are taken.
        connect_s: Seconds to try a server that does not answer.
        grace_s: Seconds beyond the run's own limit after which an answer counts as lost.
        ssl_context: For https with certificates of your own.

    Raises:
        UsageError: The URL is none.
        SandboxDiedError: The server cannot be reached.
        SandboxError: It refuses the token, speaks another protocol, or is something else.
        IsolationError: It does not offer the level that `config` names.
    """
    connection = Connection(url, token or os.environ.get(TOKEN) or None, connect_s, ssl_context)
    server = _Server(connection, config, wait_s, grace_s)
    sandbox = RemoteSandbox(server)
    try:
        await server.greet()
        yield sandbox
    finally:
        await asyncio.shield(sandbox.aclose())


class RemoteSandbox:
    """A sandbox on a server: implements `thyme.sandbox.base.Sandbox`. Use `open_remote`."""

    def __init__(self, server: _Server) -> None:
        """Speak to `server`."""
        self._server = server
        self._sessions = FarSessions(server)

    @property
    def isolation(self) -> str:
        """Level in force on the server: ``namespaces`` or ``landlock``."""
        return self._server.hello.isolation

    def session(
        self, images: Sequence[ImageRecord] = (), seed: int = 0
    ) -> AbstractAsyncContextManager[FarSession[_Handle]]:
        """Open a session; see `thyme.sandbox.base.Sandbox.session`.

        Raises:
            SandboxError: No place became free in time, or the server does not take the images.
        """
        return self._sessions.session(tuple(images), seed)

    async def aclose(self) -> None:
        """End every session opened through this object, and the connections."""
        try:
            await self._sessions.aclose()
        finally:
            await self._server.connection.aclose()


@dataclass(frozen=True)
class _Handle:
    name: str
    """The server's."""
    key: str
    """Ours."""
    timeout_s: float


@dataclass(frozen=True)
class _File:
    """An input as the code will find it."""

    format: str
    data: bytes
    digest: str


class _Server:
    """The far side; implements `thyme.sandbox.far.Far`."""

    hello: Hello

    def __init__(self, connection: Connection, config: SandboxConfig | None, wait_s: float, grace_s: float) -> None:
        self.connection = connection
        self._config = config or SandboxConfig()
        self._settings = settings_of(config) if config else {}
        self._wait_s, self._grace_s = wait_s, grace_s
        self._encoded: ByteLru[bytes] = ByteLru(_ENCODED_BYTES)
        self._sent: ByteLru[bool] = ByteLru(_MOST_KNOWN)
        """Digests of inputs that the server has seen, counted."""

    async def greet(self) -> None:
        """See who is there."""
        reply = await self.connection.ask("GET", "/v1/server", seconds=_GREETING_S)
        if reply.status != 200:
            raise self.connection.refused(reply.status, self.connection.fault(reply))
        self._require_protocol(reply)
        self.hello = self.connection.read(Hello, reply)
        self.connection.most_sent_bytes = self.hello.max_body
        if self._config.isolation not in {"best", self.hello.isolation}:
            raise IsolationError(
                f"the server at {self.connection.url} runs at level {self.hello.isolation}, not "
                f"{self._config.isolation}: ask for best, or start it with --isolation"
            )

    def _require_protocol(self, reply: Reply) -> None:
        """Before anything else is read, which another version may say otherwise."""
        try:
            said = json.loads(reply.body)
        except (ValueError, RecursionError):
            return  # told when the rest is read
        spoken = said.get("protocol") if isinstance(said, dict) else None
        if isinstance(spoken, int) and spoken != protocol.PROTOCOL:
            raise SandboxError(
                f"the server at {self.connection.url} (version {str(said.get('version'))[:50]}) speaks protocol "
                f"{str(spoken)[:20]}, this client ({__version__}) {protocol.PROTOCOL}: install the same version of "
                "thyme-vl on both sides"
            )

    async def open(self, images: tuple[ImageRecord, ...], seed: int) -> _Handle:
        """Open a session, in line with others if need be."""
        files = await asyncio.to_thread(lambda: [self._file(image) for image in images]) if images else []
        key = secrets.token_hex(16)
        try:
            return await self._opened(key, files, seed)
        except asyncio.CancelledError:  # the server may have answered already, and would keep it until it expires
            await asyncio.shield(self.close(_Handle(key, key, 0.0)))
            raise

    async def _opened(self, key: str, files: list[_File], seed: int) -> _Handle:
        deadline = time.monotonic() + self._wait_s
        seconds = self._wait_s + self._config.start_timeout_s
        bodiless = {index for index, file in enumerate(files) if self._sent.get(file.digest)}
        while True:
            body = self._order(key, seed, files, bodiless)
            reply = await self.connection.ask("POST", "/v1/sessions", body, key=key, seconds=seconds)
            if reply.status == 201:
                for file in files:
                    self._sent.put(file.digest, True, 1)
                opened = self.connection.read(Opened, reply)
                return _Handle(opened.session, key, opened.timeout_s)
            fault = self.connection.fault(reply)
            if fault.code == "unknown_images" and bodiless & set(fault.missing):
                bodiless -= set(fault.missing)
            elif reply.status in {429, 503} and time.monotonic() + reply.retry_after_s < deadline:
                await asyncio.sleep(reply.retry_after_s * random.uniform(0.5, 1.0))
            else:
                raise self.connection.refused(reply.status, fault)

    def _file(self, image: ImageRecord) -> _File:
        """An input as a local sandbox would show it to the code."""
        if image.encoded is not None and image.format in EXTENSIONS:
            return _File(image.format, image.encoded, protocol.digest(image.encoded))
        data = self._encoded.get(image.id)
        if data is None:
            data = encode_png(image.image)
            self._encoded.put(image.id, data, len(data))
        return _File("PNG", data, protocol.digest(data))

    def _order(self, key: str, seed: int, files: Sequence[_File], bodiless: set[int]) -> bytes:
        images = [
            {"format": file.format, "digest": file.digest, "size": None if index in bodiless else len(file.data)}
            for index, file in enumerate(files)
        ]
        head = {"key": key, "seed": seed, "images": images, "settings": self._settings}
        return protocol.pack(head, [file.data for index, file in enumerate(files) if index not in bodiless])

    async def run(self, handle: _Handle, code: str) -> Execution:
        """Run a block."""
        request = secrets.token_hex(16)
        reply, asked_again = await self._reply_to(handle, protocol.pack({"code": code, "request": request}))
        url = self.connection.url
        if reply.status == 200:
            try:
                if len(reply.body) < _SOON_READ_BYTES:
                    return protocol.read_answer(reply.body, request, code, self._config)
                return await asyncio.to_thread(protocol.read_answer, reply.body, request, code, self._config)
            except MalformedError as error:
                raise AnswerLostError(f"the sandbox server at {url} answered what it may not: {error}") from None
        fault = self.connection.fault(reply)
        if fault.code in {"unknown_session", "wrong_instance"} and not asked_again:
            raise SessionGoneError(fault.message)
        if asked_again or fault.code in {"session_ended", "answer_gone"}:
            raise AnswerLostError(f"the sandbox server at {url} lost a run: {fault.message}")
        raise self.connection.refused(reply.status, fault)

    async def _reply_to(self, handle: _Handle, body: bytes) -> tuple[Reply, bool]:
        """The reply to a run, and whether it was asked for twice, under one name, since the connection broke."""
        broken: BrokenError | None = None
        for _ in range(2):
            try:
                return await self.connection.ask_once(
                    "POST",
                    f"/v1/sessions/{handle.name}/runs",
                    body,
                    key=handle.key,
                    seconds=handle.timeout_s + self._grace_s,
                    most=protocol.most_answer_bytes(self._config),
                ), broken is not None
            except BrokenError as error:
                broken = error
            except SandboxDiedError as error:  # nobody listens: what was asked before is lost, too
                if broken is None:
                    raise
                raise AnswerLostError(f"{error}; the connection had broken while the code ran") from error
        raise AnswerLostError(f"the sandbox server at {self.connection.url} did not answer a run: {broken}")

    async def close(self, handle: _Handle) -> None:
        """End a session; one that cannot be told to expires on the server."""
        with contextlib.suppress(SandboxError, BrokenError):
            await self.connection.ask_once(
                "DELETE", f"/v1/sessions/{handle.name}", key=handle.key, seconds=_END_S, patient=False
            )


def settings_of(config: SandboxConfig) -> dict[str, Any]:
    """What a session asks for: the settings that were given."""
    return config.model_dump(mode="json", include=set(protocol.SETTINGS & config.model_fields_set))
