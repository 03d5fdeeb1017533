"""TIR-Bench (Li et al. 2025): thirteen tasks that want the picture turned, cut or measured; scored task by task.

The published scorer takes what a judge extracted; here it is what the model answered, and a judge extracts only where
that is not of the task's form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Row, left_to_judge
from thyme.eval.benchmarks.choice import infer_option
from thyme.eval.benchmarks.free_text import as_float, scored_by
from thyme.rewards.answer import NUMBER, score_answer
from thyme.types import ImageRecord, Problem, Score

LETTERS = "ABCDEFGHIJ"
CORRECTED = {"60.jpg": "mobi", "62.jpg": "aires"}
"""References of the task ``ocr`` that the published scorer replaces, by the end of the picture's name."""
_OPTION = re.compile(r"(?:^|\n|\s)\(?([A-J])[.):]\s*([^\n]+?)(?=\s+\(?[B-J][.):]\s|\s*(?:\n|$))")
_WORDS = re.compile(r"[A-Za-z*:\s]+")
_LIST = re.compile(r"[\d\s,，\[\](){};.*]*")
_RUN = re.compile(r"[\d\s,，]+")
_PAIR = re.compile(r"\b(\d+)\s*,\s*(\d+)\b")


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of ``task``, ``prompt``, ``answer``, ``image_1``, ``image_2``, ``meta_data`` and an ``id`` unique in its task."""
    task = cells.text(row, "task", "category")
    identity = cells.optional(row, "index") or cells.text(row, "id", "question_id")
    reference = cells.optional(row, "answer")
    if task == "ocr":
        name = cells.optional(row, "image_1") or ""
        reference = next((text for end, text in CORRECTED.items() if end in name), reference)
    side = _side(row.get("meta_data", row.get("metadata")))
    return Problem(
        id=f"{task}-{identity}",
        question=cells.text(row, "prompt"),
        images=images,
        answer=reference,
        kind=task,
        meta={"wanted": _wanted(task, reference or ""), **({} if side is None else {"side": side})},
    )


def _side(value: Any) -> int | None:
    """Pieces in a row of a jigsaw puzzle."""
    side = cells.mapping(value).get("difficulty")
    return None if side is None else int(side)


def _wanted(task: str, reference: str) -> str:
    if task == "jigsaw":
        return "the numbers of the pieces, row by row, separated by commas"
    if task == "spot_difference" and as_float(reference) is None:
        return "the numbers of all the places that differ, separated by commas"
    if task == "word_search" and as_float(reference) is None:
        return "two whole numbers separated by a comma"
    if reference.isalpha():
        return "the letter of the option" if len(reference) == 1 else "the letters of all the right options"
    return "the number alone"


# --- by task ----------------------------------------------------------------------------------------------------------


def _compare(problem: Problem, answer: str) -> Score:
    answer = answer if problem.kind == "ocr" else answer.replace("*", "").strip()
    return _TASKS.get(problem.kind, _by_reference)(problem, answer)


def _reading(problem: Problem, answer: str) -> Score:
    """The answer holds the word; case matters."""
    return Score(value=float((problem.answer or "") in answer), note="contains")


def _place(problem: Problem, answer: str) -> Score:
    """A number, or row and column."""
    expected = _PAIR.search(problem.answer or "")
    if expected is None:
        return _by_reference(problem, answer)
    given = _PAIR.search(answer)
    if given is None:
        return left_to_judge("no pair of numbers")
    return Score(value=float(_ints(given.group()) == _ints(expected.group())), note="pair")


def _differences(problem: Problem, answer: str) -> Score:
    """A number; or a list, of which the intersection over union with the reference counts."""
    if as_float(problem.answer or "") is not None:
        return _by_reference(problem, answer)
    share = overlap(_ints(answer), _ints(problem.answer or ""))
    if _LIST.fullmatch(answer) and _ints(answer):
        return Score(value=share, note="overlap")
    return left_to_judge("no plain list", share)


def _jigsaw(problem: Problem, answer: str) -> Score:
    """The share of the pieces that are in their place."""
    pieces = int(problem.meta.get("side", 0)) ** 2
    expected, given = (_first_run(text, pieces) for text in (problem.answer or "", answer))
    if expected is None:
        return Score(value=None, note="the reference is no order of the pieces")
    if given is None:
        return left_to_judge(f"no order of {pieces} pieces")
    return Score(value=sum(a == b for a, b in zip(expected, given, strict=True)) / pieces, note="pieces in place")


def _by_reference(problem: Problem, answer: str) -> Score:
    """What the reference is decides: an option, several, or a number."""
    reference = problem.answer or ""
    if reference.isalpha():
        return _options(problem, reference, answer)
    expected = as_float(reference)
    if expected is None:
        return score_answer(problem, answer)
    given = as_float(_WORDS.sub("", answer))
    if given is None or len(NUMBER.findall(answer)) > 1:
        return left_to_judge("no single number", score_answer(problem, answer).value)
    return Score(value=float(given == expected), note="number")


def _options(problem: Problem, reference: str, answer: str) -> Score:
    if not set(reference) <= set(LETTERS):
        return score_answer(problem, answer)
    if len(reference) > 1:
        if not re.fullmatch(rf"(?:[{LETTERS}]|[\s,;.&()]|and)+", answer):
            return left_to_judge("no plain letters", 0.0)
        given = sorted(sign for sign in answer if sign in LETTERS)
        return Score(value=float(given == sorted(reference)), note="options")
    options = dict(_OPTION.findall(problem.question)) or dict.fromkeys(LETTERS, "\0")
    letter = answer if answer in tuple(LETTERS) else infer_option(answer, options)
    if letter is None:
        return left_to_judge("no option recognised")
    return Score(value=float(letter == reference), note=f"option {letter}")


_TASKS: Mapping[str, Callable[[Problem, str], Score]] = {
    "ocr": _reading,
    "word_search": _place,
    "spot_difference": _differences,
    "jigsaw": _jigsaw,
}


def _ints(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text) if len(digits) <= 18]  # Python refuses very long ones


def _first_run(text: str, count: int) -> list[int] | None:
    """The first run of numbers that is just so long."""
    return next((numbers for run in _RUN.findall(text) if len(numbers := _ints(run)) == count), None)


def overlap(given: list[int], expected: list[int]) -> float:
    """Intersection over union of two sets of numbers; 1 where both are empty."""
    union = {*given, *expected}
    return len({*given} & {*expected}) / len(union) if union else 1.0


BENCHMARKS = {
    "TIR-Bench": Benchmark(
        name="TIR-Bench",
        title="TIR-Bench",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=figures.overall(figures.kind),
        headline="overall",
        judge="extract",
        mathematics=True,
        rows=1215,
        files=("TIR-Bench.json",),
        source="arXiv 2511.01833; agents-x-project/TIR-Bench",
        notes="Spot-the-difference lists score by overlap, jigsaws by pieces in place, the rest right or wrong. The "
        "published scorer takes the option nearest in spelling where none is named, mostly A; here that is wrong.",
    )
}
"""By name."""
