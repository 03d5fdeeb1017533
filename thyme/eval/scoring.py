"""Rules that tell whether an answer is right, and intervals for how often it was.

A rule is a function of problem and answer that says 1, 0, or None where it does not apply; the first in `RULES` that
applies decides. They are strict on what is said and lenient on how: a letter with or without its option, a number with
or without its unit, a word in any case. Judging by a model comes after them and is no business of this module.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Callable, Mapping

from thyme.types import Problem, Score

Rule = Callable[[Problem, str], float | None]
"""1.0 right, 0.0 wrong, None: the rule says nothing about this problem."""

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution: two-sided 95 %."""


def score_answer(problem: Problem, answer: str | None) -> Score:
    """Score one answer by rules.

    Args:
        problem: Holds the reference. ``meta["tolerance"]``, where given, is the relative error allowed to a number.
        answer: Text of the answer; None where the model gave none, which is wrong.

    Returns:
        1 or 0 with the rule's name as note; a value of None if the problem has no reference.
    """
    if problem.answer is None:
        return Score(value=None, note="no reference answer")
    if answer is None:
        return Score(value=0.0, note="no answer")
    for name, rule in RULES.items():
        value = rule(problem, answer)
        if value is not None:
            return Score(value=value, parts={name: value}, note=name)
    raise AssertionError("the last rule applies to every problem")


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a rate (Wilson 1927; Newcombe 1998, method 3).

    Args:
        successes: How often it happened.
        n: Out of how many; 0 gives (0, 1), which is all that no cases say.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    rate, spread = successes / n, Z_95**2 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


# --- multiple choice --------------------------------------------------------------------------------------------------

_LETTER = re.compile(r"\(\s*([A-Z])\s*\)|([A-Z])(?:\s*$|\s*[).:,\n])", re.IGNORECASE)
_STATED = re.compile(r"\b(?:answer|option|choice)\s*(?:is|:)?\s*\(?([A-Z])\)?(?=\s*$|[).:,\s])", re.IGNORECASE)


def choice(problem: Problem, answer: str) -> float | None:
    """Whether the same option is meant, by letter (``B``, ``(b)``, ``B. text``, ``the answer is B``) or by text."""
    if not problem.choices or problem.answer is None:
        return None
    expected = _option(problem, problem.answer)
    if expected is None:
        return None
    return float(_option(problem, answer) == expected)


def _option(problem: Problem, text: str) -> int | None:
    """Index of the option that a text names; None where it names none, or no single one."""
    plain = text.strip().strip("*`\"' ")
    options = [normalise(option) for option in problem.choices]
    if normalise(plain) in options and not (len(plain) == 1 and plain.upper() in string.ascii_uppercase):
        return options.index(normalise(plain))
    stated = _LETTER.match(plain) or _lettered_text(problem, plain)
    stated = stated or (found if (found := _STATED.search(plain)) and len(_STATED.findall(plain)) == 1 else None)
    if stated is not None:
        index = string.ascii_uppercase.index(next(group for group in stated.groups() if group).upper())
        if index < len(options):
            return index
    return options.index(normalise(plain)) if normalise(plain) in options else None


def _lettered_text(problem: Problem, text: str) -> re.Match[str] | None:
    """A letter and, after a space only, the text of just that option: ``B red car``, but not ``A cat``."""
    match = re.match(r"([A-Z])\s+", text, re.IGNORECASE)
    if match is None:
        return None
    index = string.ascii_uppercase.index(match.group(1).upper())
    named = index < len(problem.choices) and normalise(text[match.end() :]) == normalise(problem.choices[index])
    return match if named else None


# --- numbers ----------------------------------------------------------------------------------------------------------

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])([-+−]?)\s?(?:[$€£¥]\s?)?((?:{_DIGITS})(?:[eE][-+]?\d+)?)(?:\s*/\s*(\d+))?(?!\.?\d)(\s*%)?"
)
_UNIT = r"(?:\s*(?:%|°|[^\W\d_]{1,12}(?:/[^\W\d_]{1,6}|[²³23])?))?"


def number(problem: Problem, answer: str) -> float | None:
    """Whether the answer's only number is the reference's.

    It may differ by half a unit in the reference's last decimal place (whole numbers: not at all), or by
    ``meta["tolerance"]``. ``45 %`` is 45 as well as 0.45. A reference with a leading zero (``0471``) is a code, not a
    number.
    """
    reference = (problem.answer or "").strip()
    match = _NUMBER.match(reference)
    if match is None or not re.fullmatch(_UNIT, reference[match.end() :]) or re.match(r"[-+−]?0\d", reference):
        return None
    found = list(_NUMBER.finditer(answer))
    if len(found) != 1:
        return 0.0
    tolerance = float(problem.meta.get("tolerance", 0.0))
    for expected in _values(match):
        room = max(_half_unit(match), abs(expected) * tolerance, abs(expected) * 1e-12)
        if any(abs(value - expected) <= room for value in _values(found[0])):
            return 1.0
    return 0.0


def _values(match: re.Match[str]) -> tuple[float, ...]:
    """What a written number may mean: itself, and a hundredth of it if it is a percentage."""
    sign, digits, divisor, percent = match.groups()
    value = float(digits.replace(",", "")) * (-1 if sign in {"-", "−"} else 1)
    if divisor is not None:
        value = value / float(divisor) if float(divisor) else math.nan
    return (value, value / 100) if percent else (value,)


def _half_unit(match: re.Match[str]) -> float:
    """Half of the last decimal place that is written out; 0 for whole numbers, fractions and powers of ten."""
    digits = match.group(2)
    if "." not in digits or "e" in digits.lower() or match.group(3):
        return 0.0
    return 0.5000001 * 10.0 ** -len(digits.partition(".")[2])


# --- text -------------------------------------------------------------------------------------------------------------

_ARTICLE = re.compile(r"\b(?:[Aa]n?|[Tt]he)\s+(?=\w*[a-z])")  # before a word: the A of "A 12" is no article


def normalise(text: str) -> str:
    """A text without what does not change its meaning: case, spaces, punctuation, articles, Unicode variants."""
    plain = _ARTICLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    kept = "".join(c for c in plain if not c.isspace() and unicodedata.category(c)[0] not in "PC")
    return kept or "".join(plain.split())  # an answer that is all punctuation, such as "+" or "?"


def text(problem: Problem, answer: str) -> float:
    """Whether both texts are the same once normalised."""
    return float(normalise(answer) == normalise(problem.answer or ""))


RULES: Mapping[str, Rule] = {"choice": choice, "number": number, "text": text}
"""In this order; the last one always applies."""
