"""MathVerse (Zhang et al. 2024), the questions that stand in the picture: a judge compares answer and reference."""

from __future__ import annotations

import re
from collections.abc import Mapping

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Row, left_to_judge
from thyme.eval.benchmarks.choice import infer_option
from thyme.eval.benchmarks.free_text import as_number, identity, scored_by
from thyme.rewards.answer import score_answer
from thyme.rewards.material import of_comparison
from thyme.rewards.verdicts import Material
from thyme.types import ImageRecord, Problem, Score

CHOICE = "multi-choice"
_OPTION = re.compile(r"^\s*\(?([A-H])\s*[:.)]\s*(.*\S)\s*$", re.MULTILINE)
_NO_TEXT = dict.fromkeys("ABCD", "\0")
"""Options of which only the letters are known."""


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of ``question``, ``question_for_eval`` (what the picture asks), ``answer``, ``question_type``, ``metadata``."""
    metadata = cells.mapping(row.get("metadata"))
    return Problem(
        id=identity(row, "sample_index"),
        question=cells.text(row, "question", "query_wo"),
        images=images,
        answer=cells.optional(row, "answer"),
        kind=str(metadata.get("subject", "")),
        meta={
            **cells.facts(row, question_type="question_type", in_picture="question_for_eval"),
            "subfield": str(metadata.get("subfield", "")),
        },
    )


def asked(problem: Problem, answer: str) -> Mapping[str, Material]:
    """What the picture asks in words, reference and answer."""
    return of_comparison(str(problem.meta.get("in_picture") or problem.question), problem.answer or "", answer)


def _compare(problem: Problem, answer: str) -> Score:
    reference = (problem.answer or "").strip()
    if answer == reference:
        return Score(value=1.0, note="text")
    if problem.meta.get("question_type") == CHOICE and reference in _letters(problem):
        letter = infer_option(answer, _letters(problem))
        if letter is None:
            return left_to_judge("no option recognised")
        return Score(value=float(letter == reference), note=f"option {letter}")
    expected, given = as_number(reference), as_number(answer)
    if expected is not None and expected == given:
        return Score(value=1.0, note="number")
    return left_to_judge("another text", score_answer(problem, answer).value)


def _letters(problem: Problem) -> dict[str, str]:
    """Options by letter, from the words of the picture; letters alone where it has none that can be read."""
    found = dict(_OPTION.findall(str(problem.meta.get("in_picture", ""))))
    return found if len(found) > 1 else _NO_TEXT


BENCHMARKS = {
    "MathVerse_MINI_Vision_Only": Benchmark(
        name="MathVerse_MINI_Vision_Only",
        title="MathVerse mini, vision only",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=figures.overall(figures.kind, figures.fact("subfield")),
        headline="overall",
        judge="result",
        asked=asked,
        mathematics=True,
        rows=788,
        files=("MathVerse_MINIVOnly.tsv",),
        md5="68a11d4680014ac881fa37adeadea3a4",
        source="arXiv 2403.14624; VLMEvalKit MathVerse_MINI_Vision_Only",
        notes="Published: a judge extracts every answer, and a second prompt compares what is not the reference to the "
        "letter (VLMEvalKit: gpt-4o-mini). Here the answer is marked already; rules and math-verify decide where "
        "they can, and one prompt compares the rest.",
    )
}
"""By name."""
