"""Repairs of code that does not compile. Pure: text in, text out, and code that compiles is never touched.

A repair is kept only if the result compiles, and the fewest that do are taken. What goes wrong while code runs is
put right by `hooks` instead, where the real sizes and paths are known.
"""

from __future__ import annotations

import itertools
import re
import textwrap
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import CodeType

FILENAME = "<code>"

_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[ \t]*[\w+-]*[ \t]*$")
_QUOTES = str.maketrans({
    "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "＂": '"',
    "‘": "'", "’": "'", "‚": "'", "＇": "'",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ",
    "−": "-", "–": "-", "，": ",", "（": "(", "）": ")", "：": ":",
    "\u200b": None, "\ufeff": None,
})  # fmt: skip
_MAGIC = re.compile(r"^([ \t]*)(?:%%?|!)[ \t]*[A-Za-z][^\n]*", re.MULTILINE)
_LINE_END = "after line continuation character"
_WHITESPACE_CODES = ("E101", "E11", "W191", "W291", "W293")
"""Mixed tabs and spaces, indentation, spaces at the end of a line; autopep8 leaves strings alone."""
_MOST_CHARS = 20_000
"""Longest code that autopep8 is tried on; it takes about 0.3 s for that."""
_INNER = frozenset({"return", "yield", "break", "continue", "pass"})
"""Words that start a line inside of a block rather than after it."""
_MOST_STEPS = 64
"""Lines that the repair of indentation may move before it gives up."""

_NO_WARNINGS = [("ignore", None, Warning, None, 0)]

_compiled: dict[tuple[str, str], CodeType] = {}
"""The code that compiled last, by text and file name: to compile it again would be most of what a short block costs."""


@dataclass(frozen=True)
class Repaired:
    """Code, and the repairs that made it compile."""

    code: str
    repairs: tuple[tuple[str, str], ...] = ()
    """Name and note of each."""


