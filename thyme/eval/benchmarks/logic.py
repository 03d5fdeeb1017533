"""VisuLogic (a letter, exactly) and LogicVista (a set of letters, read by a judge where the answer is more)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thyme.eval.benchmarks import cells, figures
from thyme.eval.benchmarks.base import Benchmark, Figures, Row, left_to_judge
from thyme.eval.benchmarks.free_text import scored_by, unboxed
from thyme.eval.items import ItemResult
from thyme.types import ImageRecord, Problem, Score

# --- VisuLogic --------------------------------------------------------------------------------------------------------

_LETTERS = ("A", "B", "C", "D")
_BOX_OR_CLOSE = re.compile(r"\\boxed\{|[^\\]\}")
_DRESSING = (r"\text{", r"\rm{", r"\mathbf{", "$", "}")
_ANNOUNCEMENTS = (
    "answer:",
    "the final answer is:",
    "the answer is option:",
    "the answer is:",
    "the correct answer is option:",
    "the correct answer is:",
    "the answer should be:",
    "the final answer is",
    "the answer is option",
    "the answer is",
    "the correct answer is option",
    "the correct answer is",
    "the answer should be",
)


def stated_letter(answer: str) -> str | None:
    r"""The letter A to D that VisuLogic's rules read out of an answer; None where they read none.

    In this order: the last ``\boxed{}``; the answer as a whole, if it is nothing but the letter; a letter set apart at
    the end (`` B.``, `` (B).``) or alone on the first line (also as ``(B) B``); what follows an announcement such as
    ``the answer is``.
    ``B.``, ``(B)`` and ``B. text`` alone are none of these.
    """
    boxed = _last_box(answer)
    if boxed is not None and (letter := boxed.strip()) in _LETTERS:
        return letter
    if (letter := answer.strip()) in _LETTERS:
        return letter
    return _set_apart(answer) or _announced(answer)


def _last_box(answer: str) -> str | None:
    """Content of the last outermost box, up to the first brace that closes it."""
    opened: list[int] = []
    content = None
    for found in _BOX_OR_CLOSE.finditer(answer):
        if found.group().endswith("{"):
            opened.append(found.end())
        elif opened:
            start = opened.pop()
            content = content if opened else answer[start : found.start() + 1]
    for dressing in _DRESSING:
        content = None if content is None else content.replace(dressing, "")
    return content


def _set_apart(answer: str) -> str | None:
    said = answer.replace("<|endoftext|>", "")
    for letter in _LETTERS:
        first = (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if said.endswith((f" {letter}.", f" ({letter}).")) or said.startswith(first):
            return letter
    return None


def _announced(answer: str) -> str | None:
    """Each announcement narrows down what the next one is looked for in."""
    said = answer.replace("<|endoftext|>", "").lower()
    for announcement in _ANNOUNCEMENTS:
        if announcement in said:
            said = said.split(announcement)[-1].strip().split("\n")[0].split(".")[0]
            if said.upper() in _LETTERS:
                return said.upper()
    return None


def _score_stated(problem: Problem, answer: str | None) -> Score:
    """Spaces at the ends of the answer count, so not by `scored_by`."""
    if problem.answer is None:
        return Score(value=None, note="no reference answer")
    if answer is None:
        return Score(value=0.0, note="no answer")
    letter = stated_letter(unboxed(answer))
    return Score(value=float(letter == problem.answer), note=f"letter {letter or 'none'}")


def _visu_logic_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """The options stand in the image, and their letters in the question, which stays as it is."""
    return Problem(
        id=cells.text(row, "index", "id"),
        question=cells.text(row, "question"),
        images=images,
        answer=cells.optional(row, "answer") or cells.optional(row, "label"),
        kind=cells.optional(row, "category") or cells.optional(row, "tag") or "",
    )


VISU_LOGIC = Benchmark(
    name="VisuLogic",
    title="VisuLogic",
    to_problem=_visu_logic_problem,
    score=_score_stated,
    figures=figures.overall(figures.kind),
    headline="overall",
    rows=1000,
    md5="b0820b5ec1e01dfe3951927f0def73b6",
    source="opencompass.openxlab.space/utils/VLMEval/VisuLogic.tsv",
    notes="The letter must stand alone, in a box, or behind an announcement; no judge. Guessing gives 25 %.",
)

# --- LogicVista -------------------------------------------------------------------------------------------------------

SKILL = "skill"
"""Fact: one skill or several, as the file names them."""
_SKILLS = ("inductive", "deductive", "numerical", "spatial", "mechanical")
_ONLY_LETTERS = re.compile(r"[\s(\[]*[A-Z][)\].:]?(?:(?:\s*(?:[,;/&]|\band\b)\s*|\s*)\(?[A-Z]\)?)*[\s.]*")


def _letters(text: str) -> str:
    return "".join(sorted(letter for letter in text if letter.isalpha() and letter.isupper()))


@scored_by
def _score_letters(problem: Problem, answer: str) -> Score:
    """By rules only where the answer is nothing but letters (``B``, ``(B)``, ``A, C``, ``A and C``, ``AC``)."""
    if not _ONLY_LETTERS.fullmatch(plain := unboxed(answer)):
        return left_to_judge("more than letters")
    said = _letters(plain)
    return Score(value=float(said == _letters((problem.answer or "").upper())), note=f"letters {said}")


def _logic_vista_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    skills = row.get("skill")
    skill = ", ".join(map(str, skills)) if isinstance(skills, list) else cells.optional(row, "skill") or ""
    return Problem(
        id=cells.text(row, "index", "id", cells.ROW_NUMBER),
        question=cells.text(row, "question"),
        images=images,
        answer=cells.optional(row, "answer"),
        kind=skill,
        meta={SKILL: skill, "wanted": "the letters of all options that were chosen, and nothing else"},
    )


def _logic_vista_figures(items: Sequence[ItemResult]) -> Figures:
    """``overall``, and each skill; a question of several skills counts for each of them."""
    skills = {skill: [item for item in items if skill in str(item.meta.get(SKILL, ""))] for skill in _SKILLS}
    return {"overall": figures.accuracy(items), **{skill: figures.accuracy(part) for skill, part in skills.items()}}


LOGIC_VISTA = Benchmark(
    name="LogicVista",
    title="LogicVista",
    to_problem=_logic_vista_problem,
    score=_score_letters,
    figures=_logic_vista_figures,
    headline="overall",
    judge="extract",
    rows=448,
    md5="41c5d33adf33765c399e0e6ae588c061",
    source="opencompass.openxlab.space/utils/VLMEval/LogicVista.tsv",
    notes="All letters and no other must be named. The published scoring asks a judge for every answer; here rules "
    "decide where the answer is letters alone.",
)

BENCHMARKS = {one.name: one for one in (VISU_LOGIC, LOGIC_VISTA)}
