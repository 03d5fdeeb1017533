"""The steps that look at one row: each says why it drops a problem, or nothing. `STEPS` has them in order.

What a step finds out stays on the `Look`, so that it is found out once and stands in the report. Steps that compare
rows with each other, or ask a model, follow behind: `thyme.data.filter.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from thyme.config.rl_filter import AnswerKind, FilterRecipe
from thyme.data.filter.benchmarks import Benchmarks, question_hash
from thyme.data.filter.language import language_of
from thyme.data.filter.records import READ, Seen
from thyme.data.filter.verifiable import answer_kind, why_not
from thyme.data.hashes import Neighbours, perceptual_hash
from thyme.errors import EncodeError
from thyme.types import Problem

Reason = tuple[str, str]
"""In one word, and what there is to say of this row."""


@dataclass
class Rules:
    """What steps decide by."""

    recipe: FilterRecipe
    benchmarks: Benchmarks = field(default_factory=Benchmarks)

    @cached_property
    def near(self) -> Neighbours | None:
        """Perceptual hashes of benchmarks; None where nobody asks for them."""
        bits, hashes = self.recipe.benchmarks.bits, self.benchmarks.pictures.hashes
        return Neighbours(bits, hashes) if bits >= 0 and hashes else None

    @property
    def hashes(self) -> bool:
        """Whether perceptual hashes of pictures are wanted."""
        return self.recipe.duplicates.bits >= 0 or self.near is not None


@dataclass
class Look:
    """A problem that is being looked at."""

    problem: Problem
    rules: Rules

    @cached_property
    def answer_type(self) -> AnswerKind | None:
        """Kind of its answer."""
        return answer_kind(self.problem)

    @cached_property
    def language(self) -> str:
        """In which it is asked."""
        return language_of(self.problem.question, self.rules.recipe.language.languages)

    @cached_property
    def hashes(self) -> tuple[int, ...]:
        """Perceptual hashes of its pictures."""
        return tuple(perceptual_hash(image.image) for image in self.problem.images) if self.rules.hashes else ()

    @property
    def share(self) -> float | None:
        """Of the first picture's area that its box takes."""
        box = self.problem.meta.get("box")
        if not box or not self.problem.images:
            return None
        left, top, right, bottom = box
        width, height = self.problem.images[0].size
        return float((right - left) * (bottom - top) / (width * height))


def resolution(look: Look) -> Reason | None:
    """Whether there are pictures, as large and as many as they should be."""
    asked, sizes = look.rules.recipe.resolution, [image.size for image in look.problem.images]
    if not sizes:
        return ("no_picture", "") if asked.images else None
    told = ", ".join(f"{width} x {height}" for width, height in sizes[:4])
    if len(sizes) > asked.max_images:
        return "many_pictures", f"{len(sizes)} pictures"
    if max(map(max, sizes)) <= asked.min_side or min(map(min, sizes)) < asked.min_short:
        return "small", told
    if any(max(size) > asked.max_ratio * min(size) for size in sizes):
        return "narrow", told
    if look.share is not None and look.share > asked.max_share:
        return "large_target", f"{look.share:.1%} of the picture"
    return None


def answer(look: Look) -> Reason | None:
    """Whether a rule can tell a right answer from a wrong one."""
    return why_not(look.problem, look.answer_type, look.rules.recipe.answer)


def language(look: Look) -> Reason | None:
    """Whether it is asked in a language that is wanted."""
    asked, found = look.rules.recipe.language, look.language  # found out also where nobody asks: the report shows it
    if not asked.languages or found in asked.languages:
        return None
    if not found:
        return None if asked.undecided else ("language_undecided", "")
    return "language", found


def benchmarks(look: Look) -> Reason | None:
    """Whether it comes from what models are measured on."""
    held, near, problem = look.rules.benchmarks, look.rules.near, look.problem
    if any(image.id in held.pictures.ids for image in problem.images):
        return "benchmark_picture", "its pixels are a benchmark's"
    if near is not None and any(near.find(value) is not None for value in look.hashes):
        return "benchmark_picture", "it is nearly a benchmark's"
    asked = look.rules.recipe.benchmarks.questions and not problem.images
    if asked and question_hash(problem.question) in held.questions:
        return "benchmark_question", ""
    return None


STEPS: Final[Mapping[str, Callable[[Look], Reason | None]]] = {
    "resolution": resolution,
    "answer": answer,
    "language": language,
    "benchmarks": benchmarks,
}
"""In order; a row counts as dropped by the first that drops it."""


def look_at(row: Problem | EncodeError, *, source: str, index: int, rules: Rules) -> Seen:
    """What becomes of a row in these steps.

    Args:
        row: With its pixels, or why it is none.
        source: Name in the recipe.
        index: Of the row.
        rules: What is decided by.

    Raises:
        MissingExtraError: A library of the extra ``data`` is not installed.
    """
    if isinstance(row, EncodeError):
        return Seen(source=source, row=index, id=f"{source}-{index}").drop(READ, row.reason, str(row))
    look = Look(row, rules)
    for name, step in STEPS.items():
        if reason := step(look):
            return _seen(look, source, index).drop(name, *reason)
    hashes = tuple(f"{value:016x}" for value in look.hashes)
    return _seen(look, source, index).model_copy(update={"hashes": hashes})


def _seen(look: Look, source: str, index: int) -> Seen:
    problem, known = look.problem, vars(look)
    return Seen(
        source=source,
        row=index,
        id=problem.id,
        question=problem.question,
        answer=problem.answer or "",
        choices=problem.choices,
        kind=problem.kind,
        answer_type=_known(known, "answer_type"),
        language=_known(known, "language"),
        sizes=tuple(image.size for image in problem.images),
        share=look.share,
        images=tuple(image.id for image in problem.images),
        formats=tuple(image.format if image.encoded is not None else "" for image in problem.images),
    )


def _known(found: Mapping[str, Any], name: str) -> str:
    """What a step has found out; nothing where an earlier one dropped the row."""
    return found.get(name) or ""
