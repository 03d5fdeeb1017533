"""The way to the server and back: connections, time-outs, repetitions, and no more requests at once than allowed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx

from thyme.config.openai import OpenAIConfig
from thyme.engines.openai_errors import BusyError, Server, error_message, passes, refusal
from thyme.engines.openai_stream import DONE, Delta, EventParser, parse_delta, parse_json
from thyme.errors import ContextFullError, EngineError, ThymeError

CHAT = "chat/completions"
MAX_PAUSE_S = 60.0
"""Longest pause before a repetition, whatever the server asks for."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_FINAL = ("insufficient_quota", "billing")
"""What a 429 says that no waiting helps against."""


class Passing(Exception):
    """A failure that may be gone the next time."""

    def __init__(self, error: ThymeError, after_s: float | None = None) -> None:
        """Wrap what is raised if it is not.

        Args:
            error: The failure.
            after_s: Seconds that the server asks to wait.
        """
        super().__init__(str(error))
        self.error, self.after_s = error, after_s


def http_options(server: Server, config: OpenAIConfig) -> dict[str, Any]:
    """Arguments of an httpx client, synchronous or not. Redirects are not followed: they would lead to a login page."""
    key = {} if server.key is None else {"Authorization": f"Bearer {server.key}"}
    timeout = httpx.Timeout(config.first_token_timeout_s, connect=config.connect_timeout_s, pool=None)
    return {
        "base_url": server.url.rstrip("/") + "/",
        "headers": {"Accept": "application/json, text/event-stream", **key},
        "timeout": timeout,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=config.max_concurrent),
        "trust_env": urlsplit(server.url).hostname not in _LOOPBACK,
    }


def check(server: Server, response: httpx.Response) -> None:
    """Refuse an answer that is none. Its body must be there.

    Raises:
        Passing: It may be another the next time.
        ThymeError: It will not.
    """
    if response.is_success:
        if "html" in response.headers.get("content-type", ""):
            raise EngineError(
                f"{server} answered with a web page; give the URL of the API, which usually ends with /v1"
            )
        return
    message = response.headers.get("location", "") if response.is_redirect else _message(response)
    error = refusal(server, response.status_code, message)
    quota = any(word in message for word in _FINAL)
    if passes(response.status_code) and not quota and not isinstance(error, ContextFullError):
        raise Passing(error, _seconds(response.headers.get("retry-after")))
    raise error


def transport_error(server: Server, error: httpx.HTTPError) -> Passing:
    """The failure behind an exception of httpx."""
    if isinstance(error, httpx.ConnectTimeout):
        return Passing(BusyError(f"{server} did not accept a connection in time; is it running, and is the URL right?"))
    if isinstance(error, httpx.TimeoutException):
        return Passing(BusyError(f"{server} did not answer in time; raise engine.openai.first_token_timeout_s"))
    if isinstance(error, httpx.ConnectError):
        return Passing(BusyError(f"{server} cannot be reached ({error}); is it running, and is the URL right?"))
    return Passing(
        BusyError(f"the connection to {server} broke ({type(error).__name__}); is the server still running?")
    )


async def post_chat(
    http: httpx.AsyncClient, server: Server, content: bytes, *, timeout_s: float, late: str
) -> dict[str, Any]:
    """Send a chat request once; the whole answer, which was not streamed.

    Args:
        http: Made with `http_options`.
        server: Whom it asks.
        content: The request's body, JSON.
        timeout_s: From its start to its last byte.
        late: What is said where it takes longer, behind the server's name, with the way out.

    Raises:
        Passing: It may be answered the next time.
        ThymeError: It will not.
    """
    try:
        async with asyncio.timeout(timeout_s):
            response = await http.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    except TimeoutError:
        raise Passing(BusyError(f"{server} {late}")) from None
    except httpx.HTTPError as error:
        raise transport_error(server, error) from error
    check(server, response)
    try:
        return parse_json(response.content, server.url)
    except EngineError as error:  # a proxy whose server is only starting, perhaps
        raise Passing(error) from error


def pause_s(config: OpenAIConfig, attempt: int, after_s: float | None) -> float:
    """Seconds before repetition number `attempt` (from 0): doubling, spread, and not before the server allows it."""
    pause = min(MAX_PAUSE_S, config.backoff_s * 2.0**attempt) * random.uniform(0.5, 1.0)
    return max(pause, min(after_s or 0.0, MAX_PAUSE_S))


