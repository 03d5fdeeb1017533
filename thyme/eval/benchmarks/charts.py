"""ChartQA: relaxed accuracy (Masry et al. 2022, section 5.1), as VLMEvalKit computes it since September 2025.

Before, and when the paper's figures were made, it took the two for each other: five percent of the answer.
"""

from __future__ import annotations

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Row
from thyme.eval.benchmarks.free_text import alternatives, as_float, identity, scored_by
from thyme.types import ImageRecord, Problem, Score

TOLERANCE = 0.05
"""Relative error that a number may have."""
REQUEST = "\nAnswer with one word, one number or a short phrase, nothing around it."
"""Ends each question. Words are compared exactly, so the published runs ask for short answers, too."""
HUMAN, AUGMENTED = "human", "augmented"
"""The two halves: questions by people, and by a model."""


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of ``index``, ``question``, ``answer`` (a text or a list of alternatives), ``split`` (lmms-eval: ``type``)."""
    half = (cells.optional(row, "split") or cells.optional(row, "type") or "").lower()
    return Problem(
        id=identity(row, "id", "question_id"),
        question=cells.text(row, "question") + REQUEST,
        images=images,
        answer=cells.optional(row, "answer"),
        kind=next((name for name in (HUMAN, AUGMENTED) if name in half), half),
    )


def relaxed(reference: str, answer: str) -> bool:
    """Whether two numbers differ by at most `TOLERANCE` of the reference, or two texts only in case.

    ``45%`` is 0.45, not 45; a number with a unit or a comma is a text; a reference of 0 is one, too, since nothing is
    within five percent of it.
    """
    expected, given = _value(reference), _value(answer)
    if given is not None and expected:
        return abs(given - expected) / abs(expected) <= TOLERANCE
    return answer.lower() == reference.lower()


def _value(text: str) -> float | None:
    if text.endswith("%"):
        value = as_float(text.rstrip("%"))
        return None if value is None else value / 100.0
    return as_float(text)


def _compare(problem: Problem, answer: str) -> Score:
    right = any(relaxed(reference, answer) for reference in alternatives(problem.answer or ""))
    return Score(value=float(right), note="relaxed")


BENCHMARKS = {
    "ChartQA_TEST": Benchmark(
        name="ChartQA_TEST",
        title="ChartQA",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=figures.overall(figures.kind),
        headline="overall",
        rows=2500,
        md5="c902e0aa9be5582a7aad6dcf52734b42",
        source="arXiv 2203.10244; VLMEvalKit ChartQA_TEST",
        notes="Relaxed accuracy: numbers within 5 % of the reference (VLMEvalKit until September 2025: of the answer), "
        "texts equal but for case. No judge.",
    )
}
"""By name."""
