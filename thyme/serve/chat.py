"""``POST /v1/chat/completions``: reads the request, has it answered, writes the reply."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from thyme.events import Event, FinishedEvent
from thyme.sandbox.server.bodies import read_body
from thyme.sandbox.server.refusal import Refusal as BodyRefusal
from thyme.serve.answer import AnswerReader
from thyme.serve.completion import Job, as_json, chosen_seed, completion, failure, rollout_config
from thyme.serve.conversation import Asked, read_conversation
from thyme.serve.pictures import read_images
from thyme.serve.protocol import ChatRequest, read_request
from thyme.serve.refusal import Refusal
from thyme.serve.runtime import AgentRuntime
from thyme.serve.streaming import Events, EventStream
from thyme.serve.waiting import ClientGoneError, unless_gone, with_pauses
from thyme.types import Problem, Trajectory

_CLOSED_REQUEST = 499
"""What nginx calls a request whose client went away; nobody reads it but logs."""
_PATIENCE_S = 5.0


class Chat:
    """Answers chat completions."""

    def __init__(self, runtime: AgentRuntime) -> None:
        """Answer with `runtime`."""
        self._runtime, self._config = runtime, runtime.config
        self._decoding = asyncio.Semaphore(self._config.uploads)

    async def reply(self, request: Request) -> Response:
        """The response to a request; of a stream it is the beginning.

        Raises:
            Refusal: It is not answered.
        """
        try:
            with self._runtime.arriving():
                job = await self._job(request)
            return await (self._streamed if job.request.stream else self._whole)(job, request)
        except (ClientDisconnect, ClientGoneError):
            self._runtime.metrics.disconnects.inc()
            return Response(status_code=_CLOSED_REQUEST)

    async def _job(self, request: Request) -> Job:
        """Read a request; large ones are decoded in turn, as each takes several times its length in memory."""
        body = await self._body(request)
        async with self._decoding:
            chat = await asyncio.to_thread(read_request, body)
        del body
        self._refuse_other_model(chat)
        asked = read_conversation(chat.messages)
        self._refuse_unfit(asked)
        rollout = rollout_config(chat, self._config)
        images = await read_images(asked.images, self._config, self._decoding)
        problem = Problem(id="request", question=asked.question, images=images)
        # The pixels live on in the problem; the text of the request, in which they stood, is let go.
        chat = chat.model_copy(update={"messages": []})
        return Job(chat, problem, rollout, chosen_seed(chat, rollout), self._runtime.model_name)

    def _refuse_unfit(self, asked: Asked) -> None:
        if (length := len(asked.question)) > self._config.max_text_chars:
            message = (
                f"the text has {length} characters, more than the limit of {self._config.max_text_chars}; shorten it"
            )
            raise Refusal(400, message, code="text_too_long", param="messages")
        if self._config.images_required and not asked.images:
            message = "there is no image, and this server answers questions about images only; send one"
            raise Refusal(400, message, code="no_image", param="messages")

    async def _body(self, request: Request) -> bytearray:
        form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if form != "application/json":  # a page of elsewhere can send others without being asked
            raise Refusal(415, "the body must be JSON: content-type: application/json", code="content_type")
        try:
            return await read_body(request, self._config.max_body_mb << 20, self._config.upload_s)
        except BodyRefusal as refusal:
            await _discard_rest(request)
            raise Refusal(refusal.status, refusal.message, code=refusal.code) from None

    def _refuse_other_model(self, chat: ChatRequest) -> None:
        if chat.model is not None and chat.model != self._runtime.model_name:
            raise unknown_model(chat.model, self._runtime.model_name)

    async def _whole(self, job: Job, request: Request) -> Response:
        reader, trajectory = await unless_gone(request.receive, self._finished(job))
        if (refusal := failure(trajectory)) is not None:
            raise refusal
        body = await asyncio.to_thread(lambda: as_json(completion(job, reader, trajectory)))
        return Response(body, media_type="application/json")

    async def _finished(self, job: Job) -> tuple[AnswerReader, Trajectory]:
        reader = AnswerReader(job.request.stops)
        events = self._runtime.events(job.problem, job.rollout, seed=job.seed, trajectory_id=job.id)
        async with aclosing(events):
            async for event in events:
                reader.feed(event)
                if isinstance(event, FinishedEvent):
                    trajectory = event.trajectory
        reader.close()
        return reader, trajectory

    async def _streamed(self, job: Job, request: Request) -> Response:
        """The stream begins with the first event or the first pause; what fails before has a status of its own."""
        events = self._runtime.events(job.problem, job.rollout, seed=job.seed, trajectory_id=job.id)
        following = with_pauses(events, self._config.keep_alive_s)
        first = await unless_gone(request.receive, _first(following))
        if isinstance(first, FinishedEvent) and (refusal := failure(first.trajectory)) is not None:
            await following.aclose()
            raise refusal
        return EventStream(job, first, following, self._runtime.metrics, self._config.keep_alive_s)


async def _discard_rest(request: Request) -> None:
    """Let a client finish sending, for a moment: one whose connection is closed before never reads the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while (await request.receive()).get("more_body"):
                pass


async def _first(events: Events) -> Event | None:
    return await anext(events)


def unknown_model(name: str, served: str) -> Refusal:
    """The refusal of a model that is not served here."""
    message = f"there is no model {name[:100]!r} here; this server has {served!r}"
    return Refusal(404, message, code="model_not_found", param="model")