def compile_error(code: str, filename: str = FILENAME) -> Exception | None:
    """What is wrong with the syntax of `code`; None where it compiles."""
    filters = warnings.filters
    warnings.filters = _NO_WARNINGS  # what `catch_warnings` does, in a tenth of its time
    try:
        compiled = compile(code, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        return error
    finally:
        warnings.filters = filters
    _compiled.clear()
    _compiled[code, filename] = compiled
    return None


def compile_once(code: str, filename: str) -> CodeType:
    """Compile a block that is about to run, unless that was done to see whether it compiles.

    Raises:
        SyntaxError: And whatever else `compile` raises.
    """
    return _compiled.pop((code, filename), None) or compile(code, filename, "exec", dont_inherit=True)


def compiles(code: str) -> bool:
    """Whether `code` is Python."""
    return compile_error(code) is None


def repair_syntax(code: str, enabled: Collection[str], filename: str = FILENAME) -> Repaired:
    """Make `code` compile with as few repairs as it takes.

    Args:
        code: Source as the model wrote it.
        enabled: Names of the repairs that may be used; other names are ignored.
        filename: What `compile_once` is to be asked for where nothing needs to be repaired.

    Returns:
        The code unchanged where it compiles or where nothing helps.
    """
    if compile_error(code, filename) is None:
        return Repaired(code)
    usable = [name for name in SYNTAX_REPAIRS if name in enabled]
    repaired = _fewest(code, usable)
    if repaired is None and "whitespace" in enabled:
        repaired = _last_resort(code, usable)
    return repaired or Repaired(code)


def _fewest(code: str, usable: list[str]) -> Repaired | None:
    """The code after the fewest repairs that make it compile; None where nothing helps."""
    for count in range(1, len(usable) + 1):
        for chosen in itertools.combinations(usable, count):
            candidate = code
            for name in chosen:
                candidate = SYNTAX_REPAIRS[name][0](candidate)
            if candidate != code and compiles(candidate):
                return Repaired(candidate, tuple((name, SYNTAX_REPAIRS[name][1]) for name in chosen))
    return None


def _last_resort(code: str, usable: list[str]) -> Repaired | None:
    """The code after `fix_whitespace`, alone or after all that changes something; None where nothing helps."""
    steps: list[tuple[str, str]] = []
    prepared = code
    for name in usable:
        changed = SYNTAX_REPAIRS[name][0](prepared)
        if changed != prepared and name != "indentation":  # it is what this takes the place of
            steps.append((name, SYNTAX_REPAIRS[name][1]))
            prepared = changed
    for made, candidate in {(): code, tuple(steps): prepared}.items():
        fixed = fix_whitespace(candidate)
        if fixed != candidate and compiles(fixed):
            return Repaired(fixed, (*made, ("whitespace", "moved spaces and line ends to where Python takes them")))
    return None


def strip_fences(code: str) -> str:
    """Keep what stands inside Markdown fences; with one lone fence, drop that line only."""
    lines = code.splitlines()
    marks = [number for number, line in enumerate(lines) if _FENCE.match(line)]
    if len(marks) < 2:
        return "\n".join(line for number, line in enumerate(lines) if number not in marks)
    blocks = [lines[start + 1 : end] for start, end in zip(marks[::2], marks[1::2], strict=False)]
    if len(marks) % 2:
        blocks.append(lines[marks[-1] + 1 :])
    return "\n".join(line for block in blocks for line in block)


def straighten_quotes(code: str) -> str:
    """Replace typographic quotes, dashes and spaces by those that Python reads."""
    return code.translate(_QUOTES)


def silence_magics(code: str) -> str:
    """Put ``pass`` in the place of orders to a notebook (``%matplotlib inline``, ``!pip install``), line by line."""
    return _MAGIC.sub(r"\1pass", code)


def fix_whitespace(code: str) -> str:
    """Let autopep8 fix whitespace, and nothing else; the code as it is where that cannot be what is wrong."""
    error = compile_error(code)
    is_near = isinstance(error, IndentationError) or _LINE_END in str(error)
    if not is_near or len(code) > _MOST_CHARS:
        return code
    try:
        import autopep8  # here, because it is seldom needed and costs more than most blocks take

        fixed: str = autopep8.fix_code(code, options={"select": _WHITESPACE_CODES, "ignore": []})
    except Exception:  # it reads broken code, and is not there at all where the repair is off
        return code
    return fixed


def fix_indentation(code: str) -> str:
    """Move lines left or right until they line up: common margins, tabs, stray indents."""
    expanded = code.expandtabs(4)
    first, newline, rest = expanded.partition("\n")
    margins = (textwrap.dedent(code), textwrap.dedent(expanded), first.lstrip() + newline + textwrap.dedent(rest))
    for candidate in margins:
        if compiles(candidate):
            return candidate
    return _line_up(textwrap.dedent(expanded))


def _line_up(code: str) -> str:
    """Move one offending block at a time to where the lines above it stand."""
    lines = code.splitlines()
    for _ in range(_MOST_STEPS):
        error = compile_error("\n".join(lines))
        if not isinstance(error, IndentationError) or not error.lineno or error.lineno > len(lines):
            break
        number = error.lineno - 1
        wanted = _wanted_indent(lines, number, error)
        if wanted is None or wanted == _indent(lines[number]):
            break
        _shift_block(lines, number, wanted)
    return "\n".join(lines)


def _wanted_indent(lines: list[str], number: int, error: IndentationError) -> int | None:
    """Where the offending line should stand; None where moving it would be a guess."""
    above = [_indent(line) for line in lines[:number] if line.strip()]
    if "unexpected indent" in str(error.msg):
        return above[-1] if above else 0
    if "unindent does not match" in str(error.msg):
        inner = bool(_INNER.intersection(lines[number].split()[:1]))
        found = _indent(lines[number])
        return min(above, key=lambda width: (abs(width - found), -width if inner else width), default=0)
    return None


def _shift_block(lines: list[str], start: int, wanted: int) -> None:
    """Move the line at `start`, and those after it that stand at least as far in, by the same width."""
    found = _indent(lines[start])
    for number in range(start, len(lines)):
        line = lines[number]
        if line.strip() and _indent(line) < found:
            break
        lines[number] = " " * max(0, _indent(line) + wanted - found) + line.lstrip() if line.strip() else line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


SYNTAX_REPAIRS: dict[str, tuple[Callable[[str], str], str]] = {
    "fences": (strip_fences, "took the code out of its Markdown fence"),
    "quotes": (straighten_quotes, "replaced typographic quotes, dashes and spaces"),
    "magics": (silence_magics, "left out orders to a notebook"),
    "indentation": (fix_indentation, "lined up the indentation"),
}
"""Repairs of syntax by name, in the order in which they are applied; `fix_whitespace` comes after all of them."""
