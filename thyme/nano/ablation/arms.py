"""The arms of the ablation: what differs between them, and which differences answer a claim of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thyme.config.base import Config
from thyme.nano.ablation.rows import Mask, Theme
from thyme.train.encode import MaskPolicy


@dataclass(frozen=True)
class Arm:
    """One way of fine-tuning."""

    title: str
    mask: Mask
    theme: Theme = "images"
    after: str | None = None
    """The arm whose end it starts from, at the rate of the annealing; None: from shipped weights."""
    weights: Literal["base", "final"] = "base"
    """The shipped weights that it, or the arm it comes after, starts from; ``final`` can compute already."""


ARMS: dict[str, Arm] = {
    "naive": Arm("naive", "naive"),
    "mask": Arm("+ mask sandbox", MaskPolicy.ALL),
    "last_round": Arm("+ only last round (released)", MaskPolicy.RELEASED),
    "annealing": Arm("+ maths annealing", MaskPolicy.ALL, "arithmetic", "last_round"),
    "control": Arm("same steps on the images instead", MaskPolicy.RELEASED, "images", "last_round"),
    "last_round_paper": Arm("+ only last round (as written)", MaskPolicy.PAPER),
    "able": Arm("able: images, from a start that can compute", MaskPolicy.RELEASED, weights="final"),
    "able_annealing": Arm("able: + maths annealing", MaskPolicy.ALL, "arithmetic", "able", "final"),
    "able_control": Arm("able: same steps on the images instead", MaskPolicy.RELEASED, "images", "able", "final"),
}
"""The first four are the rows of the paper's Table 5, in its order: each adds one thing to the one before.

``control`` trains on for as many steps at the same rate as
``annealing``, so that what more steps do is not taken for what arithmetic does. ``last_round_paper`` takes the paper's
sentence ("before and including the last" observation) by the letter, where the released code masks up to the
second-to-last.

The last three were added after the others had run: the base here has never seen arithmetic, so a short stage at a low
rate has nothing to give back. The paper's base has. They start from weights that can compute, so that it can be seen
what a stage of images takes from that, and what annealing gives back.
"""


@dataclass(frozen=True)
class Comparison:
    """A difference between two arms, named before anything was run."""

    better: str
    """The arm that the paper has as the better one, or the one that is asked about."""
    worse: str
    measure: str
    """Name in `thyme.nano.ablation.stats.MEASURES`."""
    claim: str
    """What the paper says of it, in the terms of this world; empty where it says nothing."""


COMPARISONS: tuple[Comparison, ...] = (
    Comparison("mask", "naive", "perception", "masking what the sandbox gave back helps perception"),
    Comparison("last_round", "mask", "perception", "training on the last round only helps perception a little"),
    Comparison("last_round", "mask", "two_round labels", ""),
    Comparison("last_round_paper", "last_round", "two_round labels", ""),
    Comparison("annealing", "last_round", "arithmetic", "a short stage on maths gives back what maths had lost"),
    Comparison("annealing", "control", "arithmetic code ran", ""),
    Comparison("annealing", "last_round", "perception", "and it costs perception nothing"),
    Comparison("annealing", "control", "perception", ""),
    Comparison("able_annealing", "able", "arithmetic", "a short stage on maths gives back what maths had lost"),
    Comparison("able_annealing", "able_control", "arithmetic", ""),
    Comparison("able_annealing", "able", "perception", "and it costs perception nothing"),
    Comparison("able_annealing", "able_control", "perception", ""),
)
"""The questions, each written down before its arms ran. Whatever else the tables hold was not asked beforehand."""


class AblationSettings(Config):
    """How much of everything, the same for every arm and seed."""

    steps: int = 260
    """Optimiser steps of the arms that start from the base."""
    batch: int = 8
    learning_rate: float = 1e-3
    """Peak rate of AdamW; Muon's is eight times that, as for the shipped weights."""
    demonstrations: int = 980
    """A seed, every kind of problem among them; no two seeds share any."""
    replayed: int = 290
    """Rows of replayed perception among those with pictures."""
    views: int = 3000
    """Pool that these are drawn from."""
    annealing_steps: int = 45
    annealing_rate: float = 0.1
    """Of `learning_rate` (paper: 1e-6 after 1e-5)."""
    problems: int = 60
    """Test problems of each kind a seed; other ones for each seed, the same for all arms of a seed."""
    held_out: int = 15
    """Validation problems of each kind whose demonstrations the loss is measured on."""


SMOKE = AblationSettings(
    steps=2, batch=2, demonstrations=49, replayed=2, views=8, annealing_steps=1, problems=1, held_out=1
)
"""Goes all the way in a minute and learns nothing: for tests."""
