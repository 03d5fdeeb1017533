"""Demonstrations whose decision for or against code is a coin's: where reinforcement learning has something to teach.

Of every kind of question half are answered at once and half through code, and a word at the very beginning says which.
The coin is loaded by how the question is worded, which says nothing about what it needs: so what the model does
greedily differs from question to question, too, and whatever it is asked, it tries both when it is sampled. The code is
the teacher's and right; an answer at once is true where the label is legible at first sight, and a guess elsewhere. A
model that learnt from them knows how to use code, and not when.
"""

from __future__ import annotations

import random

from thyme.nano.teacher import Plan, Taught, plan, zoomed
from thyme.nano.world import CHARACTERS, Kind
from thyme.types import Problem

AT_ONCE = "I answer. "
"""How a demonstration without code begins."""
BY_CODE = "I use code. "
"""How one with code begins; what the teacher says follows."""
CODE_SHARES = {"What": 0.35, "Read": 0.5, "Compute": 0.5, "Which": 0.65, "Work": 0.65}
"""How often questions with this first word are answered through code; each kind has three wordings, equally often."""
SHARES: dict[Kind, int] = {
    "easy": 15,
    "medium": 15,
    "zoom": 15,
    "rotation": 15,
    "contrast": 10,
    "arithmetic": 20,
    "two_round": 10,
}
"""Parts of the demonstrations that each kind makes up."""


def undecided(problem: Problem) -> Plan:
    """Solve a problem at once or with code, as a coin falls that is a function of the problem's id and its first word.

    Raises:
        ValueError: It has no answer or is of another world.
    """
    coin = random.Random(f"thyme.nano/undecided/{problem.id}")
    through_code = with_code(problem)  # also where the coin falls the other way: it refuses other worlds
    loaded = CODE_SHARES[problem.question.split()[0]]
    return through_code if coin.random() < loaded else at_once(problem, coin)


def with_code(problem: Problem) -> Plan:
    """The teacher's way; a crop also where a look would do."""
    steps = plan(problem)
    if not steps.rounds:
        steps = zoomed(problem, steps.answer, size="large")
    (before, code), *others = steps.rounds
    return Plan(((BY_CODE + before, code), *others), steps.conclusion, steps.answer)


def at_once(problem: Problem, rng: random.Random) -> Plan:
    """The answer and nothing else: true where it can be seen, else a guess.

    Args:
        problem: One of the embedded world.
        rng: Of the guess.
    """
    said = plan(problem).answer if legible(problem) else guess(problem, rng)
    if problem.kind == "arithmetic":
        return Plan((), f"{AT_ONCE}The result is {said}.", said)
    seen = " and ".join(f"{color} {label}" for color, label in zip(problem.meta["colors"], said.split(), strict=True))
    return Plan((), f"{AT_ONCE}I see {seen}.", said)


def legible(problem: Problem) -> bool:
    """Whether the answer can be read off the picture as it is first seen."""
    return problem.kind in {"easy", "medium"} and all(problem.meta["large"])


def guess(problem: Problem, rng: random.Random) -> str:
    """Something that has the form of the answer."""
    if problem.kind == "arithmetic":
        return str(rng.randint(100, 9999))
    return " ".join("".join(rng.choice(CHARACTERS) for _ in range(2)) for _ in problem.meta["colors"])


UNDECIDED = Taught("undecided", undecided, SHARES)
"""These demonstrations as a source of samples; see `thyme.nano.sources`."""
