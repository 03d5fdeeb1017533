"""What a scenario is: what it needs, how a problem is prepared, what the teacher is told, what is accepted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thyme.data.drafts import Draft
from thyme.data.scenarios.boxes import boxes_of
from thyme.types import Problem


@dataclass(frozen=True)
class Prepared:
    """A problem made ready for a scenario."""

    problem: Problem
    hints: Mapping[str, Any] = field(default_factory=dict)
    """What the teacher is told and acceptance compares with."""


@dataclass(frozen=True)
class Refusal:
    """Why something is not taken."""

    reason: str
    """In one word, under which it is counted."""
    note: str = ""


def lacks(problem: Problem, needs: Iterable[str]) -> tuple[str, ...]:
    """Facts that a scenario needs and a problem has not, in order of name; empty: it can be served."""
    return tuple(fact for fact in sorted(needs) if not _FACTS[fact](problem))


def as_it_is(problem: Problem, rng: random.Random) -> Prepared:
    """Leave a problem as it is; there is nothing to tell."""
    return Prepared(problem)


def range_of(problem: Problem, fact: str, usual: Sequence[Any]) -> Sequence[Any]:
    """What a fact is drawn from in preparation: what the source has fixed in ``meta["prepare"]``, else the usual."""
    fixed: Sequence[Any] = problem.meta.get("prepare", {}).get(fact, usual)
    return fixed


_FACTS: dict[str, Callable[[Problem], bool]] = {
    "image": lambda problem: bool(problem.images),
    "text_only": lambda problem: not problem.images,
    "answer": lambda problem: problem.answer is not None,
    "box": lambda problem: bool(boxes_of(problem)),
}


Rule = Callable[[Draft], Refusal | None]
"""Looks at a finished draft; None: nothing to find fault with."""


@dataclass(frozen=True)
class Scenario:
    """A kind of record."""

    name: str
    title: str
    """For pages, e.g. ``rotation by a large angle``."""
    needs: frozenset[str]
    """Facts that a problem must have: ``image``, ``answer``, ``box``; ``text_only`` excludes images."""
    prepare: Callable[[Problem, random.Random], Prepared | Refusal]
    prompt: str
    """File in thyme/prompts/teacher/, a Jinja template of the functional prompt."""
    rules: tuple[Rule, ...]
    """Beside those that hold for all."""
    makes_pictures: bool = False
    """Whether preparation makes pictures, which takes its time."""
    corrects_errors: bool = False
    """Whether a block may fail, so that the teacher reads the error and writes a better one; the last must run."""
