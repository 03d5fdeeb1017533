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
from functools import lru_cache

from thyme.rewards.formula import is_formula, tight
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
_LIST = re.compile(r"[\s(]*[A-Z]\b(?:(?:[\s,;/&+.:()]|\b(?:and|or)\b)+[A-Z]\b)+[\s.)]*", re.IGNORECASE)
_SINGLE = re.compile(r"\b[A-Z]\b")
_SECOND = re.compile(
    r"\s*(?:[,;/&]|\(?\s*\b(?:and|or)\b)\s*(?:option|choice)?\s*\(?([A-Z])(?=\s*$|\s*[).:,;/&]|\s(?:and|or)\b)"
)
_LETTERED = re.compile(r"\b([A-Z])\s*[).:]\s*(?=\S)")


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
    named = _by_text(problem, plain)
    if named is not None and not (len(plain) == 1 and plain.upper() in string.ascii_uppercase):
        return named
    if _LIST.fullmatch(plain) and len(set(_SINGLE.findall(plain.upper()))) > 1:
        return None
    stated = _LETTER.match(plain) or _lettered_text(problem, plain)
    stated = stated or (found if (found := _STATED.search(plain)) and len(_STATED.findall(plain)) == 1 else None)
    if stated is not None:
        index = string.ascii_uppercase.index(next(group for group in stated.groups() if group).upper())
        if index < len(problem.choices):
            return None if _names_another(problem, index, plain[stated.end() :]) else index
    return named


def _by_text(problem: Problem, text: str) -> int | None:
    """The option of this text; signs decide where several are the same without them: ``2(x+1)`` and ``2x+1``."""
    alike = [place for place, option in enumerate(problem.choices) if normalise(option) == normalise(text)]
    exact = [place for place in alike if tight(problem.choices[place]) == tight(text)]
    return next(iter(exact or alike), None)


