"""Does a record hold what nobody could have known: the angle, the box or the answer in a name, a comment or a prompt?

A picture whose name ends in ``_rotated_172`` teaches a model to read names. So names are neutral from the first stage
on, and every finished record is looked through for what its teacher was told: names of images, names that code gives to
files, comments and texts in code that are not output, the prompts that are stored, and words that betray that something
was told. The reasoning may state an angle or a region: there they are estimates, and code copies them.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from thyme.data.drafts import Draft
from thyme.data.scenarios.written import code_of, executions, in_a_row
from thyme.data.syntax import nodes
from thyme.rewards.answer import option, words
from thyme.types import Generated, Problem

NAME, COMMENT, PROMPT, TOLD = "leak_name", "leak_comment", "leak_prompt", "leak_told"


@dataclass(frozen=True)
class Leak:
    """Something that gives away what only the teacher knew."""

    where: str
    """`NAME`, `COMMENT`, `PROMPT` or `TOLD`."""
    what: str
    """``angle``, ``contrast``, ``box``, ``answer``, or the words that betray it."""
    text: str
    """Where it stands."""


def leaks(draft: Draft) -> list[Leak]:
    """Everything in a finished draft that gives something away, in order: names, code, prompts, words.

    Args:
        draft: Finished. Hidden is what its hints tell, and facts of its problem under the same names.
    """
    hidden = Hidden.of(draft)
    found = [Leak(NAME, what, name) for name in _names(draft) for what in hidden.in_name(name)]
    for code in _codes(draft):
        found += [Leak(COMMENT, what, text) for text in remarks(code) for what in hidden.in_text(text)]
        found += [Leak(NAME, what, name) for name in names_in(code) for what in hidden.in_name(name)]
    found += [Leak(PROMPT, what, text) for text in _prompts(draft) for what in hidden.in_prompt(text)]
    betrayals = (_TOLD, _GIVEN) if draft.hints else (_TOLD,)
    texts = [segment.text for segment in draft.segments if isinstance(segment, Generated)]
    found += [Leak(TOLD, m.group(), _around(m)) for text in texts for sign in betrayals for m in sign.finditer(text)]
    return found


def _around(match: re.Match[str]) -> str:
    return match.string[max(match.start() - 60, 0) : match.end() + 60]


# --- what is hidden ---------------------------------------------------------------------------------------------------

_SEPARATED: Final = re.compile(r"[^0-9A-Za-z]+|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_WORD: Final = re.compile(r"[0-9A-Za-z]+")
_WHOLE: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
_COUNTED: Final = re.compile(
    r"\b(?:step|round|image|crop|part|line|figure|no\.?)\s*#?\d+\b|^\W*\d+[.):]\s", re.IGNORECASE
)
"""Numbers that only count steps."""
_LONG: Final = 4
"""Characters from which an answer in a prompt, or inside of a word, is no coincidence."""
_WORDY: Final = re.compile(r"[^\W\d_]")
_USUAL: Final = frozenset({
    "image", "picture", "photo", "crop", "part", "region", "area", "box", "path", "width", "height", "size", "left",
    "right", "top", "bottom", "up", "down", "upper", "lower", "center", "centre", "middle", "yes", "no", "true",
    "false", "none", "one", "two", "three", "gray", "grey",
})  # fmt: skip
"""Answers that code holds for reasons of its own."""
_BOX_KEYS: Final = ("boxes", "larger", "wrong", "box")


@dataclass(frozen=True)
class Hidden:
    """What must not be found."""

    angles: frozenset[float]
    """Degrees: as turned, and back, with either sign."""
    contrast: float | None
    boxes: tuple[tuple[float, ...], ...]
    answers: tuple[str, ...]
    """What the reference says, unless the question says it too."""
    others: tuple[str, ...]
    """The other options: a comment that names one of them, too, does not say which is right."""

    @classmethod
    def of(cls, draft: Draft) -> Hidden:
        """Read off what the teacher was told, and the reference."""
        facts = {**draft.problem.meta, **draft.hints}
        angle = facts.get("angle")
        angles = frozenset[float]()
        if isinstance(angle, int | float) and angle % 360:
            turned, back = float(angle % 360), float(-angle % 360)
            angles = frozenset({turned, back, -turned, -back})
        contrast = facts.get("contrast")
        boxes = tuple(dict.fromkeys(box for key in _BOX_KEYS for box in _boxes(facts.get(key))))
        answers, others = _answers(draft.problem)
        return cls(angles, float(contrast) if isinstance(contrast, int | float) else None, boxes, answers, others)

    def in_text(self, text: str) -> Iterator[str]:
        """What a comment gives away: a number that is the angle, four that are a box, the words of the answer."""
        plain = _COUNTED.sub(" ", text)
        values = [float(number) for number in _WHOLE.findall(plain)]
        yield from self._numbers(values)
        if any(_has_answer(plain, a) for a in self.answers) and not any(_has_answer(plain, o) for o in self.others):
            yield "answer"

    def in_name(self, name: str) -> Iterator[str]:
        """The same of a file's name or an identifier, in which everything but letters and digits separates."""
        parts = [part for part in _SEPARATED.split(name.rpartition("/")[2]) if part]
        yield from self._numbers([float(part) for part in parts if part.isdigit()])
        stem = name.rpartition("/")[2].rpartition(".")[0]
        # In a file's name crop_K7 is one part, too; among identifiers x1 and y2 are corners, whatever the answer.
        parts += _WORD.findall(stem)
        joined = _squeezed(stem or name)
        codes = (word for answer in self.answers for word in answer.split() if _is_code(word, in_file=bool(stem)))
        if any(_in_name(joined, parts, answer) for answer in (*self.answers, *codes)):
            yield "answer"

    def in_prompt(self, text: str) -> Iterator[str]:
        """What a prompt gives away beside the question: the angle in words or degrees, or a box."""
        if any(angle >= 0 and re.search(rf"(?<![\d.]){angle:g}\s*(?:°|deg)", text) for angle in self.angles):
            yield "angle"
        if self._box([float(number) for number in _WHOLE.findall(text)]):
            yield "box"
        if any(len(answer) >= _LONG and _WORDY.search(answer) and _has_answer(text, answer) for answer in self.answers):
            yield "answer"

    def _numbers(self, values: Sequence[float]) -> Iterator[str]:
        if self.angles & set(values):
            yield "angle"
        if self.contrast is not None and any(abs(value - self.contrast) < 5e-3 for value in values if 0 < value < 1):
            yield "contrast"
        if self._box(values):
            yield "box"

    def _box(self, values: Sequence[float]) -> bool:
        """Whether four numbers in a row are one of the boxes, or its corner and size, up to a pixel."""
        rows = [values[start : start + 4] for start in range(len(values) - 3)]
        sought = [box for a, b, c, d in self.boxes for box in ((a, b, c, d), (a, b, c - a, d - b))]
        return any(all(abs(v - w) <= 1 for v, w in zip(row, box, strict=True)) for row in rows for box in sought)


