"""Multiple choice as VLMEvalKit scores it: an option is inferred from the answer by rules; a judge may match the rest.

The rules are those of the version that the paper's figures were made with (August 2025). They look for a letter that
stands alone near the end, then for the text of just one option. Later versions (from June 2026) also read "answer is X"
anywhere, which takes the first letter of "answer is blue" for option B; that is not done here.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping

from thyme.eval.benchmarks import cells
from thyme.eval.benchmarks.base import Row, left_to_judge
from thyme.eval.benchmarks.free_text import scored_by, unboxed
from thyme.eval.benchmarks.layouts import as_vlmevalkit
from thyme.rewards.answer import score_answer
from thyme.rewards.verdicts import Kind
from thyme.types import ImageRecord, Problem, Score

JUDGE: Kind = "extract"
"""Asked of answers in which the rules find no option; what it extracts is scored as an answer."""
NO_OPTION = "Z"
"""Stands for an answer that names no option on purpose."""
LETTERS = string.ascii_uppercase
"""Of options, in the order in which they are shown."""
LAST_WORDS = 4
"""A letter counts only if so few words follow it, or fewer."""

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def infer_option(answer: str, options: Mapping[str, str]) -> str | None:
    """Letter of the option that an answer names.

    Args:
        answer: Text of the answer.
        options: Texts by letter.

    Returns:
        A letter of `options`; `NO_OPTION` for a refusal or a lone ``Z``; None where the rules cannot tell.
    """
    return _by_letter(answer, options) or _by_text(answer, options)


def _by_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """One letter as a word of its own, and no other option's; at most `LAST_WORDS` words behind its first place."""
    if any(refusal in answer for refusal in _REFUSALS):
        return NO_OPTION
    words = answer.translate(_SEPARATORS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and len(words) - 1 - words.index(named[0]) < LAST_WORDS:
        return named[0]
    return NO_OPTION if not named and NO_OPTION in words else None


def _by_text(answer: str, options: Mapping[str, str]) -> str | None:
    """The only option whose text is part of the answer, which is not much longer than all options together."""
    said = answer.lower()
    if len(said) > 2 * sum(len(option) for option in options.values()):
        return None
    found = [letter for letter, option in options.items() if option.lower() in said]
    return found[0] if len(found) == 1 else None


def options_of(problem: Problem) -> dict[str, str]:
    """Options of a problem by letter."""
    return dict(zip(LETTERS, problem.choices, strict=False))


def score_choice(problem: Problem, answer: str | None) -> Score:
    """Score an answer to a multiple-choice question; a question without options is scored as text.

    Returns:
        1 or 0; left to a judge where the rules find no option, which counts 0 without one.
    """
    return _score_option(problem, answer) if problem.choices else score_answer(problem, answer)


@scored_by
def _score_option(problem: Problem, answer: str) -> Score:
    letter = infer_option(unboxed(answer), options_of(problem))
    if letter is None:
        return left_to_judge("no option recognised")
    return Score(value=float(letter == problem.answer), note=f"option {letter}")


ToProblem = Callable[[Row, tuple[ImageRecord, ...]], Problem]


def choice_problem(category: str = "category", **facts: str) -> ToProblem:
    """What makes problems of multiple-choice rows: ``index``, ``question``, ``A``, ``B``, ..., ``answer``, ``hint``.

    Rows as Hugging Face has the set are understood too (`thyme.eval.benchmarks.layouts`).

    Args:
        category: Column of the main category.
        facts: Columns of further facts, by the name under which they are kept.
    """

    def to_problem(given: Row, images: tuple[ImageRecord, ...]) -> Problem:
        row = as_vlmevalkit(given)
        hint = cells.optional(row, "hint")
        options = cells.options(row)
        return Problem(
            id=cells.text(row, "index"),
            question=(f"Hint: {hint}\n" if hint else "") + cells.text(row, "question"),
            images=images,
            answer=reference(row, options),
            choices=tuple(options.values()),
            kind=cells.optional(row, category) or "",
            meta=cells.facts(row, **facts),
        )

    return to_problem


def reference(row: Row, options: Mapping[str, str]) -> str | None:
    """Letter of the right option as the options are shown: where a row leaves out B, its C is shown as B."""
    answer = cells.optional(row, "answer")
    letters = list(options)
    if answer is not None and answer.strip() in letters:
        return LETTERS[letters.index(answer.strip())]
    return answer