def _names_another(problem: Problem, index: int, rest: str) -> bool:
    """Whether what follows a letter names a second one: ``A or B``, ``A) red, B) green``."""
    if normalise(rest) == normalise(problem.choices[index]):
        return False
    second = _SECOND.match(rest)
    places = {second.group(1): ""} if second else {}
    places |= {found.group(1): rest[found.end() :] for found in _LETTERED.finditer(rest)}
    options = {letter: place for place, letter in enumerate(string.ascii_uppercase[: len(problem.choices)])}
    return any(
        letter in options
        and options[letter] != index
        and normalise(text).startswith(normalise(problem.choices[options[letter]]) if text else "")
        for letter, text in places.items()
    )


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
_VARIABLE = re.compile(r"[xyzni]|\s*[πθ²³]")
_BEFORE = re.compile(
    r"(?:[√±<>≤≥≠]|\\sqrt(?:\[[^\]]*\])?|\\(?:pm|mp|l[et]q?|g[et]q?|neq?)\b|\^|\*\*"
    r"|\\?\b(?:sin|cos|tan|log|ln|exp|sqrt)"
    r"|\b(?:(?:less|fewer|smaller|more|greater|larger|bigger) than|at (?:least|most)|up to|not|below|under|above|over))"
    r"\s*[{(]?\s*[-+−]?\s*$",
    re.IGNORECASE,
)
_AFTER = re.compile(r"\s*(?:[²³⁴√π]|\\(?:pi|sqrt)\b|\*\*|\^(?!\s*\{?\s*(?:\\circ|°)))|[yzni](?!\w)")
"""What makes another quantity of a number; a power of ``\\circ`` is a degree."""
_MAGNITUDES = {"dozen": 12.0, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_MAGNITUDE = re.compile(rf"\s*({'|'.join(_MAGNITUDES)})s?\b", re.IGNORECASE)


def number(problem: Problem, answer: str) -> float | None:
    """Whether the answer's only number is the reference's.

    It may differ by half a unit in the reference's last decimal place (whole numbers: not at all), or by
    ``meta["tolerance"]``. ``45 %`` is 45 as well as 0.45. Another unit than the reference's is wrong (``12 mm`` for
    ``12 cm``), none is not. A reference with a leading zero (``0471``), a capital right behind its digits (``9C``), or
    capitals that are no common unit (``39 FL``) is a code, not a number; one with a variable (``2x``, ``3π``) is a
    formula. An answer that does something to its number (``√2``, ``2π``, ``2²``, ``≤ 2``, ``less than 2``) is not that
    number, and ``8 million`` is not 8.
    """
    reference = (problem.answer or "").strip()
    match = NUMBER.match(reference)
    rest = reference[match.end() :] if match is not None else ""
    if match is None or not re.fullmatch(_UNIT, rest) or _CODE.match(reference) or _VARIABLE.fullmatch(rest):
        return None
    found = list(NUMBER.finditer(answer))
    if len(found) != 1 or _other_unit(reference[match.end() :], answer[found[0].end() :]):
        return 0.0
    if _BEFORE.search(answer, 0, found[0].start()) or _AFTER.match(answer, found[0].end()):
        return 0.0
    tolerance = float(problem.meta.get("tolerance", 0.0))
    alike = bool(match.group(4) and found[0].group(4))  # two percentages are compared as they are written
    factors = _factors(rest, answer[found[0].end() :])
    given = [factor * value for value in _values(found[0])[: 1 if alike else 2] for factor in factors]
    for scale, expected in zip((1, 100), _values(match)[: 1 if alike else 2], strict=False):
        room = max(_half_unit(match) / scale, abs(expected) * tolerance, abs(expected) * 1e-12)
        if any(abs(value - expected) <= room for value in given):
            return 1.0
    return 0.0


def _other_unit(reference: str, answer: str) -> bool:
    """Whether what follows the two numbers are two different units, as far as `_UNITS` knows them."""
    expected, given = (rest.strip(" .").lower() for rest in (reference, answer))
    return expected != given and all(_UNITS.fullmatch(unit) for unit in (expected, given))


def _factors(reference: str, answer: str) -> tuple[float, ...]:
    """What an answer's number may stand for, in the reference's magnitude: bare, ``8`` means 8 or 8 million there."""
    expected, given = (
        _MAGNITUDES[word.group(1).lower()] if (word := _MAGNITUDE.match(rest)) else 1.0 for rest in (reference, answer)
    )
    return (1.0, 1 / expected) if given == 1 else (given / expected,)


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


@lru_cache(1 << 14)  # rules ask for the same words time and again
def normalise(text: str) -> str:
    """A text without what does not change its meaning: case, spaces, punctuation, articles, Unicode variants.

    What belongs to a number stays: ``-3`` is not ``3``, nor ``1.5`` ``15``, nor ``1/2`` ``12``.
    """
    plain = _ARTICLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    plain = _FRACTION.sub("\\1\N{DIVISION SLASH}\\2", _DECIMAL.sub("\\1\N{DOT OPERATOR}\\2", _MINUS.sub("−", plain)))
    kept = "".join(c for c in plain if not c.isspace() and unicodedata.category(c)[0] not in "PC")
    return kept or "".join(plain.split())  # an answer that is all punctuation, such as "+" or "?"


_MINUS = re.compile(r"(?<!\w)-(?=\.?\d)")
_DECIMAL = re.compile(r"(?<![\d.])(?:(\d+)|(?<!\w))\.(\d+)(?!\.?\d)")  # not in dates and versions
_FRACTION = re.compile(r"(?<![\d/])(\d+)/(\d+)(?![\d/])")


def text(problem: Problem, answer: str) -> float:
    """Whether both texts are the same once normalised; where the reference is a formula, in its signs too."""
    reference = problem.answer or ""
    if is_formula(reference):
        return float(tight(answer) == tight(reference))
    return float(normalise(answer) == normalise(reference))


RULES: Mapping[str, Rule] = {"choice": choice, "number": number, "text": text}
"""In this order; the last one always applies."""