def _boxes(value: Any) -> Iterator[tuple[float, ...]]:
    """Boxes in a fact that holds one or several."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return
    if len(value) == 4 and all(isinstance(v, int | float) for v in value):
        yield tuple(float(v) for v in value)
        return
    for part in value:
        yield from _boxes(part)


def _answers(problem: Problem) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the reference says, the option's text instead of its letter; and the other options."""
    if problem.answer is None:
        return (), ()
    index = option(problem, problem.answer) if problem.choices else None
    said = problem.answer if index is None else problem.choices[index]
    others = tuple(choice for place, choice in enumerate(problem.choices) if place != index)
    secret = not _has_answer(problem.question, said) and said.strip().lower() not in _USUAL
    return ((said,) if secret else ()), others


def _has_answer(text: str, answer: str) -> bool:
    """Whether the words of an answer stand in a row; numbers of one digit and single letters do not count."""
    asked = words(answer)
    return len("".join(asked)) >= 2 and in_a_row(asked, words(text))


_BETWEEN: Final = re.compile(r"[_\W]+")


@lru_cache(1 << 12)  # records of a build name their pictures and variables alike
def _squeezed(text: str) -> str:
    return "".join(words(_BETWEEN.sub(" ", text)))


def _is_code(word: str, *, in_file: bool) -> bool:
    """Whether a part of an answer is one that names hold for no other reason: ``K7``, ``KX``, ``47`` of a file."""
    if len(word) < 2 or word.isdigit():
        return len(word) > 1 and in_file
    return word.isupper() or any(c.isdigit() for c in word)


