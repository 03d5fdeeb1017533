"""A span while a server sends it: where it ends, to the character and to the token.

A server that stops at a string cuts its text there, but the token that completed the string may carry more text. That
overhang belongs to the span wherever ids are reported: the decoding of the ids is the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from thyme.engines.base import Chunk, ChunkStop, Request, written_last
from thyme.engines.openai_stream import Delta, Token
from thyme.engines.span_text import SpanText
from thyme.errors import EngineError
from thyme.families import Family


class Reader(Protocol):
    """Makes the chunks of a span of what a server sends."""

    def feed(self, delta: Delta) -> Chunk | None:
        """Take what came; None if nothing comes of it. With a stop set, the span is over."""
        ...


@dataclass(slots=True)
class Limits:
    """What a request was bounded by. `capped` may turn true until the first token comes."""

    max_tokens: int
    """Tokens that were wanted."""
    capped: bool = False
    """Whether fewer were asked for, because the context leaves no more room."""
    logprobs: bool = False
    """Whether log-probs that come are those of logits / tau."""


class StringWatch:
    """Looks for stop strings and blocked strings in text as it comes."""

    def __init__(self, stop: Sequence[str], blocked: Sequence[str] = ()) -> None:
        """Start a span.

        Args:
            stop: Strings that end it.
            blocked: Strings that must not be written.
        """
        self._stop, self._blocked = tuple(stop), tuple(blocked)
        self._reach = max(map(len, (*self._stop, *self._blocked)), default=1) - 1
        self._tail = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Take text.

        Returns:
            What of it belongs to the span, and the stop string that ends it there (the first to end, if several).

        Raises:
            EngineError: A blocked string was written.
        """
        window = self._tail + text
        ends = [(window.find(string) + len(string), string) for string in self._stop if string in window]
        end, stop = min(ends, default=(len(window), None))
        for string in self._blocked:
            if string in window[:end]:
                raise blocked_error(string)
        kept = window[len(self._tail) : end]
        self._tail = window[-self._reach :] if self._reach else ""
        return kept, stop


def blocked_error(string: str) -> EngineError:
    """The error for a blocked string that was written all the same."""
    return EngineError(
        f"the model wrote {string}, which is not allowed here, and the server could not keep it from that; "
        "use a vLLM server or a local model where strings must be blocked"
    )


def split_error() -> EngineError:
    """The error for a server that takes text out of the answer."""
    return EngineError(
        "the server splits the model's reasoning off its answer; start it without a reasoning parser "
        "(vLLM and SGLang: without --reasoning-parser)"
    )


class TextReader:
    """Reads a span whose tokenizer is not at hand."""

    def __init__(self, request: Request, limits: Limits, *, with_ids: bool) -> None:
        """Start a span.

        Args:
            request: Its stop and blocked strings, and how many tokens were asked for.
            limits: What else bounds it.
            with_ids: Whether ids are passed on; it takes a server that tells the text of every token.
        """
        self._watch = StringWatch(request.stop, request.blocked)
        self._limits, self._with_ids = limits, with_ids
        self._text, self._tokens = "", 0
        self._last: Token | None = None

    def feed(self, delta: Delta) -> Chunk | None:
        """Take what came.

        Raises:
            EngineError: It is not what was asked for, or the server ended the span for a reason of its own.
        """
        if delta.reasoning:
            raise split_error()
        self._tokens += len(delta.token_ids)
        self._last = delta.tokens[-1] if delta.tokens else self._last
        text, stop = self._watch.feed(delta.text)
        reason: ChunkStop | None = "stop" if stop is not None else None
        if stop is None and delta.finish is not None:
            if delta.stop_string is not None:  # taken out by the server, and so put back
                more, stop = self._watch.feed(delta.stop_string)
                text += more
            reason = "stop" if stop is not None else end_reason(delta.finish, self._limits, self._tokens)
        self._text += text
        if stop is not None and self._with_ids:
            text += overhang(self._text, self._last)
        ids = delta.token_ids if self._with_ids else ()
        logprobs = _logprobs(delta, ids, self._limits)
        return Chunk(text, ids, logprobs, reason, stop) if text or ids or reason else None


