"""Rules that tell whether an answer is right.

A rule is a function of problem and answer that says 1, 0, or None where it does not apply; the first in `RULES` that
applies decides. They are strict on what is said and lenient on how: a letter with or without its option, a number with
or without its unit, a word in any case. Mathematics (`thyme.rewards.mathematics`) and judges come after them.
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


# --- multiple choice --------------------------------------------------------------------------------------------------

_LETTER = re.compile(r"\(\s*([A-Z])\s*\)|([A-Z])(?:\s*$|\s*[).:,\n])", re.IGNORECASE)
_STATED = re.compile(r"\b(?:answer|option|choice)\s*(?:is|:)?\s*\(?([A-Z])\)?(?=\s*$|[).:,\s])", re.IGNORECASE)


def choice(problem: Problem, answer: str) -> float | None:
    """Whether the same option is meant, by letter (``B``, ``(b)``, ``B. text``, ``the answer is B``) or by text."""
    if not problem.choices or problem.answer is None:
        return None
    expected = option(problem, problem.answer)
    if expected is None:
        return None
    return float(option(problem, answer) == expected)


def option(problem: Problem, text: str) -> int | None:
    """Place among the options of the one that a text names; None where it names none, or no single one."""
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
NUMBER = re.compile(
    rf"(?<![\w.])([-+−]?)\s?(?:[$€£¥]\s?)?((?:{_DIGITS})(?:[eE][-+]?\d+)?)(?:\s*/\s*(\d+))?(?!\.?\d)(\s*%)?"
)
"""A written number: sign, digits, divisor, percent."""
_UNIT = r"(?:\s*(?:%|°|[^\W\d_]{1,12}(?:/[^\W\d_]{1,6}|[²³23])?))?"
_CODE = re.compile(
    r"[-+−]?0\d|\d+[A-Z]$"
    r"|\d+\s*(?!(?:USD|EUR|GBP|CNY|JPY|[KMGT]B|[KMG]?HZ|[AP]M|BCE?|CE|AD|HP|[KMG]W|[KCM]M|[MK]?G|RPM|[MK]PH|FPS|DPI)$)"
    r"(?:[A-Z]{2,}|[A-Z]\d)$"
)
_UNITS = re.compile(r"[nmcdk]?m|in|ft|mi|m?g|kg|t|lb|oz|[mcd]?l|ms|s|min|h|mph|v|k?w")
"""Units that are told apart when both sides name one, in lower case."""


def number(problem: Problem, answer: str) -> float | None:
    """Whether the answer's only number is the reference's.

    It may differ by half a unit in the reference's last decimal place (whole numbers: not at all), or by
    ``meta["tolerance"]``. ``45 %`` is 45 as well as 0.45. Another unit than the reference's is wrong (``12 mm`` for
    ``12 cm``), none is not. A reference with a leading zero (``0471``), a capital right behind its digits (``9C``), or
    capitals that are no common unit (``39 FL``) is a code, not a number.
    """
    reference = (problem.answer or "").strip()
    match = NUMBER.match(reference)
    if match is None or not re.fullmatch(_UNIT, reference[match.end() :]) or _CODE.match(reference):
        return None
    found = list(NUMBER.finditer(answer))
    if len(found) != 1 or _other_unit(reference[match.end() :], answer[found[0].end() :]):
        return 0.0
    tolerance = float(problem.meta.get("tolerance", 0.0))
    for expected in _values(match):
        room = max(_half_unit(match), abs(expected) * tolerance, abs(expected) * 1e-12)
        if any(abs(value - expected) <= room for value in _values(found[0])):
            return 1.0
    return 0.0


def _other_unit(reference: str, answer: str) -> bool:
    """Whether what follows the two numbers are two different units, as far as `_UNITS` knows them."""
    expected, given = (rest.strip(" .").lower() for rest in (reference, answer))
    return expected != given and all(_UNITS.fullmatch(unit) for unit in (expected, given))


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


def words(text: str) -> list[str]:
    """The words of a text, each without what does not change its meaning; see `normalise`."""
    plain = text.replace("$", " ") if "\\" in text else text  # LaTeX
    found = _ARTICLE.sub("", unicodedata.normalize("NFKC", plain)).split()
    return [normalise(word) for word in found]


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
