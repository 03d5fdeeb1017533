"""Answers in free form: what of them is compared, and the numbers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from thyme.eval.benchmarks import cells
from thyme.eval.benchmarks.base import Row
from thyme.types import Problem, Score

OPTIONS = "options"
"""Fact of a problem whose options stand in the question."""
_BOX = "\\boxed{"
_FRACTION = re.compile(r"\s*([-+]?\s*\d{1,100})\s*/\s*(\d{1,100})\s*")


def unboxed(answer: str) -> str:
    r"""What the last ``\boxed{...}`` of an answer holds, or else the answer, as VLMEvalKit's Thyme gives it back."""
    _, found, inner = answer.rpartition(_BOX)
    if not found:
        return answer
    depth = 1
    for place, sign in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth == 0:
            return inner[:place].strip()
    return answer


Compare = Callable[[Problem, str], Score]
"""Scores an answer that is not empty, without spaces at its ends, to a problem that has a reference."""


def scored_by(compare: Compare) -> Callable[[Problem, str | None], Score]:
    """A benchmark's ``score``: `compare`, where there is something to compare; no answer is wrong."""

    def score(problem: Problem, answer: str | None) -> Score:
        if problem.answer is None:
            return Score(value=None, note="no reference answer")
        if answer is None or not answer.strip():
            return Score(value=0.0, note="no answer")
        return compare(problem, answer.strip())

    return score


def as_float(text: str) -> float | None:
    """The number that a whole text is, as Python writes it; None where it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def as_number(text: str) -> float | None:
    """As `as_float`, or a fraction of whole numbers such as ``3/4``."""
    fraction = _FRACTION.fullmatch(text)
    if fraction is None:
        return as_float(text)
    above, below = (float("".join(part.split())) for part in fraction.groups())
    return above / below if below else None


def alternatives(reference: str) -> list[str]:
    """References of which any will do: those of a list as Python or JSON writes it, or else the text itself."""
    try:
        return cells.listed(reference)
    except cells.RowError:
        return [reference]


def offered(problem: Problem) -> dict[str, str]:
    """Options by letter, also where the question itself lists them and ``meta["options"]`` repeats them."""
    letters = problem.meta.get("letters") or ascii_uppercase  # others than A, B, C where the options have gaps
    return dict(zip(letters, problem.choices or map(str, problem.meta.get(OPTIONS) or ()), strict=False))


def not_in(question: str, options: Sequence[str]) -> bool:
    """Whether a question does not list its options itself, so that they must be shown with it."""
    return not all(option in question for option in options)


def identity(row: Row, *columns: str) -> str:
    """A row's id: of ``index``, else of the first of these columns that has one."""
    return cells.text(row, "index", *columns)


def entries(row: Row, column: str) -> tuple[str, ...]:
    """A cell's list; empty where the cell is.

    Raises:
        RowError: It looks like a list and is none.
    """
    value = cells.optional(row, column)
    return tuple(cells.listed(value)) if value is not None else ()


def letter_of(options: Sequence[str], text: str) -> str | None:
    """Letter of the option that is this text."""
    return ascii_uppercase[list(options).index(text)] if text in options else None
