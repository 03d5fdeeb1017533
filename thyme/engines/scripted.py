"""An engine that writes what it is told to: the shipped fake for tests, demonstrations and pages.

It keeps no state between requests. What it says next follows from the trajectory alone: the number of observations
picks the continuation, the text generated since the last one says how far into it the trajectory is. So one script
serves any number of trajectories at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from thyme.engines.base import Capabilities, Chunk, ChunkStop, EngineInfo, Request, seen_images, written_last
from thyme.errors import ContextFullError, ScriptExhaustedError, ThymeError
from thyme.markup import observation_parts, observation_text
from thyme.types import Execution, Fingerprints, Generated, ImageRecord, Observation, Prompt

Continuation = str | ThymeError
"""What the model writes from one observation to the next, or the error it raises instead."""
Script = Sequence[Continuation] | Mapping[str, Sequence[Continuation]] | Callable[[Request], Sequence[Continuation]]
"""Continuations; or those by a string found in the user turn (the question, say); or a function of the request."""


class ScriptedEngine:
    """Streams a script, honouring stop strings, blocked strings and token limits.

    A token is a piece of up to `token_chars` characters, and every token is one chunk.
    """

    def __init__(
        self,
        script: Script,
        *,
        capabilities: Capabilities = Capabilities(token_ids=True, logprobs=True),  # noqa: B008 - frozen
        token_chars: int = 4,
        whole_tokens: bool = False,
        image_tokens: int = 4,
        max_side: int | None = None,
        delay_s: float = 0.0,
        name: str = "scripted",
        prompts: str | None = None,
    ) -> None:
        """Set up the engine.

        Args:
            script: What to say.
            capabilities: Claimed, and kept: ids, log-probs and `max_context` are only there if they say so.
            token_chars: Most characters in a token.
            whole_tokens: A token that completes a stop string may reach beyond it, as real ones do; by default the text
                ends exactly with the string.
            image_tokens: Placeholder tokens an image.
            max_side: Longer sides are halved until they fit, pixels; None shows images as they are.
            delay_s: Seconds between tokens.
            name: Name in `info`.
            prompts: Folder of prompt files that this "checkpoint" brings.
        """
        self._script = script
        self._capabilities = capabilities
        self._token_chars, self._whole_tokens, self._image_tokens = token_chars, whole_tokens, image_tokens
        self._max_side, self._delay_s, self._name, self._prompts = max_side, delay_s, name, prompts
        self._vocabulary: dict[str, int] = {}
        self.requests: list[Request] = []
        """Every request, in the order of arrival."""
        self.released: list[str] = []
        """Trajectories that were released, in order."""
        self.running = 0
        """Streams that are open now."""

    @property
    def info(self) -> EngineInfo:
        """Name, capabilities, fingerprints."""
        fingerprints = Fingerprints(model="scripted", tokenizer="scripted" if self._capabilities.token_ids else "")
        return EngineInfo(self._name, self._capabilities, fingerprints, self._prompts)

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels, halved until no side is longer than `max_side`."""
        while self._max_side is not None and max(width, height) > self._max_side:
            width, height = max(1, width // 2), max(1, height // 2)
        return width, height

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """Make the prompt record.

        Raises:
            ContextFullError: It does not fit.
        """
        ids = self._encode((system, user, *images))
        limit = self._capabilities.max_context
        if limit is not None and len(ids) >= limit:
            raise ContextFullError(f"the prompt has {len(ids)} tokens, the model reads {limit}; shorten the question")
        return Prompt(
            system=system,
            user=user,
            images=seen_images(images, self.seen_size),
            token_ids=ids if self._capabilities.token_ids else (),
        )

    def observation(self, execution: Execution) -> Observation:
        """Render a sandbox result as the model will read it."""
        return Observation(
            execution=execution,
            text=observation_text(execution),
            token_ids=self._encode(observation_parts(execution)) if self._capabilities.token_ids else (),
            seen_sizes=tuple(self.seen_size(*image.size) for image in execution.images),
        )

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Generate one span.

        Raises:
            ScriptExhaustedError: The script holds nothing for this place.
            ContextFullError: There is no room for one more token.
        """
        self.requests.append(request)
        self.running += 1
        try:
            span = _cut(self._remaining(request), request.stop)
            tokens = self._tokens(span)
            room, stop_at_room = self._room(request)
            for index, text in enumerate(tokens[:room]):
                await asyncio.sleep(self._delay_s)
                last = index + 1 == len(tokens[:room])
                stop = None if not last else span.stop if len(tokens) <= room else stop_at_room
                yield self._chunk(text, stop, span.stop_string if stop == "stop" else None)
            if not tokens:
                yield Chunk("", stop="end")
        finally:
            self.running -= 1

    async def release(self, trajectory_id: str) -> None:
        """Note that a trajectory was released."""
        self.released.append(trajectory_id)

    async def aclose(self) -> None:
        """Nothing to free."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids that this engine gave out; image placeholders (id 0) are left out."""
        pieces = {index: piece for piece, index in self._vocabulary.items()}
        return "".join(pieces[index] for index in token_ids if index)

    def _remaining(self, request: Request) -> str:
        """What is left of the continuation that the trajectory is in."""
        script = self._continuations(request)
        index = sum(isinstance(segment, Observation) for segment in request.segments)
        if index >= len(script):
            raise ScriptExhaustedError(f"the script has {len(script)} continuations; number {index + 1} was asked for")
        continuation = script[index]
        if isinstance(continuation, ThymeError):
            raise continuation
        for blocked in request.blocked:
            while blocked in continuation:  # what is left may be one again: "<co<code>de>"
                continuation = continuation.replace(blocked, "")
        return continuation[len(written_last(request.segments)) :]

    def _continuations(self, request: Request) -> Sequence[Continuation]:
        if callable(self._script):
            return self._script(request)
        if not isinstance(self._script, Mapping):
            return self._script
        matches = [key for key in self._script if key in request.prompt.user]
        if not matches:
            raise ScriptExhaustedError(f"no script for this user turn; there are {list(self._script)}")
        return self._script[max(matches, key=len)]

    def _room(self, request: Request) -> tuple[int, ChunkStop]:
        """Tokens that may still be written, and what ends the span when they are used up."""
        limit = self._capabilities.max_context
        if limit is None:
            return request.max_tokens, "length"
        used = len(self._encode((request.prompt.system, request.prompt.user)))
        used += self._image_tokens * len(request.prompt.images)
        used += sum(len(self._segment_ids(segment)) for segment in request.segments)
        if used >= limit:
            raise ContextFullError(f"{used} of {limit} tokens are used")
        left = limit - used
        return (request.max_tokens, "length") if request.max_tokens <= left else (left, "context")

    def _segment_ids(self, segment: Generated | Observation) -> tuple[int, ...]:
        if isinstance(segment, Observation):
            return segment.token_ids or self._encode(observation_parts(segment.execution))
        return segment.token_ids or self._encode((segment.text,))

    def _tokens(self, span: _Cut) -> list[str]:
        width = self._token_chars
        # A token that completes a stop string may reach into what would have come after it.
        end = -(-len(span.text) // width) * width if self._whole_tokens else len(span.text)
        return [span.source[start : min(start + width, end)] for start in range(0, min(end, len(span.source)), width)]

    def _encode(self, parts: Sequence[str | ImageRecord]) -> tuple[int, ...]:
        ids: list[int] = []
        for part in parts:
            if isinstance(part, ImageRecord):
                ids += [0] * self._image_tokens
            else:
                width = self._token_chars
                ids += [self._id(part[start : start + width]) for start in range(0, len(part), width)]
        return tuple(ids)

    def _id(self, piece: str) -> int:
        return self._vocabulary.setdefault(piece, len(self._vocabulary) + 1)

    def _chunk(self, text: str, stop: ChunkStop | None, stop_string: str | None) -> Chunk:
        ids = (self._id(text),) if self._capabilities.token_ids else ()
        logprobs = (-0.5,) if self._capabilities.logprobs else ()
        return Chunk(text, ids, logprobs, stop, stop_string)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A span of the script, and why it ends."""

    source: str
    text: str
    stop: ChunkStop
    stop_string: str | None


def _cut(source: str, stops: Sequence[str]) -> _Cut:
    """The text up to and with the stop string that is completed first."""
    ends = [(source.find(stop) + len(stop), stop) for stop in stops if stop in source]
    if not ends:
        return _Cut(source, source, "end", None)
    end, stop_string = min(ends)
    return _Cut(source, source[:end], "stop", stop_string)
