"""The embedded world as a source of problems to train on by reinforcement: ``format = "nano"`` in a recipe of GRPO.

Problem i is a function of seed, kinds and i alone, and is drawn each time it is asked for, so a source without a limit
costs nothing and never asks the same twice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from thyme.config.training import DataSource
from thyme.data.sources.lines import digest
from thyme.errors import ConfigError
from thyme.nano.world import KINDS, Kind, problem
from thyme.train.grpo.problems import ENDLESS
from thyme.types import Problem

APART = 1_000_000
"""Added to the seed, so that no problem is one of those that demonstrations were made of, whose seeds are small."""


@dataclass(frozen=True)
class TrainingProblems:
    """Problems of the training split, kinds drawn by their shares."""

    seed: int
    shares: Mapping[Kind, float]
    size: int

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what decides about them; a higher limit keeps the first ones as they are, and is not in it."""
        return digest(["nano", self.seed, sorted(self.shares.items())])

    def __len__(self) -> int:
        """How many there are."""
        return self.size

    def __getitem__(self, index: int) -> Problem:
        """A problem, drawn now."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = random.Random(f"thyme.nano/problems/{self.seed}/{index}")
        (kind,) = rng.choices(list(self.shares), list(self.shares.values()))
        return problem("train", APART + self.seed, index, kind)


def training_problems(source: DataSource) -> TrainingProblems:
    """Open the source.

    Args:
        source: ``subset`` names kinds, each with its share where it is not 1: ``easy:1,zoom:2``; empty: all kinds
            alike. ``limit`` is how many there are; None: without end.

    Raises:
        ConfigError: There is no such kind or share, or the split is one to measure on.
    """
    if source.split != "train":
        raise ConfigError(
            f"nano's split '{source.split}' is to measure on; problems to train on are of the split 'train'"
        )
    return TrainingProblems(source.seed, parse_shares(source.subset), source.limit or ENDLESS)


def parse_shares(subset: str) -> dict[Kind, float]:
    """Kinds and shares as a recipe names them.

    Args:
        subset: ``KIND`` or ``KIND:SHARE``, separated by commas; empty: all kinds alike.

    Raises:
        ConfigError: There is no such kind, it is named twice, or the share is no number above 0.
    """
    shares: dict[Kind, float] = {}
    for entry in (part.strip() for part in subset.split(",")):
        name, colon, share = (text.strip() for text in entry.partition(":"))
        if not name and not colon:
            continue
        if name not in KINDS:
            raise ConfigError(f"nano has no kind '{name}'; its kinds are {', '.join(KINDS)}")
        if name in shares:
            raise ConfigError(f"the kind '{name}' is named twice in '{subset}'")
        shares[name] = _share(share, entry) if colon else 1.0
    return shares or dict.fromkeys(KINDS, 1.0)


def _share(text: str, entry: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < float("inf"):
        raise ConfigError(f"'{entry}' gives no share; write zoom:2, say, a number above 0")
    return share