class Client:
    """Sends chat requests. One connection pool for each event loop it is used from."""

    def __init__(self, server: Server, config: OpenAIConfig, *, streaming: bool = True) -> None:
        """Set up; connects to nothing yet.

        Args:
            server: Whom to ask.
            config: Time-outs, repetitions, and how many requests at once.
            streaming: Whether answers come token by token.
        """
        self.server = server
        self._config, self._streaming = config, streaming
        longest = max(config.first_token_timeout_s, config.token_timeout_s)  # `_Patience` tells the two apart
        self._timeout = httpx.Timeout(longest, connect=config.connect_timeout_s, pool=None)
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, asyncio.Semaphore]]
        self._lanes = WeakKeyDictionary()

    async def deltas(self, body: Mapping[str, Any]) -> AsyncGenerator[Delta, None]:
        """Send a request; what comes of it, as it comes. Closing the iterator closes the connection.

        A failure that may pass is tried again as long as no token had come.

        Raises:
            ContextFullError: The request does not fit.
            EngineError: Anything else that keeps the model from answering.
        """
        http, slots = self._lane()
        async with slots:
            for attempt in range(self._config.retries + 1):
                begun = False
                try:
                    async with aclosing(self._attempt(http, body)) as deltas:
                        async for delta in deltas:
                            begun = begun or delta.carries or delta.finish is not None
                            yield delta
                    if begun:
                        return
                    raise Passing(_nothing(self.server))
                except Passing as failure:
                    if begun or attempt == self._config.retries:
                        raise failure.error from None
                    pause = pause_s(self._config, attempt, failure.after_s)
                await asyncio.sleep(pause)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        http, _ = self._lanes.pop(asyncio.get_running_loop(), (None, None))
        if http is not None:
            await http.aclose()

    def _lane(self) -> tuple[httpx.AsyncClient, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._lanes:
            http = httpx.AsyncClient(**http_options(self.server, self._config))
            self._lanes[loop] = http, asyncio.Semaphore(self._config.max_concurrent)
        return self._lanes[loop]

    async def _attempt(self, http: httpx.AsyncClient, body: Mapping[str, Any]) -> AsyncGenerator[Delta, None]:
        """One try."""
        sent = {**body, "stream": True} if self._streaming else dict(body)
        try:
            async with http.stream("POST", CHAT, json=sent, timeout=self._timeout) as response:
                if not response.is_success or "event-stream" not in response.headers.get("content-type", ""):
                    await response.aread()
                    check(self.server, response)
                    yield parse_delta(self._event(response.content))
                    return
                async with aclosing(self._deltas(response)) as deltas:
                    async for delta in deltas:
                        yield delta
        except httpx.HTTPError as error:
            raise transport_error(self.server, error) from error

    async def _deltas(self, response: httpx.Response) -> AsyncGenerator[Delta, None]:
        """The events of a stream, each in time."""
        parser = EventParser()
        wait = self._config.first_token_timeout_s
        waiting = _Patience(response.aiter_bytes())
        while (piece := await waiting.next(wait, self.server)) is not None:
            for data in parser.feed(piece):
                if data.strip() == DONE:
                    return
                delta = parse_delta(self._event(data))
                yield delta
                if delta.carries:
                    waiting.renew()
                    wait = self._config.token_timeout_s
        for data in parser.end():
            if data.strip() != DONE:
                yield parse_delta(self._event(data))

    def _event(self, data: str | bytes) -> dict[str, Any]:
        event = parse_json(data, self.server.url)
        if event.get("error"):
            message = error_message(event, "")
            code = event["error"].get("code") if isinstance(event["error"], Mapping) else None
            error = refusal(self.server, code if isinstance(code, int) and code >= 300 else 500, message)
            raise Passing(error) if not isinstance(code, int) or passes(code) else error
        return event


class _Patience:
    """Waits for the next piece of a stream; what is no event, such as a keep-alive, does not renew the time."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._since = asyncio.get_running_loop().time()

    def renew(self) -> None:
        """Begin to count anew."""
        self._since = asyncio.get_running_loop().time()

    async def next(self, wait_s: float, server: Server) -> bytes | None:
        """The next bytes; None at the end."""
        try:
            async with asyncio.timeout_at(self._since + wait_s):
                return await anext(self._pieces, None)
        except TimeoutError:
            raise Passing(
                BusyError(
                    f"{server} sent no token for {wait_s:g} s; raise engine.openai.first_token_timeout_s or "
                    "token_timeout_s, or ask for less at once (max_concurrent)"
                )
            ) from None


def _nothing(server: Server) -> EngineError:
    return BusyError(f"the answer of {server} broke off before its first token; is the server still running?")


def _message(response: httpx.Response) -> str:
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    if "html" in response.headers.get("content-type", ""):
        return "a web page"
    return error_message(body if isinstance(body, dict) else None, response.text)


def _seconds(header: str | None) -> float | None:
    """A Retry-After in seconds; its other form, a date, is not used by such servers."""
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None
