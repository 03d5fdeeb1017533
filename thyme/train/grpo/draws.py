"""Which problems a step asks, and the seeds of their rollouts: functions of the place in the run, and of nothing else.

So a run that is resumed, or spread over other processes, asks the same. An epoch is a permutation of all problems;
places are filled from one epoch after the other without a gap, so the last problems of one and the first of the next
may share a step. Sources are mixed by having their problems in one sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from thyme.errors import ConfigError
from thyme.train.grpo.groups import Asked, Problems


@dataclass(frozen=True, slots=True)
class Draws:
    """Fills the places of steps with problems."""

    problems: int
    """How many there are."""
    places: int
    """In one step, over all processes."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.problems < 1 or self.places < 1:
            raise ConfigError(f"{self.problems} problems for {self.places} places a step: there must be one of each")

    def index(self, step: int, place: int, attempt: int = 0) -> int:
        """Which problem is asked.

        A spare, asked where `attempt` is above 0, is none that the step asks at its first attempts, nor at another
        place or attempt, as long as there are so many problems.

        Args:
            step: Optimiser steps done before.
            place: In the step, from 0, below `places`.
            attempt: How often the place was filled anew.
        """
        if not 0 <= place < self.places:
            raise ValueError(f"there is no place {place} among {self.places}")
        if attempt:
            spare = _spares(self, step)
            return int(spare[((attempt - 1) * self.places + place) % len(spare)])
        epoch, position = divmod(step * self.places + place, self.problems)
        return int(_permutation(self.problems, f"{self.seed}/epoch/{epoch}")[position])

    def asked(self, problems: Problems, step: int, places: Iterable[int], attempt: int = 0) -> list[Asked]:
        """The problems at some places of a step, loaded.

        Args:
            problems: As many as `problems` says.
            step: Optimiser steps done before.
            places: Of this process, mostly.
            attempt: How often the places were filled anew.
        """
        return [Asked(place, problems[self.index(step, place, attempt)], attempt) for place in places]

    def steps(self, epochs: float) -> int:
        """Steps after which every problem was asked so many times, at least one."""
        return max(1, ceil(round(self.problems * epochs / self.places, 6)))


def share(places: int, rank: int, processes: int) -> range:
    """Places of a step that one process fills: neighbours, and as many as any other process fills.

    Raises:
        ConfigError: They cannot be shared out evenly.
    """
    if places % processes:
        raise ConfigError(
            f"{places} problems a step cannot be shared out among {processes} processes, whole groups to each: make "
            f"train.problems a multiple of {processes}"
        )
    each = places // processes
    return range(rank * each, (rank + 1) * each)


def member_seed(seed: int, step: int, place: int, attempt: int, member: int) -> int:
    """Seed of one rollout: 31 bits, by hash, so that neighbours share nothing.

    Args:
        seed: Of the run.
        step: Optimiser steps done before.
        place: Of the problem in the step.
        attempt: How often the place was filled anew.
        member: Of the group.
    """
    return _hashed(f"{seed}/rollout/{step}/{place}/{attempt}/{member}", 4) >> 1


def _hashed(name: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=size).digest(), "big")


@lru_cache(maxsize=4)
def _permutation(count: int, name: str) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64(_hashed(name, 16))).permutation(count)


@lru_cache(maxsize=2)
def _spares(draws: Draws, step: int) -> NDArray[np.int64]:
    """Problems in the order in which they are spare in this step: those that it asks anyway come last."""
    asked = [draws.index(step, place) for place in range(draws.places)]
    order = _permutation(draws.problems, f"{draws.seed}/spare/{step}")
    among = np.isin(order, asked)
    return np.concatenate([order[~among], order[among]])
