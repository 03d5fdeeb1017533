"""Sets of large images: HRBench (mean over cyclic permutations) and MME-RealWorld (first letter, no judge)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from thyme.eval.benchmarks import cells, choice, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row
from thyme.eval.benchmarks.free_text import scored_by, unboxed
from thyme.eval.items import ItemResult
from thyme.types import ImageRecord, Problem, Score

# --- HRBench ----------------------------------------------------------------------------------------------------------

CYCLE = "cycle"
"""Fact: which of the orders of the options."""
GROUP = "group"
"""Fact: the question, the same in every order of its options."""
_hr_row = choice.choice_problem(cycle="cycle_category")


def _hr_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    problem = _hr_row(row, images)
    same = (problem.question.strip(), *sorted(problem.choices), *(image.id for image in images))
    group = hashlib.blake2b("\0".join(same).encode(), digest_size=8).hexdigest()
    return problem.model_copy(update={"meta": {**problem.meta, GROUP: group}})


def _hr_figures(items: Sequence[ItemResult]) -> Figures:
    """``overall``, ``single`` and ``cross``: accuracy in each order of the options, then the mean over the orders."""
    orders = figures.split_by(items, lambda item: str(item.meta.get(CYCLE) or "0")).values()
    categories = [figures.by_category(order) for order in orders]
    return {
        "overall": figures.mean(figures.accuracy(order) for order in orders),
        "single": figures.mean(one.get("single") for one in categories),
        "cross": figures.mean(one.get("cross") for one in categories),
    }


HR_4K = Benchmark(
    name="HRBench4K",
    title="HR-Bench 4K",
    to_problem=_hr_problem,
    score=choice.score_choice,
    figures=_hr_figures,
    headline="overall",
    cluster=lambda item: str(item.meta.get(GROUP) or item.problem),
    judge=choice.JUDGE,
    rows=800,
    files=("hr_bench_4k.tsv", "hr_bench_4k.parquet"),
    md5="f6b041b03d49543494b8a56d2e35be65",
    source="hf.co/datasets/DreamMr/HR-Bench",
    notes="200 questions in four cyclic orders of their options; the mean over the orders, not all four right.",
)

HR_8K = replace(
    HR_4K,
    name="HRBench8K",
    title="HR-Bench 8K",
    files=("hr_bench_8k.tsv", "hr_bench_8k.parquet"),
    md5="274c9c7f89329b804a4723178a00219c",
)

# --- MME-RealWorld ----------------------------------------------------------------------------------------------------

_ANNOUNCEMENTS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)
_OPTION_LETTERS = "ABCDE"
_LETTERED = re.compile(r"\s*[(（]([A-E])[)）]\s?(.*)", re.DOTALL)
TASKS = ("Perception", "Reasoning")
"""First part of the category."""
DOMAIN = "domain"
"""Fact: second part of the category."""


def first_letter(answer: str) -> str:
    """The first capital A to E of an answer, wherever it stands, once an announcement is taken off; empty for none.

    An answer without one that is part of ``(a)``, ..., ``(e)`` in lower case means that option (the first that fits).
    """
    said = answer.strip()
    for announcement in _ANNOUNCEMENTS:
        said = said.replace(announcement, "")
    if (found := re.search(f"[{_OPTION_LETTERS}]", said)) is not None:
        return found.group()
    if len(said.split()) > 10:
        return ""
    return next((letter for letter in _OPTION_LETTERS if said.lower() in f"({letter.lower()})"), "")


@scored_by
def _score_first_letter(problem: Problem, answer: str) -> Score:
    letter = first_letter(unboxed(answer))
    return Score(value=float(letter == problem.answer), note=f"letter {letter or 'none'}")


def _rw_options(row: Row) -> dict[str, str]:
    """Columns A to E, or else ``multi-choice options``: a list, or lines, of ``(A) text``.

    Some brackets are full-width. Entries of a list are options in this order, whatever they begin with.
    """
    if options := cells.options(row):
        return options
    stated = row.get("multi-choice options")
    if isinstance(stated, str):
        lines = cells.listed(stated)
        if len(lines) == 1:
            split = (_LETTERED.fullmatch(line) for line in lines[0].splitlines())
            return {found.group(1): found.group(2) for found in split if found}
    else:
        lines = [str(line) for line in stated or ()]
    texts = [found.group(2) if (found := _LETTERED.fullmatch(line)) else line.strip() for line in lines]
    return dict(zip(_OPTION_LETTERS, texts, strict=False))


def _rw_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    options = _rw_options(row)
    if not options:
        raise cells.RowError("no options: neither columns A to E nor 'multi-choice options' hold any")
    task, _, domain = cells.text(row, "category").partition("/")
    if task.capitalize() not in TASKS:
        raise cells.RowError(f"the category {task!r} is neither of {', '.join(TASKS)}")
    return Problem(
        id=cells.text(row, "index"),
        question=cells.text(row, "question"),
        images=images,
        answer=choice.reference(row, options),
        choices=tuple(options.values()),
        kind=task.capitalize(),
        meta={DOMAIN: domain, **cells.facts(row, l2_category="l2-category")},
    )


def _rw_figures(items: Sequence[ItemResult]) -> Figures:
    """``overall``, ``perception``, ``reasoning``, and each domain as ``Perception/OCR with Complex Context``."""
    tasks = figures.by_category(items)
    domains = figures.by_category(items, lambda item: f"{item.kind}/{item.meta.get(DOMAIN, '')}")
    return {
        "overall": figures.accuracy(items),
        "perception": tasks.get("Perception"),
        "reasoning": tasks.get("Reasoning"),
        **domains,
    }


REAL_WORLD = Benchmark(
    name="MME-RealWorld",
    title="MME-RealWorld",
    to_problem=_rw_problem,
    score=_score_first_letter,
    figures=_rw_figures,
    headline="overall",
    md5="fd341132362fc41e707cb37ee6e4dcda",
    source="hf.co/datasets/yifanzhang114/MME-RealWorld-Base64",
    notes="The first letter A to E of the answer counts, no judge; all figures are means over questions.",
)

REAL_WORLD_LITE = replace(
    REAL_WORLD,
    name="MME-RealWorld-Lite",
    title="MME-RealWorld-Lite",
    rows=1919,
    files=("mme_realworld_lite.tsv",),
    md5="4c17057d7d3b6c4a0d4397c3dae0881c",
)

REAL_WORLD_CN = replace(
    REAL_WORLD,
    name="MME-RealWorld-CN",
    title="MME-RealWorld-CN",
    rows=None,
    md5="daaa763d52a760a38606d5dedb3fe444",
)

BENCHMARKS = {one.name: one for one in (HR_4K, HR_8K, REAL_WORLD, REAL_WORLD_LITE, REAL_WORLD_CN)}
