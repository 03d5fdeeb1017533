"""Problems, and a roller that asks a model in training through the transformers engine. Not a test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import samples
import torch

from thyme.agent.rollout import rollout
from thyme.config import EngineConfig
from thyme.config.rollout import RolloutConfig
from thyme.engines.transformers import TransformersEngine
from thyme.families import Family
from thyme.nano import world
from thyme.prompts import PromptSet
from thyme.train.evaluate import undisturbed
from thyme.train.grpo.draws import member_seed
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.types import Execution, Generated, ImageRecord, Problem, Score, Segment, StopReason, Trajectory

Reward = Callable[[Trajectory, random.Random], float | None]


class NanoProblems:
    """Some problems of the embedded world."""

    def __init__(self, count: int = 6, kinds: Sequence[Any] = ("easy", "zoom", "arithmetic")) -> None:
        self.problems = list(world.problems("train", 3, count, kinds))
        self.fingerprint = f"nano {count} {kinds}"

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int, /) -> Problem:
        return self.problems[index]


def drawn(_: Trajectory, draws: random.Random) -> float | None:
    """Any of the rewards that the paper's formula gives."""
    return draws.choice([0.0, 0.5, 1.0, 1.5, 2.0])


BOUNDS = RolloutConfig(text_temperature=1.0, max_round_tokens=60, max_tokens=120, max_rounds=1)


@dataclass
class EngineRoller:
    """Rolls out with the model in training; code runs in `sandbox`. Rewards are drawn by the rollout's own seed."""

    family: Family
    prompts: PromptSet
    sandbox: Any = field(default_factory=lambda: CroppingSandbox())
    config: RolloutConfig = BOUNDS
    reward: Reward = drawn
    seed: int = 0
    asked: list[tuple[int, Asked]] = field(default_factory=list)
    rolled: list[Group] = field(default_factory=list)

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        self.asked += [(step, one) for one in asked]
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        with undisturbed(inner), torch.no_grad():
            groups = asyncio.run(self._roll(inner, asked, step, group))
        self.rolled += groups
        return groups

    async def _roll(self, model: Any, asked: Sequence[Asked], step: int, group: int) -> list[Group]:
        engine = TransformersEngine(model, self.family, EngineConfig(threads=1))
        try:
            return [
                Group(one, await asyncio.gather(*(self._member(engine, one, step, i) for i in range(group))))
                for one in asked
            ]
        finally:
            await engine.aclose()

    async def _member(self, engine: TransformersEngine, asked: Asked, step: int, member: int) -> Member:
        seed = member_seed(self.seed, step, asked.place, asked.attempt, member)
        made = await rollout(asked.problem, engine, self.sandbox, self.config, prompts=self.prompts, seed=seed)
        return Member(made, Score(value=self.reward(made, random.Random(seed))))

    def close(self) -> None:
        pass


@dataclass
class CroppingSandbox:
    """Stands in for the sandbox: whatever the code is, it shows a part of the problem's first image, or a number."""

    isolation = "scripted"

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[_Session]:
        yield _Session(images)

    async def aclose(self) -> None:
        pass


@dataclass
class _Session:
    images: Sequence[ImageRecord]

    async def run(self, code: str) -> Execution:
        if not self.images:
            return Execution(code=code, ran=code, stdout=f"{len(code)}\n")
        crop = self.images[0].image.crop((0, 0, 56, 40 + len(code) % 40))
        return Execution(code=code, ran=code, images=(ImageRecord.of(crop),))


def written(
    family: Family,
    name: str,
    rounds: int,
    *,
    text: float = 1.0,
    code: float = 0.3,
    images: int = 1,
    stop: StopReason = StopReason.ANSWER,
    seed: int = 0,
) -> Trajectory:
    """A trajectory by hand, as an engine would have recorded it; its log-probabilities are made up."""
    made = samples.trajectory(
        [samples.crop(10 * seed + i, images=i % 2, stdout="7\n" * (seed % 2)) for i in range(rounds)],
        family=family,
        images=[samples.picture(100 + seed + i) for i in range(images)],
        stop=stop,
        name=name,
    )
    taus = {"text": text, "code": code}

    def sampled(segment: Segment) -> Segment:
        if not isinstance(segment, Generated):
            return segment
        logprobs = tuple(-1.0 - i % 3 for i in range(len(segment.token_ids)))
        return segment.model_copy(update={"temperature": taus[segment.kind], "logprobs": logprobs})

    segments = tuple(map(sampled, made.segments))
    return made.model_copy(update={"segments": segments})


class ByHand:
    """Problems without images, for rollouts that are written by hand."""

    fingerprint = "by hand"

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int, /) -> Problem:
        return Problem(id=f"p{index}", question="What number is it?")


@dataclass
class WrittenRoller:
    """Gives what `make` makes of step, place and member; the model is not asked."""

    make: Callable[[int, int, int], Member]
    steps: list[list[Group]] = field(default_factory=list)

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        made = [Group(one, tuple(self.make(step, one.place, i) for i in range(group))) for one in asked]
        self.steps.append(made)
        return made

    def close(self) -> None:
        pass
