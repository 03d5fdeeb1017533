"""A trajectory in the making: segments, counts and clocks, until it is frozen into the record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from thyme.config import RolloutConfig
from thyme.engines.base import Chunk, EngineInfo
from thyme.errors import ThymeError
from thyme.types import (
    Generated,
    GeneratedKind,
    Observation,
    Problem,
    Prompt,
    RolloutFailure,
    Sampling,
    Segment,
    StopReason,
    Timings,
    Trajectory,
    Usage,
)

CHARS_PER_TOKEN = 4
"""How text is counted where an engine does not know its token ids."""


@dataclass(slots=True)
class SpanDraft:
    """A generated segment while its chunks arrive."""

    kind: GeneratedKind
    temperature: float
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk as it is."""
        self.texts.append(chunk.text)
        self.token_ids += chunk.token_ids
        self.logprobs += chunk.logprobs
        if chunk.temperature is not None:
            self.temperature = chunk.temperature

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self.texts)

    @property
    def tokens(self) -> int:
        """Tokens so far; four characters count as one where ids are not known."""
        return len(self.token_ids) or -(-sum(map(len, self.texts)) // CHARS_PER_TOKEN)

    def segment(self) -> Generated:
        """The finished segment."""
        known = bool(self.token_ids) and len(self.logprobs) == len(self.token_ids)
        return Generated(
            kind=self.kind,
            text=self.text,
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs) if known else None,
            temperature=self.temperature,
        )


@dataclass(slots=True)
class Draft:
    """A trajectory in the making."""

    id: str
    problem: Problem
    config: RolloutConfig
    seed: int
    prompt: Prompt = field(default_factory=lambda: Prompt(system="", user=""))
    segments: list[Segment] = field(default_factory=list)
    stop: StopReason | None = None
    error: RolloutFailure | None = None
    rounds: int = 0
    """Code blocks that ran."""
    spans: int = 0
    """Spans asked for."""
    generated_tokens: int = 0
    round_tokens: int = 0
    """Generated since the last observation."""
    observation_tokens: int = 0
    images: int = 0
    pixels: int = 0
    """Images and seen pixels that observations brought."""
    engine_s: float = 0.0
    sandbox_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def end(self, stop: StopReason) -> None:
        """Set why it ends."""
        self.stop = stop

    def fail(self, where: Literal["engine", "sandbox", "prompt"], error: ThymeError) -> None:
        """End it with a recorded failure."""
        self.stop = StopReason.ERROR
        self.error = RolloutFailure(type=type(error).__name__, message=str(error), where=where)

    def add_span(self, span: SpanDraft) -> None:
        """Take over a generated segment, unless nothing came."""
        if span.token_ids or span.text:
            self.segments.append(span.segment())
            self.generated_tokens += span.tokens
            self.round_tokens += span.tokens

    def add_observation(self, observation: Observation) -> None:
        """Take over an observation; a new round begins."""
        self.segments.append(observation)
        self.observation_tokens += len(observation.token_ids)
        self.images += len(observation.execution.images)
        self.pixels += seen_pixels(observation)
        self.round_tokens = 0

    @property
    def tokens_left(self) -> int:
        """New tokens that the bounds still allow in this round."""
        left_in_round = self.config.max_round_tokens - self.round_tokens
        return min(left_in_round, self.config.max_tokens - self.generated_tokens)

    @property
    def token_bound(self) -> StopReason:
        """Which bound `tokens_left` comes from."""
        left_in_round = self.config.max_round_tokens - self.round_tokens
        left = self.config.max_tokens - self.generated_tokens
        return StopReason.MAX_TOKENS if left <= left_in_round else StopReason.MAX_ROUND_TOKENS

    @property
    def context_tokens(self) -> int:
        """Tokens the model has read and written; only meaningful where ids are known."""
        return len(self.prompt.token_ids) + self.generated_tokens + self.observation_tokens

    @contextmanager
    def clock(self, where: Literal["engine", "sandbox"]) -> Iterator[None]:
        """Add the time inside to the seconds of engine or sandbox."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            if where == "engine":
                self.engine_s += passed
            else:
                self.sandbox_s += passed

    def trajectory(self, engine: EngineInfo, prompts_fingerprint: str) -> Trajectory:
        """Freeze it.

        Raises:
            ValueError: Nothing has ended it yet.
        """
        if self.stop is None:
            raise ValueError(f"rollout {self.id} is still running")
        config = self.config
        return Trajectory(
            id=self.id,
            problem=self.problem,
            prompt=self.prompt,
            segments=tuple(self.segments),
            stop=self.stop,
            error=self.error,
            model=engine.name,
            fingerprints=engine.fingerprints.model_copy(update={"prompts": prompts_fingerprint}),
            sampling=Sampling(
                text_temperature=config.text_temperature,
                code_temperature=config.code_temperature,
                max_rounds=config.max_rounds,
                max_round_tokens=config.max_round_tokens,
                max_tokens=config.max_tokens,
                tools=config.tools,
            ),
            seed=self.seed,
            usage=Usage(
                prompt_tokens=len(self.prompt.token_ids),
                generated_tokens=self.generated_tokens,
                observation_tokens=self.observation_tokens,
                rounds=self.rounds,
            ),
            timings=Timings(
                engine_s=self.engine_s, sandbox_s=self.sandbox_s, total_s=time.perf_counter() - self.started
            ),
        )


def seen_pixels(observation: Observation) -> int:
    """Pixels that an observation's images have at the size the model sees."""
    return sum(width * height for width, height in observation.seen_sizes)