class TokenReader:
    """Reads a span by its ids, exactly as a local engine would; the server's own text is not looked at."""

    def __init__(self, request: Request, limits: Limits, family: Family) -> None:
        """Start a span.

        Args:
            request: Its stop and blocked strings, and the text before it.
            limits: What else bounds it.
            family: The served model's tokenizer.
        """
        self._text = SpanText(
            family.token_bytes, stop=request.stop, blocked=request.blocked, before=written_last(request.segments)
        )
        self._blocked, self._limits, self._vocabulary = request.blocked, limits, len(family.token_bytes)
        self._tokens = 0

    def feed(self, delta: Delta) -> Chunk | None:
        """Take what came.

        Raises:
            EngineError: It is not what was asked for, or the server ended the span for a reason of its own.
        """
        if (delta.text or delta.reasoning) and not (self._tokens or delta.token_ids):
            raise split_error() if delta.reasoning else EngineError("the server left the token ids out of its answer")
        self._tokens += len(delta.token_ids)
        texts: list[str] = []
        stop: str | None = None
        for used, token in enumerate(delta.token_ids, 1):
            text, stop = self._push(token)
            texts.append(text)
            if stop is not None:
                delta = Delta(token_ids=delta.token_ids[:used], tokens=delta.tokens[:used])
                break
        reason: ChunkStop | None = "stop" if stop is not None else None
        if stop is None and delta.finish is not None:
            if delta.stop_string is not None:
                raise EngineError(
                    f"the server stopped at {delta.stop_string!r}, which the tokenizer of engine.openai.tokenizer does "
                    "not find in the tokens; name the checkpoint that is served"
                )
            reason = end_reason(delta.finish, self._limits, self._tokens)
        if reason is not None:
            texts.append(self._text.flush())
        ids = delta.token_ids
        logprobs = _logprobs(delta, ids, self._limits)
        return Chunk("".join(texts), ids, logprobs, reason, stop) if ids or reason else None

    def _push(self, token: int) -> tuple[str, str | None]:
        if token >= self._vocabulary:
            raise EngineError(
                f"the server wrote token {token}, and the tokenizer of engine.openai.tokenizer has "
                f"{self._vocabulary}; name the checkpoint that is served"
            )
        if self._text.completes_blocked(token):
            raise blocked_error(" or ".join(self._blocked))
        return self._text.push(token)


def overhang(text: str, last: Token | None) -> str:
    """What the last token carries beyond the end of a text that was cut inside it; nothing where that is not known.

    Args:
        text: Ends with the stop string.
        last: The token that completed it.
    """
    if last is None:
        return ""
    inside = next((size for size in range(len(last.text), 0, -1) if text.endswith(last.text[:size])), None)
    return "" if inside is None else last.text[inside:]


def _logprobs(delta: Delta, ids: Sequence[int], limits: Limits) -> tuple[float, ...]:
    """One for each id, or none."""
    return tuple(token.logprob for token in delta.tokens) if limits.logprobs and len(delta.tokens) == len(ids) else ()


def end_reason(finish: str, limits: Limits | None = None, tokens: int = 0) -> ChunkStop:
    """Why a span ended, if not at a stop string.

    Args:
        finish: The server's word for it.
        limits: What bounded it.
        tokens: How many came; 0 where that is not known. A server may end a span early because its context is full.

    Raises:
        EngineError: The server ended it for a reason of its own.
    """
    if finish in {"stop", "end_turn", "eos"}:
        return "end"
    if finish == "length":
        return "context" if limits is not None and (limits.capped or 0 < tokens < limits.max_tokens) else "length"
    raise EngineError(f"the server ended the answer because of '{finish}'; ask in another way, or another server")
