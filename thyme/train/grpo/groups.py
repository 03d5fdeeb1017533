"""What a step of GRPO is made of: problems, and the rollouts of each with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from thyme.types import Problem, Score, StopReason, Trajectory

OVERLONG = frozenset(
    {
        StopReason.MAX_ROUND_TOKENS,
        StopReason.MAX_TOKENS,
        StopReason.MAX_IMAGES,
        StopReason.MAX_PIXELS,
        StopReason.CONTEXT,
    }
)
"""Stops of a rollout that was cut at a bound of length."""


class Problems(Protocol):
    """Problems by place; their pixels are loaded when one is asked for."""

    @property
    def fingerprint(self) -> str:
        """Hash of what decides about them."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Problem:
        """One of them, with its pixels."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem in a step."""

    place: int
    """Among the problems of the step over all processes, from 0."""
    problem: Problem
    attempt: int = 0
    """How often the place was filled anew before, because its group taught nothing."""


@dataclass(frozen=True, slots=True)
class Member:
    """One rollout of a group."""

    trajectory: Trajectory
    score: Score
    """``parts`` as `thyme.rewards` names them; a value of None is not scored."""
    attempts: int = 1
    """Rollouts begun until one was not lost to a failure of sandbox, engine or judge."""


@dataclass(frozen=True, slots=True)
class Group:
    """All rollouts of one problem."""

    asked: Asked
    members: tuple[Member, ...]

    @property
    def rewards(self) -> tuple[float | None, ...]:
        """Of the members."""
        return tuple(member.score.value for member in self.members)


class Roller(Protocol):
    """Rolls problems out with the weights as they are now, and has the rollouts scored."""

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        """Groups in the order of what was asked.

        The seed of a rollout is a function of run, step, place, attempt and member alone: it does not matter in which
        process it is made, nor what else is.

        Args:
            model: The model in training, as the trainer holds it (adapters and wrappers included).
            asked: This process's share of the step's problems.
            step: Optimiser steps done before.
            group: Rollouts of each.
        """
        ...

    def close(self) -> None:
        """End engine, sandbox and judges."""
        ...
