"""MATH-Vision (Wang et al. 2024): an option, or an expression with the value of the reference, as in VLMEvalKit."""

from __future__ import annotations

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Row, left_to_judge
from thyme.eval.benchmarks.choice import infer_option
from thyme.eval.benchmarks.free_text import OPTIONS, as_number, entries, identity, not_in, offered, scored_by
from thyme.rewards.answer import score_answer
from thyme.types import ImageRecord, Problem, Score

CLOSE = 1e-6
"""Two values are the same if they differ by less."""


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of VLMEvalKit's columns (``choices``, ``category``), or those of the authors (``options``, ``subject``)."""
    question = cells.text(row, "question")
    options = entries(row, "choices") or entries(row, "options")
    shown = not_in(question, options)
    level = cells.facts(row, level="level")
    return Problem(
        id=identity(row, "id"),
        question=question,
        images=images,
        answer=cells.optional(row, "answer"),
        choices=options if shown else (),
        kind=cells.optional(row, "category") or cells.optional(row, "subject") or "",
        meta={**level, **({} if shown or not options else {OPTIONS: list(options)}), "wanted": _wanted(options)},
    )


def _wanted(options: tuple[str, ...]) -> str:
    return "the letter of the option" if options else "the value alone, as a number or an expression"


def _compare(problem: Problem, answer: str) -> Score:
    if options := offered(problem):
        letter = infer_option(answer, options)
        if letter is None:
            return left_to_judge("no option recognised")
        return Score(value=float(letter == problem.answer), note=f"option {letter}")
    reference = problem.answer or ""
    if answer.strip().lower() == reference.strip().lower():
        return Score(value=1.0, note="text")
    expected, given = as_number(reference), as_number(answer)
    if expected is None or given is None:
        return left_to_judge("another expression", score_answer(problem, answer).value)
    return Score(value=float(abs(given - expected) < CLOSE), note="number")


BENCHMARKS = {
    "MathVision_MINI": Benchmark(
        name="MathVision_MINI",
        title="MATH-Vision mini",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=figures.overall(figures.kind),
        headline="overall",
        judge="extract",
        mathematics=True,
        rows=304,
        md5="060fe4fa5d868987ce179307bd5f8a33",
        source="arXiv 2402.14804; VLMEvalKit MathVision_MINI",
        notes="Expressions are compared by math-verify (VLMEvalKit: latex2sympy), then a judge extracts the answer "
        "from what is none. The authors' own scorer rounds to two digits and also takes the text of the right option.",
    )
}
"""By name."""
