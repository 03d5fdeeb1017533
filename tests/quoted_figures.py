"""Figures with a unit that a document quotes, and whether a stored result holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from scripts.record import MEASURED

UNITS = r"%|ms|s|seconds|minutes?|min|hours?|MiB|GiB|MB|GB|KB|KiB|points|tokens a second|times"
_QUOTED = re.compile(rf"(?<![\w.,:/#-])([+−-]?\d+(?:[ ,]\d{{3}})*(?:\.\d+)?)[  ]({UNITS})(?![\w/])")
_NUMBER = re.compile(r"(?<![\w.])[+−-]?\d+(?:[ ,_]\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class Quoted(NamedTuple):
    """A figure as a document writes it."""

    section: str
    """The heading that it stands under."""
    text: str

    @property
    def value(self) -> float:
        """The number."""
        return float(re.sub(r"[ ,]", "", self.text.rpartition(" ")[0].replace("−", "-")))

    @property
    def digits(self) -> int:
        """Digits behind the point."""
        return len(self.text.rpartition(" ")[0].partition(".")[2])


def quoted(text: str) -> Iterator[Quoted]:
    """All figures of a document, but those in examples (fenced blocks), in commands (indented ones) and of records."""
    section = ""
    for line in MEASURED.sub("", _FENCE.sub("", text)).splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        if not line.startswith("    "):
            yield from (Quoted(section, f"{found[1]} {found[2]}") for found in _QUOTED.finditer(line))


def numbers(value: Any) -> Iterator[float]:
    """All numbers in plain values, and those that are written in their strings."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def printed(lines: Iterable[str]) -> Iterator[float]:
    """All numbers in lines that a command printed."""
    for line in lines:
        for found in _NUMBER.findall(line):
            yield float(re.sub(r"[ ,_]", "", found.replace("−", "-")))


def holds(figures: set[float], found: Quoted) -> bool:
    """Whether one of the figures, rounded as the document rounds, is what it quotes; shares may be told as percent."""
    scales = (1.0, 100.0) if found.text.endswith(("%", "points")) else (1.0, 1 / 60, 1e-3)
    return any(round(scale * figure, found.digits) == found.value for figure in figures for scale in scales)
