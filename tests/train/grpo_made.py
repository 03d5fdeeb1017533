"""Made-up problems and rollouts of GRPO for the tests: functions of place, member and step alone. Not a test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import samples

from thyme.families import Family
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.types import Generated, Problem, Score, StopReason, Trajectory


@dataclass(frozen=True)
class MadeProblems:
    """Questions; whether one shows an image follows from its number."""

    count: int = 8
    fingerprint: str = "made"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Problem:
        return Problem(id=f"made-{index}", question="What number is it?", answer="1")


Shape = tuple[int, bool]
"""Rounds of code, each with an image, and whether the question shows one."""

MIXTURES: dict[str, Callable[[int, int], Shape]] = {
    "some": lambda place, member: ((place + member) % 3, place % 2 == 1),
    "halves": lambda place, member: (member % 2 if place < 2 else 0, place < 2),  # the second process sees no image
    "none": lambda place, member: (0, False),
}

PAID: dict[str, Callable[[int, int], float | None]] = {
    "all": lambda place, member: _number(place, member) / 4,
    "not the second half": lambda place, member: _number(place, member) / 4 if place < 2 else None,
    "some": lambda place, member: None if (place + member) % 3 == 0 else _number(place, member) / 4,
    "nobody": lambda place, member: None,
    "flat at first": lambda place, member: 0.5 if place % 2 else _number(place, member) / 4,
}
"""Rewards; None is not scored."""


def _number(*parts: object) -> int:
    return hashlib.blake2b(repr(parts).encode(), digest_size=2).digest()[0] % 5


@dataclass(frozen=True)
class MadeRoller:
    """Hands out made-up rollouts, as a roller does that draws them with the model."""

    family: Family
    mixture: str = "some"
    paid: str = "all"
    stops: str = "answer"
    """``cut``: those of the second half of the places were cut at a bound."""
    tau_code: float = 0.0
    fails: tuple[int, int] | None = None
    """Process and step in which it raises."""

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        from thyme.train.distributed import rank

        if self.fails and tuple(self.fails) == (rank(), step):  # a list, where a plan was JSON
            raise OSError("the disk of the sandbox is gone")
        return [Group(one, tuple(self._member(one, step, member) for member in range(group))) for one in asked]

    def _member(self, asked: Asked, step: int, member: int) -> Member:
        place = asked.place
        value = PAID[self.paid](place + asked.attempt, member + step)
        return Member(
            self._trajectory(place + 4 * asked.attempt, step, member), Score(value=value, parts={"result": value})
        )

    def _trajectory(self, place: int, step: int, member: int) -> Trajectory:
        rounds, shown = MIXTURES[self.mixture](place, member)
        seed = 100 * step + 10 * place + member
        made = samples.trajectory(
            [samples.crop(seed + i) for i in range(rounds)],
            family=self.family,
            images=[samples.picture(seed)] if shown else [],
            stop=StopReason.MAX_TOKENS if self.stops == "cut" and place >= 2 else StopReason.ANSWER,
            name=f"{step}-{place}-{member}",
        )
        segments = tuple(
            self._drawn(segment) if isinstance(segment, Generated) else segment for segment in made.segments
        )
        return made.model_copy(update={"segments": segments})

    def _drawn(self, segment: Generated) -> Generated:
        tau = self.tau_code if segment.kind == "code" else 1.0
        return segment.model_copy(update={"temperature": tau, "logprobs": tuple(-1.0 for _ in segment.token_ids)})

    def close(self) -> None:
        """Nothing is open."""
