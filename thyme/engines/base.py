"""The contract of an engine: something that goes on writing where a trajectory stands.

An engine knows nothing of rounds, tags or sandboxes. The agent asks it for one span at a time, with that span's
temperature and stop strings; what was generated before comes back in `Request.segments`, so an engine may be
stateless (an API) or keep a cache by `Request.trajectory_id` (local weights).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from thyme.types import Execution, Fingerprints, ImageRecord, Observation, Prompt, SeenImage, Segment

ChunkStop = Literal["stop", "end", "length", "context"]
"""Why a span ended: a stop string, the end of the turn, `max_tokens`, or a full context."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; probed, not guessed."""

    style: Literal["continue", "chat"] = "continue"
    """Whether the assistant turn is continued in place, or observations come as user turns."""
    token_ids: bool = False
    logprobs: bool = False
    images: bool = True
    streaming: bool = True
    max_context: int | None = None
    """Tokens; None where unknown."""


@dataclass(frozen=True, slots=True)
class Request:
    """One span to generate."""

    trajectory_id: str
    prompt: Prompt
    segments: Sequence[Segment] = ()
    """The assistant turn so far. Generation goes on where they end."""
    temperature: float = 0.0
    """tau of this span; 0 is greedy."""
    stop: tuple[str, ...] = ()
    """Strings that end the span; the token that completes one is the last of the span."""
    blocked: tuple[str, ...] = ()
    """Strings that must not be completed (``<code>`` where tools are off); the next best token is taken instead."""
    max_tokens: int = 1024
    seed: int | None = None
    """Seeds this span's draws; the same request with the same seed gives the same tokens. None: engine's choice."""


def written_last(segments: Sequence[Segment]) -> str:
    """What the model wrote since the last observation."""
    texts: list[str] = []
    for segment in reversed(segments):
        if isinstance(segment, Observation):
            break
        texts.append(segment.text)
    return "".join(reversed(texts))


def seen_images(
    images: Sequence[ImageRecord], seen_size: Callable[[int, int], tuple[int, int]]
) -> tuple[SeenImage, ...]:
    """Images as a prompt names them: each with the width and height in pixels at which the model sees it."""
    sizes = [seen_size(*image.size) for image in images]
    return tuple(
        SeenImage(image=image, seen_width=width, seen_height=height)
        for image, (width, height) in zip(images, sizes, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a span, as it arrives."""

    text: str
    """New text. The texts of a span's chunks concatenate to the decoding of its ids."""
    token_ids: tuple[int, ...] = ()
    """An end-of-turn token is among them, so that trainers see it, and has no text."""
    logprobs: tuple[float, ...] = ()
    """Under logits / tau, tau = 0 counted as 1; empty where the engine does not know them."""
    stop: ChunkStop | None = None
    """Set on the last chunk only."""
    stop_string: str | None = None
    """The stop string that was completed, if `stop` is ``"stop"``."""
    temperature: float | None = None
    """The tau it was sampled at, where the engine could not take that of the request."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Who the engine is."""

    name: str
    """Model name as asked for, without any absolute path."""
    capabilities: Capabilities = field(default_factory=Capabilities)
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    prompts: str | None = None
    """Folder of prompt files that the checkpoint brings with it, if any (an absolute path; never stored)."""


@runtime_checkable
class Engine(Protocol):
    """Goes on writing where a trajectory stands."""

    @property
    def info(self) -> EngineInfo:
        """Name, capabilities, fingerprints."""
        ...

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels at which the model sees an image of this size (pixel limits applied)."""
        ...

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """Make the prompt record, tokenised where the engine knows ids.

        Args:
            system: System turn.
            user: User turn with one ``<image>`` for each image, in order.
            images: The problem's images.

        Raises:
            ContextFullError: It does not fit.
        """
        ...

    def observation(self, execution: Execution) -> Observation:
        """Render a sandbox result as the model will read it (`thyme.markup.observation_parts`), tokenised if known."""
        ...

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Generate one span. Closing the iterator (``aclose``) cancels it; the tokens yielded so far stand.

        Raises:
            ContextFullError: There is no room for one more token.
            EngineError: Anything else that keeps the model from answering.
        """
        ...

    async def release(self, trajectory_id: str) -> None:
        """Forget what was cached for a trajectory. Unknown ids are ignored."""
        ...

    async def aclose(self) -> None:
        """Free the model."""
        ...
