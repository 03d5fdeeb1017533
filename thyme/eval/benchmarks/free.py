"""MM-Vet: free answers that a judge grades in tenths (Yu et al. 2023). There are no rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row, left_to_judge
from thyme.eval.benchmarks.free_text import identity, scored_by
from thyme.eval.items import ItemResult
from thyme.rewards.material import of_comparison
from thyme.rewards.verdicts import Material
from thyme.types import ImageRecord, Problem

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
"""Recognition, reading, knowledge, writing, place, mathematics; a question needs one or several."""


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of ``index``, ``question``, ``answer`` (with ``<AND>`` and ``<OR>``), ``category`` or ``capability``."""
    return Problem(
        id=identity(row, "question_id"),
        question=cells.text(row, "question"),
        images=images,
        answer=cells.optional(row, "answer"),
        kind=cells.optional(row, "category") or cells.text(row, "capability"),
    )


def asked(problem: Problem, answer: str) -> Mapping[str, Material]:
    """Question, reference and answer. The marks of the reference are written so that none of them is a tag."""
    reference = (problem.answer or "").replace("<AND>", " [AND] ").replace("<OR>", " [OR] ")
    return of_comparison(problem.question, " ".join(reference.split()), answer)


def _figures(items: Sequence[ItemResult]) -> Figures:
    """``overall``, and the mean over the questions that need a capability."""
    parts = {name: figures.accuracy(item for item in items if name in item.kind) for name in CAPABILITIES}
    return {"overall": figures.accuracy(items), **parts}


def _benchmark(name: str, title: str, md5: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        to_problem=to_problem,
        score=scored_by(lambda problem, answer: left_to_judge("free answer", None)),
        figures=_figures,
        headline="overall",
        judge="grade",
        asked=asked,
        md5=md5,
        source=f"arXiv 2308.02490; VLMEvalKit {name}",
        notes="Graded by a judge; without one nothing is scored. The published one is GPT-4 (VLMEvalKit: gpt-4-turbo); "
        "grades of another are not comparable with its.",
    )


BENCHMARKS = {
    "MMVet": _benchmark("MMVet", "MM-Vet", "748aa6d4aa9d4de798306a63718455e3"),
    "MMVet_Hard": _benchmark("MMVet_Hard", "MM-Vet hard", "63a598819a936a2e77c410a78a21ff16"),
}
"""By name."""
