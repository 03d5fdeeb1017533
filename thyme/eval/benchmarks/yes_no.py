"""HallusionBench: yes or no, with all questions of a figure, and all figures of a question, to be right together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row, left_to_judge
from thyme.eval.benchmarks.free_text import scored_by, unboxed
from thyme.eval.items import ItemResult
from thyme.types import ImageRecord, Problem, Score

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_LONE_POINT = re.compile(r"(?<!\d)\.(?!\d)")
_MOST_POINTS = 32
"""Points that are taken off; the published code means a flag by this number and gets a count."""


def yes_or_no(answer: str) -> str | None:
    """``Yes`` or ``No``, whichever is a word of the answer; None for neither or both.

    Punctuation becomes a space where no space is beside it anywhere in the answer, else nothing (as in VQA's scoring).
    """
    said = answer.lower()
    plain = said
    for mark in _MARKS:
        drop = f"{mark} " in said or f" {mark}" in said or _THOUSANDS.search(said)
        plain = plain.replace(mark, "" if drop else " ")
    words = _LONE_POINT.sub("", plain, count=_MOST_POINTS).split()
    if ("yes" in words) == ("no" in words):
        return None
    return "Yes" if "yes" in words else "No"


@scored_by
def _score(problem: Problem, answer: str) -> Score:
    said = yes_or_no(unboxed(answer))
    if said is None:
        return left_to_judge("neither yes nor no recognised")
    return Score(value=float(said == problem.answer), note=said)


_INDEX = ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")
"""Columns of Hugging Face's layout, in the order of VLMEvalKit's index."""
_ANSWERS = {"0": "No", "1": "Yes"}


def _to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """A row; its index is ``category_l2-category_input_set_figure_question``, such as ``VD_illusion_1_0_1_0``."""
    index = cells.optional(row, "index") or "_".join(cells.text(row, column) for column in _INDEX)
    parts = index.split("_")
    if len(parts) < 6:
        raise cells.RowError(f"the index {index!r} does not name set, figure and question, such as VD_illusion_1_0_1_0")
    return Problem(
        id=index,
        question=cells.text(row, "question"),
        images=images,
        answer=cells.optional(row, "answer") or _ANSWERS.get(cells.optional(row, "gt_answer") or ""),
        kind=cells.optional(row, "category") or parts[0],
        meta={
            "l2_category": cells.optional(row, "l2-category") or parts[1],
            "set": parts[3],
            "figure": parts[4],
            "question": parts[5],
            "wanted": "Yes or No",
        },
    )


def _set(item: ItemResult) -> str:
    return f"{item.meta.get('l2_category')}_{item.meta.get('set')}"


def _figure(item: ItemResult) -> str:
    return f"{_set(item)}_{item.meta.get('figure')}"


def _question(item: ItemResult) -> str:
    return f"{_set(item)}_{item.meta.get('question')}"


def _three(items: Sequence[ItemResult]) -> dict[str, float | None]:
    """``aAcc`` of answers, ``fAcc`` of figures, ``qAcc`` of questions."""
    return {
        "aAcc": figures.accuracy(items),
        "fAcc": figures.all_right(items, _figure),
        "qAcc": figures.all_right(items, _question),
    }


def _figures(items: Sequence[ItemResult]) -> Figures:
    """The three of all items, ``overall``, their mean, and the three of each category (``VD/aAcc``)."""
    three = _three(items)
    known = None if None in three.values() else figures.mean(three.values())
    found: dict[str, float | None] = {"overall": known, **three}
    for key in (figures.kind, figures.fact("l2_category")):
        for name, part in figures.split_by(items, key).items():
            found |= {f"{name}/{figure}": value for figure, value in _three(part).items()}
    return found


BENCHMARKS = {
    "HallusionBench": Benchmark(
        name="HallusionBench",
        title="HallusionBench",
        to_problem=_to_problem,
        score=_score,
        figures=_figures,
        headline="overall",
        cluster=_set,
        judge="extract",
        rows=951,
        md5="0c23ac0dc9ef46832d7a24504f2a0c7c",
        source="opencompass.openxlab.space/utils/VLMEval/HallusionBench.tsv",
        notes="aAcc of answers, fAcc of figures, qAcc of questions; overall is their mean. Rows without image are "
        "left out.",
    )
}
