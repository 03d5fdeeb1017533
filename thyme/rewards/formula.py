"""What is a formula, in which signs and brackets count, and how two of them are compared as text."""

from __future__ import annotations

import re
import unicodedata

_FORMULA = re.compile(
    r"[\\^=+*π√∞≤≥<>|²³⁴⁵⁶⁷⁸⁹⁻]"
    r"|^\s*[(\[{].*[,;].*[)\]}]\s*$"  # pairs, intervals, sets
    r"|\d\s*(?:;\s*|,\s+|,(?=[-+−]))[-+−]?\.?\d"  # several numbers
    r"|(?<![^\W_])[a-z]\s*[-−/]\s*(?:\d|[a-z](?![a-z]))"  # x-1, x/2
    r"|\d\s*/\s*[a-z](?![a-z])|(?:^|[\s(])[-−][a-z](?![a-z])"  # 1/x, -x
)
_SUPERSCRIPTS = str.maketrans({sign: f"^{digit}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"−": "-", "⁻": "^-"})
_LATEX = re.compile(r"\\(?:left|right|[()\[\],;!])|\$")
_BETWEEN = re.compile(r"(?<=\d)\s*(?:[,;]|\band\b|\s)\s*(?=[-+]?\.?\d)")


def is_formula(text: str) -> bool:
    """Whether signs, brackets and commas mean something in a text: ``2(x+1)``, ``(1, 2)``, ``-3, 5``, ``x-1``."""
    return _FORMULA.search(text) is not None


def tight(text: str) -> str:
    """A formula without what does not change its meaning: case, spaces, delimiters, how numbers are separated."""
    plain = unicodedata.normalize("NFKC", text.translate(_SUPERSCRIPTS)).casefold()
    plain = " ".join(_LATEX.sub("", plain).split())  # a run of n spaces would cost n² below
    plain = _BETWEEN.sub(",", plain)
    return "".join(plain.split()).strip("`\"'“”").removesuffix(".")
