"""Style ``chat``: for servers that cannot continue a message. Text and code come in one answer.

The rollout asks for text up to ``<code>`` and then for the code; such a server can only be asked once. So the answer
runs on to ``</code>`` or ``</answer>``, and what lies behind ``<code>`` is kept back for the request that asks for it.
Both were then sampled at the temperature of the text.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from thyme.engines.base import Chunk, ChunkStop, Request, written_last
from thyme.engines.openai_span import Limits, StringWatch, end_reason
from thyme.engines.openai_stream import Delta
from thyme.errors import EngineError
from thyme.tags import ANSWER_CLOSE, ANSWER_OPEN, CODE_CLOSE, CODE_OPEN

log = logging.getLogger(__name__)

CLOSING = {CODE_OPEN: CODE_CLOSE}
"""What an answer ends with that a tag opened, beside `ANSWER_CLOSE`."""


def stop_strings(request: Request) -> list[str]:
    """Where an answer ends that is asked for once."""
    return [
        *(CLOSING[stop] for stop in request.stop if stop in CLOSING),
        *(s for s in request.stop if s == ANSWER_CLOSE),
    ]


def open_tag(text: str) -> str | None:
    """The closing tag of what is open at the end of a text: a code block, or else an answer."""
    for opened, closed in ((CODE_OPEN, CODE_CLOSE), (ANSWER_OPEN, ANSWER_CLOSE)):
        if text.rfind(opened) > text.rfind(closed):
            return closed
    return None


class Answer:
    """One answer of the server, given out span by span."""

    def __init__(
        self, deltas: AsyncGenerator[Delta, None], temperature: float, stops: list[str], limits: Limits | None = None
    ) -> None:
        """Begin.

        Args:
            deltas: The answer as it comes.
            temperature: What it is sampled at.
            stops: Strings that the server was told to stop at; it takes them out and may not say which it was.
            limits: What bounds it; None where nothing is known of that.
        """
        self.text = ""
        """What was given out so far."""
        self.temperature = temperature
        """What it is sampled at."""
        self._deltas, self._stops, self._limits = deltas, stops, limits
        self._rest = ""
        self._end: ChunkStop | None = None

    async def aclose(self) -> None:
        """Let the server stop."""
        await self._deltas.aclose()

    async def span(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The next span, up to one of its stop strings.

        Raises:
            EngineError: The server failed, or wrote what was blocked.
        """
        watch = StringWatch(request.stop, request.blocked)
        while True:
            piece = await self._next()
            text, stop = watch.feed(piece)
            self._rest = piece[len(text) :]
            self.text += text
            if stop is not None:
                yield Chunk(text, stop="stop", stop_string=stop, temperature=self.temperature)
                return
            if self._end is not None and not self._rest:
                yield Chunk(text, stop=self._end, temperature=self.temperature)
                return
            if text:
                yield Chunk(text, temperature=self.temperature)

    async def _next(self) -> str:
        """More of the answer: what was kept back, or else what comes."""
        if self._rest or self._end is not None:
            rest, self._rest = self._rest, ""
            return rest
        delta = await anext(self._deltas, None)
        if delta is None:
            raise EngineError("the server's answer broke off in the middle; is the server still running?")
        if delta.finish is None:
            return delta.text
        self._end = end_reason(delta.finish, self._limits)
        return delta.text + self._taken_out(delta)

    def _taken_out(self, delta: Delta) -> str:
        """The stop string that the server took out: the one it names, or that of the tag which is still open."""
        text = self.text + delta.text
        if delta.finish != "stop" or any(text.endswith(stop) for stop in self._stops):
            return ""
        if delta.stop_string is not None:
            return delta.stop_string
        closing = open_tag(text)
        return closing if closing in self._stops and closing is not None else ""


class ChatAnswers:
    """The answers that are not given out to their end yet, by trajectory."""

    def __init__(self) -> None:
        self._waiting: dict[str, Answer] = {}
        self._warned = False

    async def take(self, request: Request) -> Answer | None:
        """The answer that a request goes on with; None if a new one has to be asked for.

        Raises:
            EngineError: The assistant's turn has begun, and its answer is not here.
        """
        answer = self._waiting.pop(request.trajectory_id, None)
        written = written_last(request.segments)
        if answer is not None and written and answer.text == written:
            self._warn(answer, request.temperature)
            return answer
        if answer is not None:
            await answer.aclose()
        if written:
            raise EngineError(
                "the server cannot go on with an answer that has begun (style chat); "
                "continue such a trajectory on a local model, or on a vLLM server"
            )
        return None

    async def spans(self, request: Request, answer: Answer) -> AsyncGenerator[Chunk, None]:
        """Give out one span; what lies behind it waits for the next request."""
        kept = False
        try:
            async with aclosing(answer.span(request)) as chunks:
                async for chunk in chunks:
                    kept = chunk.stop == "stop" and chunk.stop_string not in {ANSWER_CLOSE, CODE_CLOSE}
                    if kept:
                        self._waiting[request.trajectory_id] = answer
                    yield chunk
        finally:
            if not kept:
                await answer.aclose()

    async def drop(self, trajectory_id: str) -> None:
        """Forget the answer of a trajectory."""
        answer = self._waiting.pop(trajectory_id, None)
        if answer is not None:
            await answer.aclose()

    async def aclose(self) -> None:
        """Forget all."""
        for trajectory_id in list(self._waiting):
            await self.drop(trajectory_id)

    def _warn(self, answer: Answer, temperature: float) -> None:
        if answer.temperature != temperature and not self._warned:
            self._warned = True
            log.warning(
                "the server cannot continue a message (style chat), so code is sampled at the temperature of the text, "
                "which is what the records say; set both to the same, or use a vLLM server"
            )
