"""How far people agree: whether two answers are the same by rule, and Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from thyme.rewards.answer import normalise, score_answer
from thyme.types import Problem


def agrees(answer: str, given: str, *, question: str = "", choices: Sequence[str] = ()) -> bool:
    """Whether somebody gave the author's answer, as an answer of the model would be scored by rule.

    Args:
        answer: The author's; of a choice the text of an option.
        given: The other one; of a choice the text of an option, or its letter.
        question: What both answer.
        choices: Options of a multiple-choice question.
    """
    if not given.strip():
        return False
    if choices and {answer, given} <= set(choices):  # an option may be a letter itself, and another's
        return answer == given
    problem = Problem(id="", question=question, answer=answer, choices=tuple(choices))
    if choices and normalise(given) == normalise(answer):
        return True
    return score_answer(problem, given).value == 1


def kappa(table: Mapping[tuple[str, str], int]) -> float | None:
    """Cohen's kappa (Cohen 1960): agreement beyond what their verdicts' shares alone would give.

    Args:
        table: How often the first said the one and the second the other.

    Returns:
        1 where they always agree, 0 where they do as often as by chance; None where there are no records, or where
        both always said the same one thing, as chance alone would then give full agreement.
    """
    total = sum(table.values())
    if not total:
        return None
    first, second = _margin(table, 0), _margin(table, 1)
    by_chance = sum(first[label] * second[label] for label in first) / total**2
    if by_chance == 1:
        return None
    return (sum(count for (a, b), count in table.items() if a == b) / total - by_chance) / (1 - by_chance)


def _margin(table: Mapping[tuple[str, str], int], side: int) -> Counter[str]:
    counted: Counter[str] = Counter()
    for labels, count in table.items():
        counted[labels[side]] += count
    return counted
