"""One chat completion in the making: from a request to a job, from a trajectory to a reply."""

from __future__ import annotations

import base64
import io
import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from thyme.config.rollout import RolloutConfig
from thyme.config.serve import ServeConfig
from thyme.serve.answer import AnswerReader
from thyme.serve.protocol import ChatRequest
from thyme.serve.refusal import Refusal
from thyme.types import ImageRecord, Problem, StopReason, Trajectory

_STATUS = {"engine": 502, "sandbox": 503, "prompt": 500}
"""HTTP status by what failed."""


@dataclass(frozen=True)
class Job:
    """What a request comes to."""

    request: ChatRequest
    problem: Problem
    rollout: RolloutConfig
    seed: int
    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""

    @property
    def reasoning(self) -> bool:
        """Whether the client wants to see more than the answer."""
        return bool(self.request.include_reasoning)

    def head(self, kind: Literal["chat.completion", "chat.completion.chunk"]) -> dict[str, Any]:
        """What every object of the reply begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def rollout_config(request: ChatRequest, config: ServeConfig) -> RolloutConfig:
    """The server's rollout with the request's wishes.

    Raises:
        Refusal: Thyme's own fields ask for more than the server allows.
    """
    own, wishes = config.rollout, request.thyme
    update: dict[str, Any] = {}
    if request.temperature is not None:
        update["text_temperature"] = request.temperature
    asked = request.max_completion_tokens or request.max_tokens
    if asked is not None:
        update["max_tokens"] = min(max(asked, config.min_tokens), own.max_tokens)
    if wishes is not None:
        given = wishes.model_dump(exclude={"trajectory", "seed"}, exclude_none=True)
        _refuse_more(given, own)
        update |= given
    return own.model_copy(update=update)


def _refuse_more(given: dict[str, Any], own: RolloutConfig) -> None:
    for name in ("max_rounds", "max_tokens"):
        if given.get(name, 0) > getattr(own, name):
            message = f"thyme.{name} = {given[name]} is more than this server's {getattr(own, name)}; ask for less"
            raise Refusal(400, message, code="invalid_value", param=f"thyme.{name}")
    if given.get("tools") and not own.tools:
        raise Refusal(400, "this server runs no code", code="invalid_value", param="thyme.tools")


def chosen_seed(request: ChatRequest, rollout: RolloutConfig) -> int:
    """The seed asked for, or else one of ours.

    Where the model is greedy it is 0, so that the same question gives the same answer; where it is not, it is drawn, so
    that several samples of one question differ.
    """
    wishes = request.thyme
    for seed in (None if wishes is None else wishes.seed, request.seed):
        if seed is not None:
            return seed
    greedy = rollout.text_temperature == rollout.code_temperature == 0
    return 0 if greedy else secrets.randbelow(2**31)


def failure(trajectory: Trajectory) -> Refusal | None:
    """Why there is no reply to speak of: engine or sandbox failed, or the question alone fills the context."""
    if trajectory.error is not None:
        error = trajectory.error
        return Refusal(_STATUS[error.where], f"the {error.where} failed: {error.message}", code=f"{error.where}_failed")
    if trajectory.stop is StopReason.CONTEXT and not trajectory.segments:
        message = "the question and its images do not fit into the model's context; shorten it, or send fewer images"
        return Refusal(400, message, code="context_length_exceeded", param="messages")
    return None


def finish_reason(stop: StopReason) -> Literal["stop", "length"]:
    """OpenAI's word: ``stop`` where the model ended, ``length`` where a bound or the loop detector ended it."""
    return "stop" if stop in {StopReason.ANSWER, StopReason.END} else "length"


def usage(trajectory: Trajectory) -> dict[str, int]:
    """Token counts: observations were read, not written, so they count as prompt. 0 where the engine does not know."""
    counts = trajectory.usage
    read = counts.prompt_tokens + counts.observation_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": counts.generated_tokens,
        "total_tokens": read + counts.generated_tokens,
    }


def completion(job: Job, reader: AnswerReader, trajectory: Trajectory) -> dict[str, Any]:
    """The body of a reply that is not streamed."""
    message = {"role": "assistant", "content": reader.content, "refusal": None}
    if job.reasoning:
        message["reasoning_content"] = reader.reasoning
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(trajectory.stop)}
    body = {**job.head("chat.completion"), "choices": [choice], "usage": usage(trajectory)}
    return body | side_field(job, trajectory)


def as_json(body: dict[str, Any]) -> str:
    """A body as it is sent: in ASCII, so that half of a surrogate pair, which a server may send us, is no failure."""
    return json.dumps(body, separators=(",", ":"))


def side_field(job: Job, trajectory: Trajectory) -> dict[str, Any]:
    """``thyme``: why it ended and how, and the record if it is wanted; nothing where the request did not say ``thyme``.

    Encodes pictures where they are asked for, so it may take a while.
    """
    wishes = job.request.thyme
    if wishes is None:
        return {}
    side: dict[str, Any] = {
        "stop": trajectory.stop.value,
        "rounds": trajectory.usage.rounds,
        "seed": trajectory.seed,
        "timings": trajectory.timings.model_dump(),
    }
    if wishes.trajectory:
        side["trajectory"] = json.loads(trajectory.model_dump_json())
    if wishes.trajectory == "images":
        side["images"] = data_urls(trajectory)
    return {"thyme": side}


def data_urls(trajectory: Trajectory) -> dict[str, str]:
    """The pictures of a trajectory, given and made, by id."""
    made = (image for observation in trajectory.observations for image in observation.execution.images)
    return {image.id: _data_url(image) for image in (*trajectory.problem.images, *made)}


def _data_url(image: ImageRecord) -> str:
    """A picture as it was sent, or else as PNG."""
    data, kind = image.encoded, image.format
    if data is None:
        buffer, kind = io.BytesIO(), "PNG"
        image.image.save(buffer, kind, compress_level=1)
        data = buffer.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
