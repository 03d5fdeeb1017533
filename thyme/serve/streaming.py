"""A chat completion as server-sent events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from thyme.events import Event, FinishedEvent
from thyme.serve.answer import AnswerReader, Delta
from thyme.serve.completion import Job, as_json, failure, finish_reason, side_field, usage
from thyme.serve.metrics import Metrics
from thyme.serve.refusal import Refusal
from thyme.serve.runtime import request_id
from thyme.serve.waiting import ClientGoneError, unless_gone
from thyme.types import Trajectory

log = logging.getLogger(__name__)

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""No cache and no proxy (nginx) may hold events back."""

Events = AsyncGenerator[Event | None, None]
"""Events of a rollout, and None for each pause."""


class EventStream(Response):
    """The reply while the rollout runs. It owns the events, and closes them when it ends or the client goes away."""

    media_type = "text/event-stream"

    def __init__(self, job: Job, first: Event | None, rest: Events, metrics: Metrics, keep_alive_s: float) -> None:
        """Tell `first`, then `rest`, and a comment wherever so many seconds would pass without a word."""
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._job, self._first, self._rest, self._metrics = job, first, rest, metrics
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await unless_gone(receive, self._send(send))
        except ClientGoneError:
            self._metrics.disconnects.inc()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._rest), aclosing(self._lines()) as lines:
            async for line in lines:
                await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncGenerator[str, None]:
        """The stream; an error after its beginning is an event of its own."""
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Refusal as refusal:
            self._metrics.refused.labels(refusal.code).inc()
            yield _data(refusal.body())
        except Exception:
            log.exception("request %s (%s) failed", request_id.get(), self._job.id)
            yield _data(internal_error().body())
        yield "data: [DONE]\n\n"

    async def _chunks(self) -> AsyncGenerator[str, None]:
        reader = AnswerReader(self._job.request.stops)
        yield self._chunk({"role": "assistant", "content": ""})
        spoken = time.monotonic()
        async with aclosing(self._all()) as events:
            async for event in events:
                told = [] if event is None else self._told(reader, event)
                if not told and (event is None or time.monotonic() - spoken >= self._keep_alive_s):
                    told = [": keep-alive\n\n"]  # the model writes what the client did not ask to see
                for chunk in told:
                    yield chunk
                    spoken = time.monotonic()
                if isinstance(event, FinishedEvent):
                    trajectory = event.trajectory
        if (refusal := failure(trajectory)) is not None:
            raise refusal
        async with aclosing(self._end(trajectory)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _told(self, reader: AnswerReader, event: Event) -> list[str]:
        """What the client is told of an event."""
        deltas = reader.close() if isinstance(event, FinishedEvent) else reader.feed(event)
        return [self._chunk(fields) for delta in deltas if (fields := self._fields(delta)) is not None]

    async def _all(self) -> Events:
        yield self._first
        async for event in self._rest:
            yield event

    def _fields(self, delta: Delta) -> dict[str, str] | None:
        if delta.channel == "content":
            return {"content": delta.text}
        return {"reasoning_content": delta.text} if self._job.reasoning else None

    async def _end(self, trajectory: Trajectory) -> AsyncGenerator[str, None]:
        yield await asyncio.to_thread(self._last, trajectory)
        if self._wants_usage:
            head = self._job.head("chat.completion.chunk")
            yield _data({**head, "choices": [], "usage": usage(trajectory)})

    def _last(self, trajectory: Trajectory) -> str:
        """The chunk that ends the answer; with pictures it takes a while to write."""
        return self._chunk({}, finish_reason(trajectory.stop), side_field(self._job, trajectory))

    @property
    def _wants_usage(self) -> bool:
        options = self._job.request.stream_options
        return bool(options and options.include_usage)

    def _chunk(self, delta: dict[str, str], reason: str | None = None, side: dict[str, Any] | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        absent = {"usage": None} if self._wants_usage else {}
        return _data({**self._job.head("chat.completion.chunk"), "choices": [choice], **absent, **(side or {})})


def internal_error() -> Refusal:
    """What a client is told of a bug of ours; the log has the rest."""
    return Refusal(500, "the server failed; its log says why", code="internal_error")


def _data(body: dict[str, Any]) -> str:
    return f"data: {as_json(body)}\n\n"
