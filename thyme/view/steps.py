"""A response as people read it: thoughts, code with what came of it, the answer; the tags themselves are not shown.

The borders are taken from the tags in the text, not from the segments, because the token that completes a tag may
carry the first characters of what follows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from thyme.markup import ANSWER_CLOSE, ANSWER_OPEN, CODE_CLOSE, CODE_OPEN, THINK_CLOSE, THINK_OPEN, Piece, TagScanner
from thyme.markup import extract_code as strip_fences
from thyme.types import Execution, Generated, Segment, Trajectory

Place = Literal["thought", "code", "answer"]

_OPENS: dict[str, Place] = {CODE_OPEN: "code", ANSWER_OPEN: "answer"}
_CLOSES: dict[Place, str] = {"code": CODE_CLOSE, "answer": ANSWER_CLOSE}


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of one part of the response, or one of the part's borders (its text is then empty)."""

    place: Place
    text: str
    border: Literal["open", "close"] | None = None


class Reader:
    """Sorts what the model writes into parts while it arrives. Tags out of place are shown as the text they are."""

    def __init__(self) -> None:
        self._scanner = TagScanner()
        self._place: Place = "thought"

    def feed(self, text: str) -> list[Fragment]:
        """Take new text; give what is certain now, in order."""
        return self._sort(self._scanner.feed(text))

    def flush(self) -> list[Fragment]:
        """Nothing follows directly: give what was held back as the possible beginning of a tag."""
        return self._sort(self._scanner.close())

    def _sort(self, pieces: list[Piece]) -> list[Fragment]:
        fragments = []
        for piece in pieces:
            if self._place != "thought" or piece.tag not in {THINK_OPEN, THINK_CLOSE}:
                fragments.append(self._fragment(piece))
        return fragments

    def _fragment(self, piece: Piece) -> Fragment:
        place = self._place
        if place == "thought" and piece.tag in _OPENS:
            self._place = _OPENS[piece.tag]
            return Fragment(self._place, "", "open")
        if place != "thought" and piece.tag == _CLOSES[place]:
            self._place = "thought"
            return Fragment(place, "", "close")
        return Fragment(place, piece.text)


@dataclass(frozen=True, slots=True)
class Thought:
    """Text that the model wrote outside code and answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CodeStep:
    """A code block, and what came of it."""

    number: int
    """From 1."""
    code: str
    """As the model wrote it, without tags and fences."""
    execution: Execution | None
    """None: the block never ran (it was not closed, or a bound was reached)."""


@dataclass(frozen=True, slots=True)
class AnswerStep:
    """The answer; there is none where the rollout ended without one."""

    text: str


Step = Thought | CodeStep | AnswerStep


@dataclass(slots=True)
class _Part:
    place: Place
    text: str = ""
    execution: Execution | None = None


def steps(trajectory: Trajectory) -> tuple[Step, ...]:
    """The parts of a response, in order; thoughts that hold nothing but space are left out."""
    return segment_steps(trajectory.segments)


def segment_steps(segments: Iterable[Segment]) -> tuple[Step, ...]:
    """The same of segments that are in no trajectory, or not yet."""
    parts: list[_Part] = []
    reader = Reader()
    for segment in segments:
        if isinstance(segment, Generated):
            _add(parts, reader.feed(segment.text))
            continue
        _add(parts, reader.flush())
        for part in reversed(parts):
            if part.place == "code":
                part.execution = segment.execution
                break
    _add(parts, reader.flush())
    return _numbered(parts)


def _add(parts: list[_Part], fragments: list[Fragment]) -> None:
    for fragment in fragments:
        if fragment.border == "close":
            continue
        if fragment.border == "open" or not parts or parts[-1].place != fragment.place:
            parts.append(_Part(fragment.place))
        parts[-1].text += fragment.text


def _numbered(parts: list[_Part]) -> tuple[Step, ...]:
    found: list[Step] = []
    blocks = 0
    for part in parts:
        if part.place == "code":
            blocks += 1
            code = strip_fences(part.text) if part.execution is None else part.execution.code
            found.append(CodeStep(blocks, code, part.execution))
        elif part.place == "answer":
            found.append(AnswerStep(part.text.strip()))
        elif part.text.strip():
            found.append(Thought(part.text.strip()))
    return tuple(found)
