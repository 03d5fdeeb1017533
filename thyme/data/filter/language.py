"""In which language a question is asked: by `py3langid`, which reads the whole text without a network.

Formulas, numbers and options say nothing of a language and are left out. A short text has several languages that are
nearly as likely, so it is dropped only where one that is not wanted is clearly more likely than every one that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

from thyme.errors import MissingExtraError, StoreError
from thyme.store import unwritten

MARGIN: Final = 5.0
"""Natural logarithm of how much more likely a language must be than a wanted one to be held for the language."""
_FEWEST: Final = 8
"""Latin letters below which nothing can be told."""
_FORMULA = re.compile(r"\$\$?[^$]*\$\$?|\\[A-Za-z]+|\S*[=^_{}<>]\S*|https?://\S+|\b\w\b|[\d\W_]+")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")


def language_of(text: str, wanted: Iterable[str] = ()) -> str:
    """The language of a text.

    Args:
        text: A question.
        wanted: ISO 639-1 codes that are preferred where they are nearly as likely as the likeliest.

    Returns:
        Its ISO 639-1 code, or empty where it cannot be told.

    Raises:
        MissingExtraError: `py3langid` is not installed.
    """
    words = " ".join(_FORMULA.sub(" ", text).split())
    letters = sum(character.isalpha() for character in words)
    if not letters or (len(_LATIN.findall(words)) == letters and letters < _FEWEST):
        return ""
    ranked = [(code, score) for code, score in _ranks(words) if len(code) == 2]
    likeliest, best = ranked[0]
    known = {code: score for code, score in ranked if code in set(wanted)}
    near = max(known, key=lambda code: known[code], default="")
    return near if near and best - known[near] <= MARGIN else likeliest


def _ranks(text: str) -> list[tuple[str, float]]:
    try:
        ranks: list[tuple[str, float]] = _identifier().rank(text)
    except OSError as error:  # its model is unpacked when it is first used
        told = unwritten(Path(gettempdir()) / "py3langid", error)
        raise StoreError(f"{told} (TMPDIR names another folder for temporary files)") from error
    return ranks


@cache
def _identifier() -> Any:
    try:
        import py3langid
    except ImportError as error:
        raise MissingExtraError("telling languages apart", "data") from error
    return py3langid
