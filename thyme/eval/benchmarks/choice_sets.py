"""Multiple-choice sets that are a plain mean, over all and by category: V*, RealWorldQA, MMStar, BLINK."""

from __future__ import annotations

from collections.abc import Sequence

from thyme.eval.benchmarks import choice, figures
from thyme.eval.benchmarks.base import Benchmark, Figures
from thyme.eval.items import ItemResult

_VSTAR_NAMES = {"direct_attributes": "attribute", "relative_position": "spatial"}


def _vstar_figures(items: Sequence[ItemResult]) -> Figures:
    """``attribute``, ``spatial``, and ``overall``, the mean over all items."""
    parts = figures.by_category(items)
    named = {name: parts.get(category) for category, name in _VSTAR_NAMES.items()}
    return {"overall": figures.accuracy(items), **named}


VSTAR = Benchmark(
    name="VStarBench",
    title="V*",
    to_problem=choice.choice_problem(),
    score=choice.score_choice,
    figures=_vstar_figures,
    headline="overall",
    judge=choice.JUDGE,
    rows=191,
    md5="b18854d7075574be06b631cd5f7d2d6a",
    source="hf.co/datasets/xjtupanda/VStar_Bench",
    notes="115 questions on attributes, 76 on relative position; overall is the mean over questions.",
)

REAL_WORLD_QA = Benchmark(
    name="RealWorldQA",
    title="RealWorldQA",
    to_problem=choice.choice_problem(),
    score=choice.score_choice,
    figures=figures.overall(figures.kind),
    headline="overall",
    judge=choice.JUDGE,
    rows=765,
    md5="4de008f55dc4fd008ca9e15321dc44b7",
    source="opencompass.openxlab.space/utils/VLMEval/RealWorldQA.tsv",
)

MM_STAR = Benchmark(
    name="MMStar",
    title="MMStar",
    to_problem=choice.choice_problem(l2_category="l2-category"),
    score=choice.score_choice,
    figures=figures.overall(figures.kind, figures.fact("l2_category")),
    headline="overall",
    judge=choice.JUDGE,
    rows=1500,
    md5="e1ecd2140806c1b1bbf54b43372efb9e",
    source="opencompass.openxlab.space/utils/VLMEval/MMStar.tsv",
)

BLINK = Benchmark(
    name="BLINK",
    title="BLINK",
    to_problem=choice.choice_problem(),
    score=choice.score_choice,
    figures=figures.overall(figures.kind),
    headline="overall",
    judge=choice.JUDGE,
    rows=1901,
    files=("BLINK.fixed.tsv",),
    md5="d5e8af148b10ac69f535ff7b23f3f989",
    source="hf.co/datasets/BLINK-Benchmark/BLINK",
    notes="The validation split; several images a question. Overall is the mean over questions, not over tasks. "
    "Answers to Relative_Reflectance (134 questions), most of them wrong, were corrected after the paper: its figures "
    "belong to the file with MD5 3b6649b6a662184ea046908e5506260e.",
)

BENCHMARKS = {one.name: one for one in (VSTAR, REAL_WORLD_QA, MM_STAR, BLINK)}
