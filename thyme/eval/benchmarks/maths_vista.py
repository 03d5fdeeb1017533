"""MathVista (Lu et al. 2024): what was answered is extracted, then compared by its type, as VLMEvalKit does it.

Two published scorers differ. The score is VLMEvalKit's, with which the paper's figures were made; the part `OFFICIAL`
is that of the benchmark's authors, who round a number to the digits asked for, and take the option nearest in spelling
where none is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row, left_to_judge
from thyme.eval.benchmarks.choice import infer_option
from thyme.eval.benchmarks.free_text import (
    OPTIONS,
    as_float,
    entries,
    identity,
    letter_of,
    not_in,
    offered,
    scored_by,
)
from thyme.eval.items import ItemResult
from thyme.rewards.answer import score_answer
from thyme.types import ImageRecord, Problem, Score

OFFICIAL = "official"
"""Part of a score: as the benchmark's authors score it."""
CHOICE = "multi_choice"
LONGEST = 1000
"""Characters of an answer that are held against the options' spelling; the comparison takes their product."""
_WANTED = {
    "integer": "a whole number such as 14",
    "float": "a number with as many decimal places as the question asks for",
    "list": "a list in square brackets such as [2007, 2008]",
}


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """Of VLMEvalKit's columns, or those of the authors (``query``, ``pid``, and ``metadata`` with the categories)."""
    question = cells.text(row, "query", "question")
    options = entries(row, "choices")
    reference = cells.optional(row, "answer")
    more = row.get("metadata")
    flat: Row = {**row, **more} if isinstance(more, dict) else row
    meta: dict[str, Any] = cells.facts(flat, question_type="question_type", answer_type="answer_type", task="task")
    if meta.get("question_type") == CHOICE:
        reference = cells.optional(row, "answer_option") or letter_of(options, reference or "") or reference
        meta["wanted"] = "the letter of the option"
    else:
        meta |= {"wanted": _WANTED.get(meta.get("answer_type", ""), "the answer alone"), **_precision(row)}
        options = ()
    shown = not_in(question, options)
    return Problem(
        id=identity(row, "pid"),
        question=question,
        images=images,
        answer=reference,
        choices=options if shown else (),
        kind=meta.pop("task", ""),
        meta={**meta, **({} if shown or not options else {OPTIONS: list(options)}), "skills": entries(flat, "skills")},
    )


def _precision(row: Row) -> dict[str, int]:
    digits = as_float(cells.optional(row, "precision") or "")
    return {} if digits is None else {"precision": int(digits)}


def _compare(problem: Problem, answer: str) -> Score:
    score = _choice(problem, answer) if problem.meta.get("question_type") == CHOICE else _value(problem, answer)
    return score.model_copy(update={"parts": {**score.parts, OFFICIAL: float(official(problem, answer))}})


def _choice(problem: Problem, answer: str) -> Score:
    letter = infer_option(answer, offered(problem))
    if letter is None:
        return left_to_judge("no option recognised")
    return Score(value=float(letter == problem.answer), note=f"option {letter}")


def _value(problem: Problem, answer: str) -> Score:
    """A bare number is compared, whole numbers by value; a list or a text as written but for spaces."""
    expected = as_float(problem.answer or "")
    if problem.meta.get("answer_type") in {"integer", "float"} and expected is not None:
        given = as_float(answer)
        if given is None:
            return left_to_judge("no bare number", score_answer(problem, answer).value)
        return Score(value=float(given == expected), note="number")
    if "".join(answer.split()) == "".join((problem.answer or "").split()):
        return Score(value=1.0, note="text")
    return left_to_judge("another text", score_answer(problem, answer).value)


def official(problem: Problem, answer: str) -> bool:
    """Whether an extracted answer is right by the authors' own rules."""
    if problem.meta.get("question_type") == CHOICE:
        options = offered(problem)
        given = answer.strip()
        for opening in range(len(given) - 2):  # the first letter in brackets, if any
            if given[opening] == "(" and given[opening + 2] == ")" and given[opening + 1].isalpha():
                given = given[opening + 1].upper()
                break
        chosen = given if given in options else _nearest(given, options)
        return chosen is not None and options.get(chosen) == options.get(problem.answer or "")
    kind, value = problem.meta.get("answer_type"), as_float(answer)
    if kind == "integer":
        return value is not None and str(int(value)) == problem.answer
    if kind == "float":
        return value is not None and str(round(value, problem.meta.get("precision", 0))) == problem.answer
    return answer.strip() == (problem.answer or "").strip()


def _nearest(text: str, options: dict[str, str]) -> str | None:
    """Letter of the option that is fewest insertions, deletions and replacements away; the first of these."""
    return min(options, key=lambda letter: edit_distance(text[:LONGEST], options[letter]), default=None)


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's distance of two texts."""
    above = list(range(len(other) + 1))
    for row, sign in enumerate(one, start=1):
        line = [row]
        for column, against in enumerate(other, start=1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (sign != against)))
        above = line
    return above[-1]


def _figures(items: Sequence[ItemResult]) -> Figures:
    """``overall``, ``official`` (the authors' rules), each task, and each skill that a question needs."""
    skills = sorted({skill for item in items for skill in item.meta.get("skills", ())})
    by_skill = {skill: figures.accuracy(i for i in items if skill in i.meta.get("skills", ())) for skill in skills}
    # An item that failed, or that waits for a verdict, has no part either.
    parts = figures.mean(item.parts.get(OFFICIAL, item.score) for item in items if item.score is not None)
    return {"overall": figures.accuracy(items), OFFICIAL: parts, **figures.by_category(items), **by_skill}


BENCHMARKS = {
    "MathVista_MINI": Benchmark(
        name="MathVista_MINI",
        title="MathVista mini",
        to_problem=to_problem,
        score=scored_by(_compare),
        figures=_figures,
        headline="overall",
        judge="extract",
        rows=1000,
        md5="f199b98e178e5a2a20e7048f5dcb0464",
        source="arXiv 2310.02255; VLMEvalKit MathVista_MINI",
        notes="A judge extracts what is no bare number or plain option (VLMEvalKit: gpt-4o-mini); comparison is by "
        "rules. VLMEvalKit counts every free answer that is a list or a text as wrong; here it is compared.",
    )
}
"""By name."""
