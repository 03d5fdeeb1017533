"""What an OpenAI-compatible server sends: server-sent events, and the answers in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thyme.errors import EngineError

DONE = "[DONE]"


class EventParser:
    """Splits a stream of bytes into the data of its server-sent events, however the bytes are cut.

    Comments (keep-alives) and fields other than ``data`` are passed over. Lines end with LF or CR LF.
    """

    def __init__(self) -> None:
        self._line = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """Take the next bytes; the data of the events that are whole now."""
        *lines, self._line = (self._line + piece).split(b"\n")
        events = []
        for line in lines:
            text = line.removesuffix(b"\r").decode("utf-8", "replace")
            if text.startswith("data:"):
                self._data.append(text.removeprefix("data:").removeprefix(" "))
            elif not text and self._data:
                events.append("\n".join(self._data))
                self._data = []
        return events

    def end(self) -> list[str]:
        """The data of an event that the stream ended in, if it did."""
        return self.feed(b"\n\n")


@dataclass(frozen=True, slots=True)
class Token:
    """One token as a server describes it beside its log-probability."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event brings, or a whole answer that was not streamed."""

    text: str = ""
    reasoning: str = ""
    """Text that the server took out of the answer and calls reasoning."""
    token_ids: tuple[int, ...] = ()
    tokens: tuple[Token, ...] = ()
    """Empty where no log-probs were asked for."""
    prompt_ids: tuple[int, ...] = ()
    """What the server read; once, in the first event."""
    finish: str | None = None
    """``stop``, ``length``, ``content_filter``, ..."""
    stop_string: str | None = None
    """The stop string that was hit, where the server says so; it is not part of the text."""
    usage: tuple[int, int] | None = None
    """Prompt and completion tokens, where the server counts them."""

    @property
    def carries(self) -> bool:
        """Whether it brings a token."""
        return bool(self.text or self.reasoning or self.token_ids)


def parse_json(data: str | bytes, server: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        EngineError: It is none, so this is no OpenAI-compatible server.
    """
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise EngineError(
            f"{server} answered with something that is not JSON; is it an OpenAI-compatible server, "
            "and does the URL end with /v1?"
        )
    return content


def parse_delta(event: Mapping[str, Any]) -> Delta:
    """Read an event of a stream, or a whole answer.

    vLLM names the stop string ``stop_reason``, SGLang ``matched_stop``; both give a number where it was a token.
    """
    prompt_ids = tuple(event.get("prompt_token_ids") or ())
    if not (choices := event.get("choices")):
        return Delta(prompt_ids=prompt_ids, usage=_usage(event))
    choice = choices[0]
    message = choice.get("delta") or choice.get("message") or {}
    logprobs = (choice.get("logprobs") or {}).get("content") or ()
    named = choice.get("stop_reason", choice.get("matched_stop"))
    return Delta(
        text=message.get("content") or "",
        reasoning=message.get("reasoning_content") or message.get("reasoning") or "",
        token_ids=tuple(choice.get("token_ids") or ()),
        tokens=tuple(Token(token["token"], token["logprob"]) for token in logprobs),
        prompt_ids=prompt_ids or tuple(choice.get("prompt_token_ids") or ()),
        finish=choice.get("finish_reason"),
        stop_string=named if isinstance(named, str) else None,
        usage=_usage(event),
    )


def _usage(event: Mapping[str, Any]) -> tuple[int, int] | None:
    counts = event.get("usage")
    if not isinstance(counts, Mapping):
        return None
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None
