"""MVToolBench (Guo et al. 2025): pictures that were turned or mirrored, with a small target; several tools in turn."""

from __future__ import annotations

import re
from typing import Any

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Row, left_to_judge
from thyme.eval.benchmarks.free_text import as_number, scored_by
from thyme.rewards.answer import normalise, score_answer
from thyme.types import ImageRecord, Problem, Score

CLOSE = 1e-4
"""Two numbers are the same if they differ by no more."""
_CHOICE = re.compile(r"\b([A-D])\b")
_NUMBER = re.compile(r"[-+]?\d*\.?\d+")
_MARK = re.compile(r"<image>\s*")


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of ``extra_info`` (``question``, ``answer``, ``bbox``, ``transform``, ``dataset_name``, ``index``).

    Where that lacks them, the question is the last message of ``prompt``, and the reference that of ``reward_model``.
    Boxes are pixels of the picture as it is given: the published example's is as tall as its word is wide, and that
    picture is turned by 90 degrees.
    """
    extra = cells.mapping(row.get("extra_info"))
    changes = tuple(str(change) for change in extra.get("transform") or ())
    reference = extra.get("answer", cells.mapping(row.get("reward_model")).get("ground_truth"))
    identity = cells.optional(row, "index") or cells.text(extra, "index")
    box = extra.get("bbox")
    return Problem(
        id=identity,
        question=_MARK.sub("", str(extra.get("question") or _asked(row.get("prompt")))).strip(),
        images=images,
        answer=None if reference is None else str(reference),
        kind="+".join(changes),
        meta={
            **({"boxes": [[round(float(edge)) for edge in box]]} if box is not None and len(box) == 4 else {}),
            "changes": list(changes),
            "from": str(extra.get("dataset_name") or cells.optional(row, "data_source") or ""),
        },
    )


def _asked(prompt: Any) -> str:
    if not isinstance(prompt, list) or not prompt:
        raise cells.RowError("neither 'extra_info' nor 'prompt' holds a question")
    return str(cells.mapping(prompt[-1]).get("content", ""))


def _compare(problem: Problem, answer: str) -> Score:
    """Right if it is the reference but for case and spacing, or ends in its letter or number; else a judge compares."""
    reference = (problem.answer or "").strip()
    if normalise(answer) == normalise(reference) or _same_number(answer, reference):
        return Score(value=1.0, note="equal")
    pattern = _CHOICE if reference.upper() in {"A", "B", "C", "D"} else _NUMBER
    found = pattern.findall(answer.upper())
    if found and (found[-1] == reference.upper() or _same_number(found[-1], reference)):
        return Score(value=1.0, note="last letter or number")
    return left_to_judge("another text", score_answer(problem, answer).value)


def _same_number(one: str, other: str) -> bool:
    first, second = as_number(one), as_number(other)
    return first is not None and second is not None and abs(first - second) <= CLOSE


BENCHMARKS = {
    "MVToolBench": Benchmark(
        name="MVToolBench",
        title="MVToolBench",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=figures.overall(figures.kind),
        headline="overall",
        judge="result",
        files=("mvtoolbench.parquet",),
        source="arXiv 2512.03746; ByteDance-BandAI/CodeVision; Hugging Face kkwok/MVToolBench",
        notes="Published: equality or the last letter or number of the answer, then a judge (not named). "
        "The target's box is known, so what a crop covers can be measured.",
    )
}
"""By name."""
