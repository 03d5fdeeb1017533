"""One HTTP connection pool to a sandbox server: what was asked, whether it arrived, and what a refusal means."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from thyme import __version__
from thyme.errors import SandboxDiedError, SandboxError, UsageError
from thyme.sandbox import protocol
from thyme.sandbox.far import AnswerLostError
from thyme.sandbox.protocol import Fault, MalformedError
from thyme.sandbox.wire import Message

TOKEN = "THYME_SANDBOX_TOKEN"
MOST_SMALL_BYTES = 1 << 20
"""Longest answer where there are no pictures in it."""
_KEEP_S = 30.0
_PAUSES_S = (0.05, 0.2, 0.5)
"""Before each further try to reach a server that does not take connections, seconds; the last one is repeated."""

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytearray
    retry_after_s: float


class BrokenError(Exception):
    """A connection broke; whether the request arrived is not known."""


class Connection:
    """Speaks to one server."""

    def __init__(self, url: str, token: str | None, connect_s: float, ssl_context: ssl.SSLContext | None) -> None:
        """Prepare; nothing is sent.

        Args:
            url: ``http://HOST:PORT``, ``https://…`` or ``unix:PATH``.
            token: The server's bearer token.
            connect_s: Seconds to try a server that takes no connections.
            ssl_context: For https with certificates of one's own.

        Raises:
            UsageError: The URL is none.
        """
        self.url, self._token, self._connect_s = url, token, connect_s
        self.most_sent_bytes: int | None = None
        """Longest request that the server takes, once it is known."""
        self._client = _client(url, token, ssl_context)

    async def ask(self, method: str, path: str, body: bytes = b"", *, key: str = "", seconds: float) -> Reply:
        """Ask, and ask again where the connection broke: for what may be asked twice.

        Raises:
            SandboxDiedError: The server cannot be reached.
        """
        try:
            return await self.ask_once(method, path, body, key=key, seconds=seconds)
        except BrokenError:
            pass  # tried again, once
        try:
            return await self.ask_once(method, path, body, key=key, seconds=seconds)
        except BrokenError as error:
            raise self._died(error) from error

    async def ask_once(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str,
        seconds: float,
        most: int = MOST_SMALL_BYTES,
        patient: bool = True,
    ) -> Reply:
        """Send one request; again only while nobody takes the connection.

        Args:
            method: HTTP's.
            path: On the server.
            body: A frame, or nothing.
            key: The session's, for a load balancer.
            seconds: How long an answer may take.
            most: Bytes an answer may have.
            patient: False: try to connect only once.

        Raises:
            SandboxDiedError: Nobody takes the connection; nothing was sent.
            BrokenError: The connection broke.
            AnswerLostError: The answer came too late, or is too long.
            SandboxError: The request is longer than the server takes.
        """
        self._refuse_too_long(body)
        deadline, tries = time.monotonic() + self._connect_s * patient, 0
        while True:
            try:
                async with asyncio.timeout(seconds):
                    return await self._exchange(method, path, body, key, most)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                pause = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
                if time.monotonic() + pause > deadline:
                    raise self._died(error) from error
                await asyncio.sleep(pause)
                tries += 1
            except TimeoutError:
                raise AnswerLostError(f"the sandbox server at {self.url} did not answer within {seconds:g} s") from None
            except httpx.TransportError as error:
                raise BrokenError(f"{type(error).__name__}: {error}") from error

    async def _exchange(self, method: str, path: str, body: bytes, key: str, most: int) -> Reply:
        headers = {"content-type": protocol.FRAME, protocol.AFFINITY_HEADER: key} if key else {}
        async with self._client.stream(method, path, content=body or None, headers=headers) as response:
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > most:
                    raise AnswerLostError(
                        f"the sandbox server at {self.url} answered with more than {most} bytes; where it has larger "
                        "limits than the defaults, give config= with the same"
                    )
            return Reply(response.status_code, data, _retry_after_s(response))

    def _refuse_too_long(self, body: bytes) -> None:
        if self.most_sent_bytes is not None and len(body) > self.most_sent_bytes:
            raise SandboxError(
                f"the sandbox server at {self.url} takes requests of {self.most_sent_bytes} bytes, and this one has "
                f"{len(body)}: send fewer or smaller images or less code, or start it with a larger --max-body"
            )

    def _died(self, error: Exception) -> SandboxDiedError:
        reason = str(error) or type(error).__name__
        return SandboxDiedError(
            f"the sandbox server at {self.url} cannot be reached ({reason}): is 'thyme sandbox serve' running there?"
        )

    def read(self, kind: type[M], reply: Reply) -> M:
        """What a reply says.

        Raises:
            SandboxError: It is something else.
        """
        try:
            return protocol.read(kind, reply.body)
        except MalformedError as error:
            raise SandboxError(f"{self.url} does not answer as a thyme sandbox server does: {error}") from None

    def fault(self, reply: Reply) -> Fault:
        """Why a request was refused."""
        try:
            return protocol.read(protocol.Refused, reply.body).error
        except MalformedError:
            return Fault(code="unknown", message=f"HTTP status {reply.status}: is it a thyme sandbox server?")

    def refused(self, status: int, fault: Fault) -> SandboxError:
        """A refusal as an exception."""
        if status == 401:
            problem = "wants a token" if self._token is None else "does not take this token"
            return SandboxError(
                f"the sandbox server at {self.url} {problem}: set {TOKEN}, or token=, to the one it was started with"
            )
        kind = SandboxDiedError if fault.code == "sandbox_died" else SandboxError
        return kind(f"the sandbox server at {self.url} refused: {fault.message}")

    async def aclose(self) -> None:
        """End the connections."""
        await self._client.aclose()


def _client(url: str, token: str | None, ssl_context: ssl.SSLContext | None) -> httpx.AsyncClient:
    path, base = _where(url)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_S)
    headers = {
        "accept": protocol.FRAME,
        "accept-encoding": "identity",
        "user-agent": f"thyme/{__version__}",
        protocol.PROTOCOL_HEADER: str(protocol.PROTOCOL),
    }
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    verify: ssl.SSLContext | bool = ssl_context if ssl_context is not None else base.startswith("https:")
    transport = httpx.AsyncHTTPTransport(uds=path, limits=limits, verify=verify)
    # No overall limit here: each request has its own. No proxies of the environment: the server is near.
    return httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=None, trust_env=False)


def _where(url: str) -> tuple[str | None, str]:
    """Path of the unix socket, and base URL.

    Raises:
        UsageError: It is none.
    """
    if url.startswith("unix:") and len(url) > len("unix:"):
        return url.removeprefix("unix:").removeprefix("//"), "http://localhost"
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and not parts.username:
            return None, url.rstrip("/")
    except ValueError:
        pass  # answered below, like every other that is none
    raise UsageError(f"{url!r} is no address of a sandbox server; give http://HOST:PORT, https://… or unix:PATH")


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return max(0.05, min(float(text), 60.0)) if text.isdecimal() else 1.0
