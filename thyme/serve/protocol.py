"""What a chat completion request may say. Fields that are not named here are ignored, as clients send many."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from thyme.config.rollout import Temperature
from thyme.serve.refusal import Refusal

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_StopString = Annotated[str, Field(max_length=1000)]
_KIND = re.compile(r"str|bool|(list|literal)\[.*")
"""What pydantic adds to a place to say which of several kinds it tried there."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Message(BaseModel):
    """One turn; `thyme.serve.conversation` reads its content."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(BaseModel):
    """How to stream."""

    include_usage: bool | None = None


class ThymeOptions(BaseModel):
    """Thyme's own wishes. Unlike in the rest of the request, an unknown field is an error: nobody else sends these."""

    model_config = ConfigDict(extra="forbid")

    trajectory: bool | Literal["images"] = False
    """Whether the answer brings the whole record, and its pictures as data URLs."""
    max_rounds: Annotated[int, Field(ge=0)] | None = None
    tools: bool | None = None
    text_temperature: Temperature | None = None
    code_temperature: Temperature | None = None
    max_tokens: PositiveInt | None = None
    """As the request's own, but never raised."""
    seed: Seed | None = None


class ChatRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    temperature: Temperature | None = None
    seed: Seed | None = None
    stop: Annotated[list[_StopString] | None, Field(max_length=16), BeforeValidator(_listed)] = None
    """A single string is taken as a list of one."""
    include_reasoning: bool | None = None
    thyme: ThymeOptions | None = None

    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None
    function_call: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    audio: Any = None
    modalities: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end the answer."""
        return tuple(filter(None, self.stop or ()))


def read_request(body: bytes | bytearray) -> ChatRequest:
    """Read a request's body.

    Raises:
        Refusal: It is not JSON, lacks what is needed, or asks for something that an agent does not give.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        fault = max(faults, key=lambda fault: len(fault["loc"]))  # of several kinds tried, the one that went furthest
        if fault["type"] == "json_invalid":
            raise Refusal(400, f"the body is not JSON: {fault['msg'][:300]}", code="invalid_json") from None
        param = _path(fault["loc"])
        raise Refusal(400, f"{param}: {fault['msg'][:300]}", code="invalid_value", param=param) from None
    for param, wanted, why in _unsupported(request):
        if wanted:
            raise Refusal(400, f"{param}: {why}", code="unsupported_value", param=param)
    return request


def _path(location: tuple[int | str, ...]) -> str:
    """A place in the body as OpenAI writes it: ``messages[0].content``."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not _KIND.fullmatch(step):
            path += f".{step}"
    return path.removeprefix(".")[:200] or "body"


def _unsupported(request: ChatRequest) -> tuple[tuple[str, bool, str], ...]:
    """Field, whether the request really uses it, and why it cannot be had."""
    no_tools = "the server runs the model's code itself and calls no tools of clients; leave it out"
    kind = (request.response_format or {}).get("type", "text")
    return (
        ("n", request.n not in {None, 1}, "one answer a request; send several requests with different seeds"),
        ("tools", bool(request.tools), no_tools),
        ("functions", bool(request.functions), no_tools),
        ("tool_choice", request.tool_choice not in (None, "none", "auto"), no_tools),
        ("function_call", request.function_call not in (None, "none", "auto"), no_tools),
        ("logprobs", bool(request.logprobs), "not given here; ask for the trajectory: thyme = {'trajectory': true}"),
        ("top_logprobs", bool(request.top_logprobs), "not given here"),
        ("audio", bool(request.audio), "answers are text"),
        ("modalities", bool(set(map(str, request.modalities or ())) - {"text"}), "answers are text"),
        ("response_format", kind != "text", "answers are free text; say in the question how they should look"),
    )
