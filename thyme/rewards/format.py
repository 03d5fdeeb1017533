"""Is a response written as it should be: by the grammar, or as the released code looks at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from thyme.markup import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, is_well_formed

_RELEASED = re.compile(
    rf"(?:(?!{THINK_CLOSE}).)*{THINK_CLOSE}\s{ANSWER_OPEN}(?:(?!{ANSWER_CLOSE}).)*{ANSWER_CLOSE}", re.DOTALL
)
_ONCE = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)


def by_grammar(response: str) -> float:
    """1 where the response follows the grammar of `thyme.markup` (paper section 3.3), else 0."""
    return float(is_well_formed(response))


def as_released(response: str) -> float:
    """1 where the released code's test passes, else 0.

    Whatever comes before the first ``</think>``, then exactly one character of white space, then the answer, then the
    end; each of these four tags exactly once. It does not look at code and observations, passes an empty answer and
    text before ``<think>``, and fails where two line breaks stand before the answer.
    """
    return float(_RELEASED.fullmatch(response) is not None and all(response.count(tag) == 1 for tag in _ONCE))


FORMATS: Mapping[str, Callable[[str], float]] = {"paper": by_grammar, "released": as_released}
"""By preset."""