def _in_name(joined: str, parts: Sequence[str], answer: str) -> bool:
    """Whether a name holds an answer: as one of its parts, or anywhere in it where the answer is long."""
    plain = _squeezed(answer)
    if len(plain) < 2:
        return False
    return plain in {_squeezed(part) for part in parts} or (len(plain) >= _LONG and plain in joined)


# --- where it may stand -----------------------------------------------------------------------------------------------

_TOLD: Final = re.compile(
    r"\b(?:the|this|your|given|provided)\s+hints?\b(?!\s+of\b)|\bground[- ]?truth\b|\breference answer\b"
    r"|\bannotated (?:box|region|area)\b|\bsuffix of the (?:file|image)|\bfile\s?name(?:'s)?\s+(?:suffix|says?|tells?|"
    r"indicates?|shows?|contains?|gives?|suggests?)\b",
    re.IGNORECASE,
)
"""Wrong to say in any record."""
_GIVEN: Final = re.compile(
    r"\b(?:I|we)(?:'m|\s+(?:was|were|am|are|have been))\s+(?:told|given|informed)\b"
    r"|\b(?:provided|given|known|supplied)\s+(?:bounding box|box|region|angle|coordinates|rotation)\b"
    r"|\b(?:box|region|angle|coordinates)\s+(?:is|was|are|were)\s+(?:given|provided|supplied|known)\b",
    re.IGNORECASE,
)
"""Wrong to say only where the teacher was told something: a question of geometry may give angles itself."""


def remarks(code: str) -> list[str]:
    """Comments in code, and texts that stand for themselves, such as docstrings."""
    found = list(_comments(code)) if "#" in code else []
    for node in nodes(code):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.append(node.value.value)
    return found


def _comments(code: str) -> Iterator[str]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                yield token.string.lstrip("# ")
    except (tokenize.TokenError, SyntaxError):  # what could be read before is kept
        pass


def names_in(code: str) -> list[str]:
    """Names that code gives: paths and files in its texts, variables and functions."""
    found = []
    for node in nodes(code):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += _FILE.findall(node.value)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
    return list(dict.fromkeys(found))


_FILE: Final = re.compile(r"[^\s'\"]*(?:/[^\s'\"/]+|\.(?:png|jpe?g|webp|bmp|gif|tiff?))(?=$|[\s'\"])", re.IGNORECASE)


def _codes(draft: Draft) -> Iterator[str]:
    """Code as it was written, and as it ran where that differs."""
    for execution in executions(draft):
        yield from dict.fromkeys((execution.code, code_of(execution)))


def _names(draft: Draft) -> Iterator[str]:
    """Of the problem, of its images, of images that code saved, and of files that were printed."""
    yield draft.problem.id.removeprefix(draft.id)
    yield from (image.name for image in draft.problem.images)
    for execution in executions(draft):
        yield from (image.name for image in execution.images)
        yield from _FILE.findall(execution.stdout)


def _prompts(draft: Draft) -> Iterator[str]:
    """The stored user turn, without question and options; the system turn is the same for every record."""
    if draft.trajectory is None:
        return
    text = draft.trajectory.prompt.user
    for own in (draft.problem.question.strip(), *draft.problem.choices):
        text = text.replace(own, " ")
    yield text
