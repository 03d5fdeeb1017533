"""What a server's refusal means, and the way out of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thyme.errors import ContextFullError, EngineError, ModelNotFoundError, ThymeError

KEY_VARIABLES = ("THYME_API_KEY", "OPENAI_API_KEY")
"""Environment variables that the API key is taken from; the first that is set counts."""

MAX_QUOTED = 300
"""Longest part of a server's message that is quoted, characters."""
MAX_NAMES = 20
"""Most names of models in a message."""

_CONTEXT = re.compile(
    r"context.{0,3}length|maximum context|context window|context_length_exceeded|too many tokens"
    r"|longer than the model|prompt is too long|max_model_len|input (is )?too long",
    re.IGNORECASE,
)
_NO_VISION = re.compile(
    r"not a multimodal|does not support (image|vision|multimodal)|image.{0,40}not supported|support.{0,20}image input"
    r"|unknown variant .?image_url|no vision|text-only|multimodal.{0,30}not (supported|enabled)",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"\bimages?\b|image_url|\bpixels?\b|multimodal|multi-modal", re.IGNORECASE)
POLICY = re.compile(
    r"content.{0,3}(filter|policy|management)|safety|moderation|flagged|inappropriate|policy violation", re.IGNORECASE
)
"""What providers say who do not want to answer this."""
_INPUT_TOKENS = (
    re.compile(r"prompt contains (?:at least )?(\d+)"),
    re.compile(r"\((\d+) in the (?:messages|prompt)"),
    re.compile(r"resulted in (\d+) tokens"),
)


class NoVisionError(EngineError):
    """The model reads no images."""


class ImageRefusedError(EngineError):
    """The server does not take an image as it is."""


class BusyError(EngineError):
    """The server has no time, cannot be reached, or broke off: it says nothing of what it can do."""


class RefusedFieldError(EngineError):
    """The server does not take the request as it is (400, 422)."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked, as messages and records may name it."""

    url: str
    """Base URL, which holds no credentials."""
    key: str | None = None
    """Never shown."""
    model: str = ""
    served: tuple[str, ...] = ()
    """Models that it offers, as far as known."""

    def __str__(self) -> str:
        return self.url

    __repr__ = __str__

    def quote(self, message: str) -> str:
        """A message of the server, short, on one line, and without the key."""
        text = " ".join(message.split())
        text = text.replace(self.key, "***") if self.key else text
        return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"


def error_message(body: Mapping[str, Any] | None, text: str) -> str:
    """The message in an error's body, in any of the shapes that servers use."""
    if body is None:
        return text
    error = body.get("error", body)
    if isinstance(error, Mapping):
        parts = [error.get("message") or error.get("detail") or "", error.get("code") or ""]
        return " ".join(str(part) for part in parts if part and not isinstance(part, int)) or text
    return str(error)


def input_tokens(message: str) -> int | None:
    """How many tokens a refusal for a full context says the input has."""
    found = next((match for pattern in _INPUT_TOKENS if (match := pattern.search(message))), None)
    return None if found is None else int(found.group(1))


def passes(status: int) -> bool:
    """Whether a status may be another the next time. 501 and 505 say what a server can do, and stay."""
    return status in {408, 409, 425, 429} or (status >= 500 and status not in {501, 505})


def refusal(server: Server, status: int, message: str) -> ThymeError:
    """The error for an answer that is none.

    Args:
        server: Who answered.
        status: HTTP status, 300 or more.
        message: What it said.
    """
    said = f"{server} said: {server.quote(message)}" if message.strip() else f"{server} answered with status {status}"
    if status == 403 and POLICY.search(message):  # as OpenRouter says it
        return RefusedFieldError(f"the request was refused ({said})")
    if status in {401, 403}:
        return EngineError(f"{_key_refused(server)} ({said})")
    if status == 404:
        return _not_found(server, message, said)
    if status in {400, 413, 422}:
        return _bad_request(message, said)
    if status == 429:
        return BusyError(f"{server} has no room for more requests, or the account's quota is used up ({said})")
    if status < 400:
        return EngineError(
            f"{server} leads elsewhere (status {status}: {server.quote(message)}), to a login page for instance; "
            "give the URL of the API itself, which usually ends with /v1"
        )
    kind = BusyError if passes(status) and status != 500 else EngineError  # 500: the request itself may be why
    return kind(f"the model could not be asked: status {status}, {said}")


def unknown_model(server: Server, model: str) -> ModelNotFoundError:
    """The error for a name that the server does not offer; lists the ones it does, the most similar first."""
    if not server.served:
        return ModelNotFoundError(f"{server} offers no model '{model}'; give another name behind the # of URL#NAME")
    return ModelNotFoundError(f"{server} offers no model '{model}'; it offers {name_models(server.served, model)}")


def name_models(served: Sequence[str], model: str = "") -> str:
    """A list of models for a message."""
    close = difflib.get_close_matches(model, served, n=MAX_NAMES, cutoff=0.4)
    names = list(dict.fromkeys([*close, *served]))
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _key_refused(server: Server) -> str:
    if server.key is None:
        return f"{server} wants an API key; put it into the environment as {KEY_VARIABLES[0]}"
    return f"{server} refuses the API key from {' or '.join(KEY_VARIABLES)}, or it may not use this model"


def _not_found(server: Server, message: str, said: str) -> ThymeError:
    if "model" in message.lower():
        error = unknown_model(server, server.model)
        return ModelNotFoundError(f"{error} ({said})")
    return EngineError(
        f"{server} has no chat/completions; is it an OpenAI-compatible server, and does the URL end with /v1? ({said})"
    )


def _bad_request(message: str, said: str) -> ThymeError:
    if _CONTEXT.search(message):
        return ContextFullError(f"the request does not fit into the model's context; show smaller images ({said})")
    if _NO_VISION.search(message):
        return NoVisionError(f"the model reads no images; name one that does ({said})")
    if _IMAGE.search(message):
        return ImageRefusedError(
            f"an image was refused; set engine.max_pixels to send smaller ones, or raise the server's limits ({said})"
        )
    return RefusedFieldError(f"the request was refused; engine.openai.extra can add fields or take them out ({said})")
