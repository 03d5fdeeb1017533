"""Which answers a rule can tell right from wrong: what kind they are of, and why others are none."""

from __future__ import annotations

import re
from typing import Final

from thyme.config.rl_filter import AnswerKind, AnswerStep
from thyme.rewards.answer import normalise, number, option, score_answer
from thyme.rewards.formula import is_formula
from thyme.types import Problem

_YES_NO: Final = frozenset({"yes", "no", "true", "false", "是", "否", "不是", "对", "错", "正确", "错误"})
_LETTER = re.compile(r"\(?([A-J])[).]?")
_OPTION = r"(?:^|\s)\(?{}[).:]\s*\S"
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_HAN_A_WORD: Final = 2
"""Characters that count as a word where words are not set apart."""


def answer_kind(problem: Problem) -> AnswerKind | None:
    """Kind of the reference; None where options are given and it names none of them, or it is missing.

    A letter is a choice also where the options stand in the question.
    """
    answer = (problem.answer or "").strip()
    if not answer:
        return None
    if problem.choices:
        return "choice" if option(problem, answer) is not None else None
    if _is_letter_of(problem.question, answer):
        return "choice"
    if normalise(answer) in _YES_NO:
        return "yes_no"
    if number(problem, "") is not None:
        return "number"
    return "formula" if is_formula(answer) or "\\" in answer else "text"


def _is_letter_of(question: str, answer: str) -> bool:
    """Whether an answer is a letter, and the question has an option of that letter and another."""
    match = _LETTER.fullmatch(answer)
    if match is None:
        return False
    letters = {match.group(1), "A", "B"}
    return all(re.search(_OPTION.format(letter), question) for letter in letters)


def why_not(problem: Problem, kind: AnswerKind | None, settings: AnswerStep) -> tuple[str, str] | None:
    """Why a rule could not decide on answers to a problem: reason and detail; None where it can."""
    answer = (problem.answer or "").strip()
    if not answer:
        return "no_answer", ""
    if kind is None:
        return "no_option", f"{answer!r:.80} is none of {len(problem.choices)} options"
    if kind not in settings.kinds:
        return "answer_kind", kind
    if len(answer) > settings.max_chars:
        return "long_answer", f"{len(answer)} characters"
    if kind == "text" and (words := count_words(answer)) > settings.max_words:
        return "long_answer", f"{words} words"
    if score_answer(problem, answer).value != 1:
        return "not_verifiable", f"the rules do not find {answer!r:.80} equal to itself"
    return None


def count_words(text: str) -> int:
    """Words of a text; of Chinese, Japanese and Korean, two characters count as one."""
    characters = len(_HAN.findall(text))
    return len(_HAN.sub(" ", text).split()) + (characters + _HAN_A_WORD - 1) // _HAN_A_WORD
