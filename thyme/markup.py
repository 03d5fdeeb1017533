"""The language of a trajectory: render and read its blocks, check its grammar, find tags in a stream.

A well-formed response is ::

    <think> (text | code block, observation)* </think> whitespace <answer> text </answer>
    code block  = <code> optional Markdown fence </code>
    observation = whitespace <sandbox_output> escaped text and <image>s </sandbox_output>

The tags themselves and `escape` live in `thyme.tags` and are exported here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from thyme.errors import MarkupError
from thyme.tags import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    CODE_CLOSE,
    CODE_OPEN,
    IMAGE,
    OBSERVATION_CLOSE,
    OBSERVATION_OPEN,
    TAGS,
    THINK_CLOSE,
    THINK_OPEN,
    Piece,
    TagScanner,
    escape,
    unescape,
)
from thyme.types import Execution, ExecutionError, ImageRecord

__all__ = [
    "ANSWER_CLOSE",
    "ANSWER_OPEN",
    "CODE_CLOSE",
    "CODE_OPEN",
    "IMAGE",
    "OBSERVATION_CLOSE",
    "OBSERVATION_OPEN",
    "TAGS",
    "THINK_CLOSE",
    "THINK_OPEN",
    "Block",
    "Piece",
    "Reason",
    "TagScanner",
    "Violation",
    "escape",
    "extract_answer",
    "extract_code",
    "format_code",
    "is_well_formed",
    "observation_parts",
    "observation_text",
    "parse",
    "render",
    "unescape",
    "violations",
]

MAX_ERROR_CHARS = 600
"""Longest error message that the model reads, characters; the record keeps the whole one."""


# --- observations -----------------------------------------------------------------------------------------------------


def observation_parts(execution: Execution) -> tuple[str | ImageRecord, ...]:
    """What the model is fed after a code block ran: opening tag, text, images, closing tag.

    The text is what was printed, then the error if there is one, then notes the model needs (lost variables, output
    cut, nothing at all). Everything that came out of the sandbox is escaped.
    """
    text = "\n".join(_observation_lines(execution))
    head = f"\n{OBSERVATION_OPEN}\n{text}"
    tail = f"\n{OBSERVATION_CLOSE}\n"
    if not execution.images:
        return (head + tail,)
    return (head + "\n" if text else head, *execution.images, tail)


def observation_text(execution: Execution) -> str:
    """`observation_parts` as one string, ``<image>`` standing for each image."""
    return "".join(part if isinstance(part, str) else IMAGE for part in observation_parts(execution))


def _observation_lines(execution: Execution) -> list[str]:
    lines = []
    if printed := execution.stdout.strip("\n"):
        lines.append(escape(printed))
    if execution.error is not None:
        lines.append(escape(_short_error(execution.error)))
    if execution.truncated:
        lines.append("(output cut at the limit)")
    if execution.session_lost:
        lines.append("(the session was lost: variables of earlier code are gone)")
    if not lines and not execution.images:
        lines.append("(no output)")
    return lines


def _short_error(error: ExecutionError) -> str:
    message = " ".join(error.message.split())
    if len(message) > MAX_ERROR_CHARS:
        message = message[: MAX_ERROR_CHARS - 1] + "…"
    head = f"{error.type}: {message}" if message else error.type
    return head if error.line is None else f"{head} (line {error.line})"


# --- code and answers -------------------------------------------------------------------------------------------------

_FENCE_OPEN = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*[\w+-]*[ \t]*$", re.MULTILINE)
_FENCE_INLINE = re.compile(r"^\s*(`{3,}|~{3,})(?:(?:python3?|py)\b)?[ \t]*(.*?)\s*(?:\1\s*)?$", re.DOTALL)
_LANGUAGE_LINE = re.compile(r"\A\s*(?:python3?|py)[ \t]*\n", re.IGNORECASE)
_SINGLE_TICKS = re.compile(r"\A\s*`([^`]*)`\s*\Z")


def format_code(code: str) -> str:
    """The canonical code block: tags around a Python fence, the code without blank lines at its ends."""
    return f"{CODE_OPEN}\n```python\n{_trim(code)}\n```\n{CODE_CLOSE}"


def extract_code(span: str) -> str:
    """Take tags and fences off whatever the model wrote as its code block.

    Tolerates the forms seen from 7B-class models: any fence (```` ``` ````, ``~~~``, with or without a language), none,
    one never closed, text around the fence, several fences (joined in order), stray fence lines, a lone language line.

    Args:
        span: Code block with or without ``<code>`` and ``</code>``.

    Returns:
        The code without blank lines at its ends; indentation is kept.
    """
    code = span.partition(CODE_OPEN)[2] if CODE_OPEN in span else span
    code = code.partition(CODE_CLOSE)[0].replace("\r\n", "\n")
    return _trim(_unfence(code))


def _unfence(code: str) -> str:
    opening = _FENCE_OPEN.search(code)
    if opening is None:
        inline = _FENCE_INLINE.match(code) or _SINGLE_TICKS.match(code)
        if inline:
            return inline.group(inline.lastindex or 0)
        return _LANGUAGE_LINE.sub("", code)
    if _is_stray(code, opening):
        return code[: opening.start()]
    bodies = []
    while opening is not None:
        body, position = _fenced_body(code, opening)
        bodies.append(_trim(body))
        opening = _FENCE_OPEN.search(code, position)
    return "\n".join(body for body in bodies if body)


def _fenced_body(code: str, opening: re.Match[str]) -> tuple[str, int]:
    """Text of the fence that `opening` opens, and where to look for the next one."""
    mark = re.escape(opening.group(1)[0])
    closing = re.compile(rf"(?:^[ \t]*|[ \t]*){mark}{{3,}}[ \t]*$", re.MULTILINE).search(code, opening.end())
    if closing is None:
        return code[opening.end() :], len(code)
    return code[opening.end() : closing.start()], closing.end()


def _is_stray(code: str, opening: re.Match[str]) -> bool:
    """Whether the only fence line closes a block that was never opened: code before it, nothing after it."""
    bare = opening.group().strip() == opening.group(1)
    return bare and not code[opening.end() :].strip() and bool(code[: opening.start()].strip())


def _trim(code: str) -> str:
    """Blank lines at both ends off, and spaces after the last line."""
    return re.sub(r"\A(?:[ \t]*\n)+", "", code).rstrip()


def extract_answer(response: str) -> str | None:
    """Text of the first closed answer outside code and observations; None where there is none.

    Args:
        response: The whole assistant turn.
    """
    inside: str | None = None
    answer_start: int | None = None
    for piece in TagScanner().all(response):
        if inside is not None:
            inside = None if piece.text == inside else inside
        elif piece.tag in _OPAQUE:
            inside, answer_start = _OPAQUE[piece.text], None
        elif piece.tag == ANSWER_OPEN:
            answer_start = piece.end
        elif piece.tag == ANSWER_CLOSE and answer_start is not None:
            return response[answer_start : piece.start].strip()
    return None


_OPAQUE: Final[dict[str | None, str]] = {CODE_OPEN: CODE_CLOSE, OBSERVATION_OPEN: OBSERVATION_CLOSE}
"""Blocks in which an answer tag is only text."""


# --- grammar ----------------------------------------------------------------------------------------------------------


class Reason(StrEnum):
    """Why a response is not well-formed."""

    MISSING_THINK = "missing_think"
    """Nothing was thought before the first other tag or the end."""
    TEXT_BEFORE_THINK = "text_before_think"
    SECOND_THINK = "second_think"
    UNCLOSED_THINK = "unclosed_think"
    """The answer or the end came inside the thinking."""
    CODE_OUTSIDE_THINK = "code_outside_think"
    UNCLOSED_CODE = "unclosed_code"
    CODE_WITHOUT_OBSERVATION = "code_without_observation"
    """Something other than an observation follows a code block."""
    OBSERVATION_WITHOUT_CODE = "observation_without_code"
    """The model wrote the sandbox's part itself."""
    UNCLOSED_OBSERVATION = "unclosed_observation"
    IMAGE_OUTSIDE_OBSERVATION = "image_outside_observation"
    NESTED_TAG = "nested_tag"
    """A tag inside code, an observation or the answer."""
    STRAY_CLOSE = "stray_close"
    """A closing tag of something that is not open."""
    TEXT_BEFORE_ANSWER = "text_before_answer"
    """Text between thinking and answer."""
    MISSING_ANSWER = "missing_answer"
    UNCLOSED_ANSWER = "unclosed_answer"
    EMPTY_ANSWER = "empty_answer"
    SECOND_ANSWER = "second_answer"
    TEXT_AFTER_ANSWER = "text_after_answer"


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a response breaks the grammar."""

    reason: Reason
    position: int
    """Where, in characters from the start of the response."""

    def __str__(self) -> str:
        return f"{self.reason} at character {self.position}"


def violations(response: str) -> list[Violation]:
    """Everything that keeps a response from being well-formed, in order of position; empty if it is."""
    checker = _Checker()
    for piece in TagScanner().all(response):
        if piece.tag is None:
            checker.text(piece)
        else:
            checker.tag(piece.tag, piece.start)
    checker.end(len(response))
    return checker.found


def is_well_formed(response: str) -> bool:
    """Whether a response follows the grammar; see the head of this module."""
    return not violations(response)


_State = Literal["start", "think", "code", "awaiting", "observation", "between", "answer", "done"]

# The grammar proper. "outer" (None here) is where an observation returns to.
_STEPS: Final[dict[tuple[_State, str], _State | None]] = {
    ("start", THINK_OPEN): "think",
    ("think", CODE_OPEN): "code",
    ("code", CODE_CLOSE): "awaiting",
    ("awaiting", OBSERVATION_OPEN): "observation",
    ("observation", IMAGE): "observation",
    ("observation", OBSERVATION_CLOSE): None,
    ("think", THINK_CLOSE): "between",
    ("between", ANSWER_OPEN): "answer",
    ("answer", ANSWER_CLOSE): "done",
}

# In these states any other tag is a nested one and changes nothing.
_CLOSED: Final = frozenset[_State]({"code", "observation", "answer"})

# A tag where it does not belong, outside the closed blocks: the reason, and the state to go on from (None: stay).
_MISPLACED: Final[dict[str, tuple[Reason, _State | None]]] = {
    THINK_OPEN: (Reason.SECOND_THINK, "think"),
    CODE_OPEN: (Reason.CODE_OUTSIDE_THINK, "code"),
    OBSERVATION_OPEN: (Reason.OBSERVATION_WITHOUT_CODE, "observation"),
    IMAGE: (Reason.IMAGE_OUTSIDE_OBSERVATION, None),
    THINK_CLOSE: (Reason.STRAY_CLOSE, None),
    CODE_CLOSE: (Reason.STRAY_CLOSE, None),
    OBSERVATION_CLOSE: (Reason.STRAY_CLOSE, None),
    ANSWER_CLOSE: (Reason.STRAY_CLOSE, None),
}

_MISPLACED_TEXT: Final[dict[_State, Reason]] = {
    "between": Reason.TEXT_BEFORE_ANSWER,
    "done": Reason.TEXT_AFTER_ANSWER,
}

_OPEN_AT_END: Final[dict[_State, Reason]] = {
    "start": Reason.MISSING_THINK,
    "think": Reason.UNCLOSED_THINK,
    "code": Reason.UNCLOSED_CODE,
    "awaiting": Reason.CODE_WITHOUT_OBSERVATION,
    "observation": Reason.UNCLOSED_OBSERVATION,
    "answer": Reason.UNCLOSED_ANSWER,
}


class _Checker:
    """The grammar as an automaton that reports a violation and goes on."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._state: _State = "start"
        self._outer: _State = "think"
        self._leading: int | None = None
        self._answered = False
        self._answer_empty = True

    def text(self, piece: Piece) -> None:
        if not piece.text.strip():
            return
        if self._state == "start":
            self._leading = piece.start if self._leading is None else self._leading
        elif self._state == "awaiting":
            self._report(Reason.CODE_WITHOUT_OBSERVATION, piece.start)
            self._state = self._outer
            self.text(piece)
        elif self._state == "answer":
            self._answer_empty = False
        elif self._state in _MISPLACED_TEXT:
            self._report(_MISPLACED_TEXT[self._state], piece.start)

    def tag(self, tag: str, position: int) -> None:
        if self._state == "start":
            self._begin(tag, position)
        elif self._state == "awaiting" and tag != OBSERVATION_OPEN:
            self._report(Reason.CODE_WITHOUT_OBSERVATION, position)
            self._state = self._outer
        if (self._state, tag) in _STEPS:
            self._step(tag, position)
        elif self._state in _CLOSED:
            self._report(Reason.NESTED_TAG, position)
        elif tag == ANSWER_OPEN:
            self._report(Reason.UNCLOSED_THINK if self._state == "think" else Reason.SECOND_ANSWER, position)
            self._open_answer()
        else:
            self._recover(tag, position)

    def end(self, position: int) -> None:
        if self._state in _OPEN_AT_END:
            self._report(_OPEN_AT_END[self._state], position)
        if self._state in {"code", "awaiting", "observation"} and self._outer == "think":
            self._report(Reason.UNCLOSED_THINK, position)
        if not self._answered:
            self._report(Reason.MISSING_ANSWER, position)

    def _begin(self, tag: str, position: int) -> None:
        """The first tag of all: either thinking begins, or it is missing."""
        if tag != THINK_OPEN:
            self._report(Reason.MISSING_THINK, position)
            self._state = "between"
        elif self._leading is not None:
            self._report(Reason.TEXT_BEFORE_THINK, self._leading)

    def _step(self, tag: str, position: int) -> None:
        if tag == ANSWER_OPEN:
            self._open_answer()
            return
        if tag == ANSWER_CLOSE and self._answer_empty:
            self._report(Reason.EMPTY_ANSWER, position)
        if tag == CODE_OPEN:
            self._outer = "think"
        self._state = _STEPS[self._state, tag] or self._outer

    def _recover(self, tag: str, position: int) -> None:
        reason, state = _MISPLACED[tag]
        self._report(reason, position)
        if state in {"code", "observation"}:
            self._outer = self._state
        self._state = state or self._state

    def _open_answer(self) -> None:
        self._state, self._answered, self._answer_empty = "answer", True, True

    def _report(self, reason: Reason, position: int) -> None:
        self.found.append(Violation(reason, position))


# --- blocks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a well-formed response, without its tags."""

    kind: Literal["text", "code", "observation", "answer"]
    """``text`` is thinking."""
    text: str
    """Exactly what stands between the tags."""


_OPENING: Final[dict[str, Literal["code", "observation", "answer"]]] = {
    CODE_OPEN: "code",
    OBSERVATION_OPEN: "observation",
    ANSWER_OPEN: "answer",
}


def parse(response: str) -> tuple[Block, ...]:
    """Split a well-formed response into its blocks. Whitespace between blocks of other kinds than text is dropped.

    Raises:
        MarkupError: It is not well-formed; the message names the first violation.
    """
    if found := violations(response):
        raise MarkupError(f"not a well-formed response: {found[0]}")
    blocks: list[Block] = []
    kind: Literal["text", "code", "observation", "answer"] = "text"
    text: list[str] = []
    thinking = False
    for piece in TagScanner().all(response):
        if piece.tag is None or piece.tag == IMAGE:
            text.append(piece.text)
            continue
        body = "".join(text)
        if kind != "text" or (thinking and body.strip()):
            blocks.append(Block(kind, body))
        kind, text = _OPENING.get(piece.tag, "text"), []
        thinking = (thinking or piece.tag == THINK_OPEN) and piece.tag != THINK_CLOSE
    return tuple(blocks)


def render(blocks: Iterable[Block]) -> str:
    """Write a response: the blocks before the answer inside ``<think>``, then the answer if there is one.

    The inverse of `parse`, up to whitespace between blocks. Texts are taken as they are; escape what is not yours.
    """
    thinking: list[str] = []
    answer = ""
    for block in blocks:
        if block.kind == "text":
            thinking.append(block.text)
        elif block.kind == "code":
            thinking.append(f"{CODE_OPEN}{block.text}{CODE_CLOSE}")
        elif block.kind == "observation":
            thinking.append(f"\n{OBSERVATION_OPEN}{block.text}{OBSERVATION_CLOSE}")
        else:
            answer = f"\n{ANSWER_OPEN}{block.text}{ANSWER_CLOSE}"
    return f"{THINK_OPEN}{''.join(thinking)}{THINK_CLOSE}{answer}"
