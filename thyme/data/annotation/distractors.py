"""Plausible wrong options of a multiple-choice question: by rule, and from other questions' answers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from thyme.rewards.answer import normalise

T = TypeVar("T")

COUNT: Final = 3
"""Options beside the right one that are offered by default."""
_COLOURS: Final = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "beige",
)  # fmt: skip
_MATERIALS: Final = (
    "wood", "metal", "plastic", "glass", "stone", "concrete", "fabric", "paper", "leather", "brick",
)  # fmt: skip
_SETS: Final[tuple[tuple[str, ...], ...]] = (
    _COLOURS,
    ("left", "right", "above", "below"),
    ("top left", "top right", "bottom left", "bottom right", "centre"),
    ("in front", "behind", "beside", "on top", "underneath"),
    ("north", "east", "south", "west", "north-east", "south-east", "south-west", "north-west"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    ("first", "second", "third", "fourth", "fifth", "sixth"),
    ("round", "square", "triangular", "rectangular", "oval", "hexagonal"),
    _MATERIALS,
    ("small", "medium", "large"),
    ("striped", "plain", "checked", "dotted", "floral"),
    ("open", "closed", "half open"),
    ("standing", "sitting", "walking", "running", "lying", "kneeling"),
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
     "December"),
    ("spring", "summer", "autumn", "winter"),
    ("true", "false"),
    ("yes", "no"),
)  # fmt: skip
"""Words of which one is easily taken for another."""
_SPELLINGS: Final = {"gray": "grey", "center": "centre", "violet": "purple", "wooden": "wood"}
_NUMBER = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d{1,15})(\.\d{1,9})?(?![\w.])")
_CODE = re.compile(r"(?=[^ ]*\d)[\w./:-]+")
_ALIKE: Final = {
    "0": "86", "1": "74", "2": "7Z", "3": "85", "4": "91", "5": "63", "6": "80", "7": "12", "8": "36", "9": "40",
    "O": "DQ", "I": "LT", "B": "RP", "S": "ZG", "E": "FB", "M": "NH", "U": "VJ", "C": "GO", "K": "XR", "P": "RF",
}  # fmt: skip
"""Signs that are misread for each other in small print."""


def distractors(
    answer: str, *, category: str = "", others: Sequence[str] = (), question: str = "", count: int = COUNT
) -> list[str]:
    """Wrong options that look as if they might be right.

    What the answer is like decides: a word out of a known set (colours, sides, materials, days), a number, a code;
    after these come answers of other questions that look alike. The same question and answer give the same options.

    Args:
        answer: The right one.
        category: Of the question; where it is ``quantity``, numbers come before all else.
        others: Right answers of other questions of the category.
        question: Its text; options that it names already come last.
        count: How many at most.

    Returns:
        None that is the answer or like another once case and punctuation are gone; fewer where nothing more is
        plausible.
    """
    plain = answer.strip()
    if not plain or count < 1:
        return []
    draw = random.Random(f"{question}\n{plain}")
    rules: list[Callable[[str, random.Random], Iterator[str]]]
    rules = [_numbers, _of_a_set] if category == "quantity" else [_of_a_set, _numbers, _codes]
    rules.append(partial(_others, known=others))
    found: dict[str, str] = {}
    for rule in rules:
        for option in rule(plain, draw):
            if (key := normalise(option)) and key != normalise(plain):
                found.setdefault(key, option)
    named = normalise(question)
    ordered = sorted(found.items(), key=lambda pair: len(pair[0]) > 3 and pair[0] in named)
    return [option for _, option in ordered[:count]]


def _of_a_set(answer: str, draw: random.Random) -> Iterator[str]:
    """Others of the set that the answer is of, or with another colour or material: ``a blue car`` of ``a red car``."""
    low = answer.casefold()
    wanted = _SPELLINGS.get(low, low)
    for words in _SETS:
        known = [word.casefold() for word in words]
        if wanted in known:
            yield from (_cased(word, answer) for word in _shuffled(words, draw) if word.casefold() != wanted)
            return
    parts = re.findall(r"\w+|\W+", answer)
    for place, part in enumerate(parts):
        word = _SPELLINGS.get(part.casefold(), part.casefold())
        for words in (_COLOURS, _MATERIALS):
            if word in words:
                for other in _shuffled(words, draw):
                    if other != word:
                        yield "".join((*parts[:place], _cased(other, part), *parts[place + 1 :]))
                return


def _numbers(answer: str, draw: random.Random) -> Iterator[str]:
    """Numbers nearby, written like the answer's own: as many decimals, the same unit."""
    match = _NUMBER.search(answer)
    if match is None or len(_NUMBER.findall(answer)) != 1:
        return
    whole, decimals = match.group(1), match.group(2) or ""
    places = max(0, len(decimals) - 1)
    value = int(whole.replace(",", "") + decimals[1:])
    steps = [1, -1, 2, -2, 3] if value < 20 else [1, -1, 10, -10, round(value * 0.1), -round(value * 0.1), 100]
    turned = int("".join(_swapped(str(value)))) if value >= 10 else value
    near = [value + step for step in _shuffled(steps, draw)]
    for other in dict.fromkeys((*near[:2], turned, *near[2:])):
        if other >= 0 and other != value:
            yield answer[: match.start()] + _written(other, places, "," in whole) + answer[match.end() :]


def _codes(answer: str, draw: random.Random) -> Iterator[str]:
    """Codes, plates and times with one or two signs misread."""
    if not _CODE.fullmatch(answer) and not (answer.isupper() and len(answer) >= 3):
        return
    spots = [place for place, sign in enumerate(answer) if sign in _ALIKE]
    for place in _shuffled(spots, draw):
        for sign in _ALIKE[answer[place]]:
            if sign.isdigit() == answer[place].isdigit():
                yield answer[:place] + sign + answer[place + 1 :]


def _others(answer: str, draw: random.Random, known: Sequence[str]) -> Iterator[str]:
    """Answers of other questions, those first that look most like this one."""
    given = list(dict.fromkeys(other.strip() for other in known if other.strip()))
    wanted = _shape(answer)
    apart = {other: _apart(_shape(other), wanted) for other in _shuffled(given, draw)}
    yield from (other for other in sorted(apart, key=apart.__getitem__) if apart[other] < 3)


def _shape(text: str) -> tuple[bool, bool, int, int]:
    return any(sign.isdigit() for sign in text), text.isupper(), len(text.split()), len(text)


def _apart(first: tuple[bool, bool, int, int], second: tuple[bool, bool, int, int]) -> float:
    """How unlike two texts look; 3 and more is too much."""
    digits, upper, words, length = zip(first, second, strict=True)
    return (
        3 * (digits[0] != digits[1]) + (upper[0] != upper[1]) + abs(words[0] - words[1])
        + abs(length[0] - length[1]) / 10
    )  # fmt: skip


def _cased(word: str, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _swapped(digits: str) -> str:
    """The last two different neighbours changed round."""
    for place in range(len(digits) - 1, 0, -1):
        if digits[place] != digits[place - 1] and not (place == 1 and digits[1] == "0"):
            return digits[: place - 1] + digits[place] + digits[place - 1] + digits[place + 1 :]
    return digits


def _written(value: int, places: int, grouped: bool) -> str:
    digits = str(value).zfill(places + 1)
    whole, decimals = (digits[:-places], digits[-places:]) if places else (digits, "")
    return (f"{int(whole):,}" if grouped else whole) + (f".{decimals}" if decimals else "")


def _shuffled(values: Sequence[T], draw: random.Random) -> list[T]:
    return draw.sample(list(values), len(values))
