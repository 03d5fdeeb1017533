"""Compares expressions with math-verify, for `thyme.rewards.mathematics`: a program of its own, which may be killed.

It reads one JSON object a line, ``{"reference", "answer", "cpu_s"}`` (LaTeX, and the processor time it may take), and
answers each with ``{"equal", "value"}``: whether the two are the same, and the answer as a number if it is one. It is
started as a file, so that it imports nothing of the package. An expression may make it use much time or memory: memory
is limited here, time by who asks, and by the kernel should that one be gone.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import sys
from typing import Any

MEMORY = 2 << 30
"""Bytes of address space."""


def main() -> None:
    """Serve until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()  # the libraries warn of every expression that they cannot read
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no reply
    compare(r"\frac{1}{2}", "0.5")  # imports and tables
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        _limit_time(request["cpu_s"])
        print(json.dumps(_reply(request["reference"], request["answer"])), file=replies, flush=True)


def compare(reference: str, answer: str) -> tuple[bool, float | None]:
    """Whether two expressions are equal, and the value of the second where it is a number."""
    from math_verify import verify

    expected, given = _parse(reference), _parse(answer)
    if expected is None or given is None:
        return False, None
    if _is_equation(given) and not _is_equation(expected) and not _states_value(given):
        return False, None
    return bool(verify(expected, given, timeout_seconds=None)), _value(given)


def _reply(reference: str, answer: str) -> dict[str, Any]:
    try:
        equal, value = compare(reference, answer)
    except (Exception, RecursionError, MemoryError):  # of a library, about text that a model wrote: it is not equal
        equal, value = False, None
    return {"equal": equal, "value": value}


def _parse(text: str) -> Any:
    """The expression; None where the text is none."""
    from math_verify import LatexExtractionConfig, parse

    found = parse(
        f"${text}$",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found[0] if found else None


def _is_equation(expression: Any) -> bool:
    from sympy import Equality

    return isinstance(expression, Equality)


def _states_value(equation: Any) -> bool:
    """``x = 42`` and ``6 * 7 = 42``, but not ``x^2 = 42`` nor ``41 = 42``: math-verify reads the right side alone."""
    from math_verify import verify

    left, right = equation.args
    if left.is_number and right.is_number:
        return bool(verify(left, right, timeout_seconds=None))
    return bool(left.is_Symbol)


def _value(expression: Any) -> float | None:
    if _is_equation(expression):
        expression = expression.rhs
    if not getattr(expression, "is_number", False) or not expression.is_real:
        return None
    value = float(expression)
    return value if math.isfinite(value) else None


def _limit_time(seconds: float) -> None:
    """End this process after so much more processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
