"""Any other file in VLMEvalKit's layout: multiple choice where a row has options, else plain answers."""

from __future__ import annotations

from pathlib import Path

from thyme.eval.benchmarks import choice, figures, own
from thyme.eval.benchmarks.base import Benchmark, Row, left_to_judge
from thyme.eval.benchmarks.free_text import scored_by
from thyme.rewards.answer import score_answer
from thyme.types import ImageRecord, Problem, Score


@scored_by
def _score(problem: Problem, answer: str) -> Score:
    """As the published multiple-choice sets, or by the rules of the rewards; what they call wrong, a judge may see."""
    if problem.choices:
        return choice.score_choice(problem, answer)
    score = score_answer(problem, answer)
    return score if score.value else left_to_judge(f"not the reference by rule {score.note}")


_TABLE = choice.choice_problem(l2_category="l2-category")


def _problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    return own.to_problem(row, images) if own.is_own(row) else _TABLE(row, images)


def custom(path: Path) -> Benchmark:
    """The benchmark of a file that no registry knows, named by the file.

    Columns: ``index``, ``question``, ``image`` or ``image_path``, ``answer``; ``A``, ``B``, ... and ``category``,
    ``l2-category`` where there are any. Or this package's own problems (`thyme.eval.benchmarks.own`).
    """
    return Benchmark(
        name=path.stem or path.name,
        title=path.stem or path.name,
        to_problem=_problem,
        score=_score,
        figures=figures.overall(figures.kind, figures.fact("l2_category")),
        headline="overall",
        judge=choice.JUDGE,
        mathematics=True,
        notes="A file of your own: letters for multiple choice, text and numbers otherwise.",
    )
