"""Ask again where code failed or no answer came, as the evaluation kit does that the paper's figures come from.

VLMEvalKit's ``vlmeval/vlm/thyme/model.py`` asks up to five times: a block that gives nothing is rolled back with the
text that led to it and tried again, a turn that ends without code and answer starts over, both at temperature 1, and
where no attempt answered the model is asked in plain words without code. Which answers are right is never looked at.
What differs here is in docs/eval.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from thyme.config import RolloutConfig
from thyme.config.evaluation import RetryConfig
from thyme.engines.base import Chunk, Engine, EngineInfo, Request
from thyme.markup import extract_answer
from thyme.prompts import PromptSet
from thyme.types import Execution, Generated, ImageRecord, Observation, Prompt, StopReason, Trajectory

PLAIN = PromptSet(
    system="You are a helpful assistant.",
    user="{% for image in images %}<image>\n{% endfor %}{{ question }}"
    "{% for choice in choices %}\n{{ choice.letter }}. {{ choice.text }}{% endfor %}",
    user_text_only="{{ question }}{% for choice in choices %}\n{{ choice.letter }}. {{ choice.text }}{% endfor %}",
    origin="the plain words of the retry mode",
)
"""The question and nothing else."""


@dataclass(frozen=True)
class Attempt:
    """What one more rollout is asked with."""

    number: int
    """The first one, that of the arm with tools, is 1."""
    config: RolloutConfig
    kept: tuple[Generated, ...] = ()
    """What it begins with."""
    words: PromptSet | None = None
    """None: those of the run."""


@dataclass(frozen=True)
class Outcome:
    """What became of a problem."""

    final: Trajectory
    """The one whose answer counts."""
    earlier: tuple[Trajectory, ...] = ()
    """The others."""
    plain: bool = False
    """Whether `final` was asked in plain words: all that it says is the answer, unless it uses the tags."""

    @property
    def answer(self) -> str | None:
        """Text of the answer."""
        answer = extract_answer(self.final.response)
        return answer or self.final.response.strip() or None if self.plain else answer


async def with_retries(
    first: Trajectory, ask: Callable[[Attempt], Awaitable[Trajectory]], rollout: RolloutConfig, retry: RetryConfig
) -> Outcome:
    """Ask again until an attempt is good.

    Args:
        first: The rollout of the arm with tools.
        ask: Makes one more.
        rollout: How the first was made.
        retry: How often, and how.

    Returns:
        The first good attempt; else the last one that answered; else the plain question. One that failed (engine or
        sandbox) ends it.
    """
    warm = rollout.model_copy(update={"text_temperature": retry.temperature, "code_temperature": retry.temperature})
    made = [first]
    while made[-1].stop is not StopReason.ERROR and not is_good(made[-1]) and len(made) < retry.attempts:
        made.append(await ask(Attempt(len(made) + 1, warm, kept_of(made[-1]))))
    answered = [one for one in made if extract_answer(one.response) is not None]
    if made[-1].stop is StopReason.ERROR or is_good(made[-1]) or not (answered or retry.plain):
        return Outcome(made[-1], tuple(made[:-1]))
    if answered:
        return Outcome(answered[-1], tuple(one for one in made if one is not answered[-1]))
    plain = rollout.model_copy(update={"tools": False})
    return Outcome(await ask(Attempt(len(made) + 1, plain, words=PLAIN)), tuple(made), plain=True)


def is_good(trajectory: Trajectory) -> bool:
    """Whether it answered, and all of its code gave something."""
    blocks = (observation.execution for observation in trajectory.observations)
    return extract_answer(trajectory.response) is not None and not any(map(is_fruitless, blocks))


def is_fruitless(execution: Execution) -> bool:
    """Whether a block failed, or gave neither text nor image."""
    return execution.error is not None or not (execution.stdout.strip() or execution.images)


def kept_of(trajectory: Trajectory) -> tuple[Generated, ...]:
    """What the model had written when the round began whose code failed first; nothing where no code failed."""
    kept: list[Generated] = []
    written: list[Generated] = []
    for segment in trajectory.segments:
        if not isinstance(segment, Observation):
            written.append(segment)
        elif is_fruitless(segment.execution):
            return tuple(kept)
        else:
            kept, written = [*kept, *written], []
    return ()


class Replaying:
    """An engine that first says again what was kept, then goes on by itself; lent for one rollout.

    The rollout has the seed of the first one: code that was kept runs again in a session with that seed, so that
    variables are there and are what they were. Only the draws of the engine are others.
    """

    def __init__(self, engine: Engine, kept: Sequence[Generated], number: int) -> None:
        """Wrap an engine.

        Args:
            engine: Goes on; stays the caller's to close.
            kept: Spans of an earlier rollout, from its start.
            number: Of the attempt; each draws differently.
        """
        self._engine, self._kept, self._number = engine, kept, number

    @property
    def info(self) -> EngineInfo:
        """That of the engine."""
        return self._engine.info

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """As the engine."""
        return self._engine.seen_size(width, height)

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """As the engine."""
        return self._engine.prompt(system, user, images)

    def observation(self, execution: Execution) -> Observation:
        """As the engine."""
        return self._engine.observation(execution)

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The next span that was kept, in one piece; the engine's own after the last of them."""
        said = sum(isinstance(segment, Generated) for segment in request.segments)
        if said < len(self._kept):
            return self._again(self._kept[said], request)
        return self._engine.stream(replace(request, seed=self._seed(request.seed)))

    def _seed(self, seed: int | None) -> int | None:
        if seed is None:
            return None
        digest = hashlib.blake2b(f"{seed}/attempt {self._number}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1

    async def _again(self, span: Generated, request: Request) -> AsyncIterator[Chunk]:
        tag = max(request.stop, key=span.text.rfind, default=None)
        yield Chunk(span.text, span.token_ids, span.logprobs or (), "stop", tag, span.temperature)

    async def release(self, trajectory_id: str) -> None:
        """As the engine."""
        await self._engine.release(trajectory_id)

    async def aclose(self) -> None:
        """It was only lent."""
