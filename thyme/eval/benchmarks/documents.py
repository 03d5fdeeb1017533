"""OCRBench: an answer is right if it contains one of the references (Liu et al. 2023), as VLMEvalKit computes it."""

from __future__ import annotations

from collections.abc import Sequence

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row
from thyme.eval.benchmarks.free_text import alternatives, identity, scored_by
from thyme.eval.items import ItemResult
from thyme.types import ImageRecord, Problem, Score

FORMULAS = "Handwritten Mathematical Expression Recognition"
"""The one category in which case matters and spaces do not."""
RECOGNITION = "Text Recognition"
"""What the six categories of recognition are reported as, beside each of them."""
_RECOGNISED = frozenset(
    f"{kind} Recognition"
    for kind in ("Regular Text", "Irregular Text", "Artistic Text", "Handwriting", "Digit String", "Non-Semantic Text")
)


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of ``index``, ``question``, ``answer`` (a list of alternatives), ``category`` or ``question_type``."""
    return Problem(
        id=identity(row, "id", "question_id"),
        question=cells.text(row, "question"),
        images=images,
        answer=cells.optional(row, "answer"),
        kind=cells.optional(row, "category") or cells.text(row, "question_type"),
    )


def contains(category: str, reference: str, answer: str) -> bool:
    """Whether a reference is part of an answer: formulas sign by sign without spaces, the rest in any case."""
    if category == FORMULAS:
        return _signs(reference) in _signs(answer)
    return _folded(reference) in _folded(answer)


def _signs(text: str) -> str:
    return text.strip().replace("\n", "").replace(" ", "")


def _folded(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _compare(problem: Problem, answer: str) -> Score:
    right = any(contains(problem.kind, reference, answer) for reference in alternatives(problem.answer or ""))
    return Score(value=float(right), note="contains")


def _figures(items: Sequence[ItemResult]) -> Figures:
    """``overall`` is the published final score over 1000; ``Text Recognition`` its six categories together."""
    recognition = figures.accuracy(item for item in items if item.kind in _RECOGNISED)
    return {"overall": figures.accuracy(items), RECOGNITION: recognition, **figures.by_category(items)}


BENCHMARKS = {
    "OCRBench": Benchmark(
        name="OCRBench",
        title="OCRBench",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=_figures,
        headline="overall",
        rows=1000,
        md5="e953d98a987cc6e26ef717b61260b778",
        source="arXiv 2305.07895; VLMEvalKit OCRBench",
        notes="Containment: a long answer that also holds the reference is right. Published out of 1000; here a share.",
    )
}
"""By name."""
