"""Answers that were read instead of seen: code states what it did not find out, and the answer repeats it.

What can be told from a record: the answer stands in what a code block printed, no picture came back before, and the
block either prints it as written in the code (the model knew, or guessed, and let code say it), or reads names of
files, metadata or the environment (where an answer may have leaked to). What cannot be told: a text put together from
parts, a value fetched by a name that is built while the code runs. An answer that was computed, also from the pixels,
is none of these.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from thyme.markup import extract_answer
from thyme.types import Trajectory

_LONGEST = 20_000
"""Code with more characters is not looked into."""
_AROUND = frozenset(
    [
        "listdir",
        "scandir",
        "walk",
        "glob",
        "iglob",
        "rglob",
        "iterdir",
        "environ",
        "getenv",
        "getexif",
        "_getexif",
        "info",
        "filename",
        "argv",
    ]
)
"""Attributes and names that lead to names of files, metadata or the environment."""


def read_not_seen(trajectory: Trajectory) -> bool:
    """Whether the answer was printed by code that did not find it out, before any picture came back."""
    runs = [observation.execution for observation in trajectory.observations]
    if not any(run.stdout.strip() for run in runs):
        return False
    answer = extract_answer(trajectory.response)
    if not answer:
        return False
    for run in runs:
        if stands_in(answer, run.stdout):
            return _is_stated(answer, run.ran or run.code)
        if run.images:
            return False
    return False


def stands_in(answer: str, text: str) -> bool:
    """Whether a text holds the answer as words of its own; a single character must end a line."""
    words = re.escape(answer.strip())
    ends = r"\W*$" if len(answer.strip()) == 1 else r"(?!\w)"
    return re.search(rf"(?<![\w.]){words}{ends}", text, re.IGNORECASE | re.MULTILINE) is not None


def _is_stated(answer: str, code: str) -> bool:
    tree = _parsed(code)
    if tree is None:
        return False
    return any(stands_in(answer, text) for text in _printed(tree)) or _looks_around(tree)


def _parsed(code: str) -> ast.Module | None:
    """The code's tree; None where there is none. The code is the model's: it may be anything, and is not run."""
    if len(code) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _printed(tree: ast.Module) -> Iterator[str]:
    """Texts that are printed as they are written in the code, one for each ``print``."""
    known = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield " ".join(_written(argument, known) for argument in node.args)


def _constants(tree: ast.Module) -> dict[str, str]:
    """Names that never stand for anything but one value written in the code."""
    bound = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= {name: str(node.value.value) for name in targets if bound.count(name) == 1}
    return found


def _written(node: ast.expr, known: dict[str, str]) -> str:
    """What of a printed value stands in the code; a mark for what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return known.get(node.id, "\0")
    if isinstance(node, ast.FormattedValue):
        return _written(node.value, known)
    if isinstance(node, ast.JoinedStr):
        return "".join(_written(value, known) for value in node.values)
    return "\0"


def _looks_around(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _AROUND:
            return True
        if isinstance(node, ast.Name) and node.id in _AROUND | {"open", "__file__"}:
            return True
    return False
