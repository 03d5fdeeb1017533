"""A teacher's turn: where it ends, and which part of it is text and which is code."""

from __future__ import annotations

import re
from dataclasses import dataclass

from thyme.data.scenarios.base import Refusal
from thyme.data.stages import reasons
from thyme.data.stages.base import Reply
from thyme.markup import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    CODE_CLOSE,
    CODE_OPEN,
    OBSERVATION_CLOSE,
    OBSERVATION_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    Reason,
    TagScanner,
    violations,
)
from thyme.types import Generated, Segment

_DECIDING = {CODE_OPEN, ANSWER_CLOSE, OBSERVATION_OPEN, OBSERVATION_CLOSE}
_CLOSED_EARLY = re.compile(rf"\s*{re.escape(THINK_CLOSE)}\s*(?={re.escape(CODE_OPEN)}\Z)")
"""Chat models end their thinking before they call something; here it goes on behind the block."""
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can spell and UTF-8 cannot."""


@dataclass(frozen=True)
class Turn:
    """What counts of a reply: all up to its first block, or up to its answer."""

    said: str
    """As the teacher wrote it; goes back to it as its own turn."""
    text: str
    """The text, up to and with ``<code>`` or ``</answer>``."""
    code: str | None
    """All that follows ``<code>``, ``</code>`` with it; None where the teacher answered."""

    def segments(self, temperature: float) -> tuple[Segment, ...]:
        """As they are stored."""
        text = Generated(kind="text", text=self.text, temperature=temperature)
        return (text,) if self.code is None else (text, Generated(kind="code", text=self.code, temperature=temperature))


def read_turn(reply: Reply, *, first: bool) -> Turn | Refusal:
    """Read a reply.

    What stands behind ``</code>`` is cut off, whatever it is: the teacher cannot know what the code gives. Around the
    tags of thinking what chat models get wrong without meaning anything by it is put right: ``<think>`` missing at the
    start of the first turn or repeated at the start of a later one, ``</think>`` just before a block.

    Args:
        reply: As it came.
        first: Whether it is the first of the draft.
    """
    whole = _HALF_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", reply.text)
    deciding = next((piece for piece in TagScanner().all(whole) if piece.tag in _DECIDING), None)
    if deciding is None:
        return _undecided(whole, reply.finish)
    if deciding.tag in {OBSERVATION_OPEN, OBSERVATION_CLOSE}:
        return Refusal(reasons.INVENTED_OUTPUT, f"{deciding.tag} without a block before it")
    text = _tidy(whole[: deciding.end], first=first)
    if deciding.tag == ANSWER_CLOSE:
        return Turn(whole[: deciding.end], text, None)
    end = whole.find(CODE_CLOSE, deciding.end)
    if end < 0:
        cut = reply.finish == "length"
        return Refusal(reasons.CUT_OFF if cut else reasons.MALFORMED, "a block of code was not closed")
    end += len(CODE_CLOSE)
    return Turn(whole[:end], text, whole[deciding.end : end])


def fault(response: str) -> Refusal | None:
    """What is wrong with the form of a whole response, if anything is."""
    found = violations(response)
    if not found:
        return None
    empty = found[0].reason is Reason.EMPTY_ANSWER
    return Refusal(reasons.NO_ANSWER if empty else reasons.MALFORMED, str(found[0]))


def _undecided(text: str, finish: str) -> Refusal:
    if finish == "length":
        return Refusal(reasons.CUT_OFF, "a turn reached its bound on tokens")
    if finish == "content_filter":
        return Refusal(reasons.REFUSED, "the provider held the answer back")
    if ANSWER_OPEN in text:
        return Refusal(reasons.MALFORMED, "the answer was not closed")
    return Refusal(reasons.NO_ANSWER, "a turn ended with neither code nor an answer")


def _tidy(text: str, *, first: bool) -> str:
    text = _CLOSED_EARLY.sub("\n", text.lstrip())
    if not first:
        return text.removeprefix(THINK_OPEN).lstrip()
    return text if THINK_OPEN in text or text.startswith(ANSWER_OPEN) else THINK_OPEN + text
