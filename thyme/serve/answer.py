"""What a rollout tells, split into reasoning and answer while it arrives.

The answer is what stands inside ``<answer>…</answer>``, outside code and observations; where the model never opens
one, it is what it wrote last: after ``</think>``, or else since the last observation. The result does not depend on how
the text was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from thyme.events import Event, ExecutionEvent, GeneratedEvent
from thyme.markup import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    CODE_CLOSE,
    CODE_OPEN,
    OBSERVATION_CLOSE,
    OBSERVATION_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    Piece,
    TagScanner,
)

Channel = Literal["reasoning", "content"]

_OPAQUE = {CODE_OPEN: CODE_CLOSE, OBSERVATION_OPEN: OBSERVATION_CLOSE}
"""Blocks in which a tag is only text."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the reply."""

    channel: Channel
    text: str


class AnswerReader:
    """Reads one rollout. `content` and `reasoning` are the texts so far."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        """Begin.

        Args:
            stops: Strings at which the answer is cut; they do not belong to it.
        """
        self._stops = stops
        self._scanner = TagScanner()
        self._reasoning, self._content = _Trimmed(), _Trimmed(stops)
        self._opaque: str | None = None
        self._state: Literal["outside", "inside", "closed"] = "outside"
        self._opened = False
        self._last: list[str] = []
        """Text and think tags since the last observation."""

    @property
    def reasoning(self) -> str:
        """All but the answer: text, code and observations as the model wrote and read them, without think tags."""
        return self._reasoning.text

    @property
    def content(self) -> str:
        """The answer; final after `close`."""
        return self._content.text

    def feed(self, event: Event) -> list[Delta]:
        """Take an event; what is certain now, in order."""
        if isinstance(event, GeneratedEvent):
            return self.feed_text(event.text)
        return self.feed_text(event.observation.text) if isinstance(event, ExecutionEvent) else []

    def feed_text(self, text: str) -> list[Delta]:
        """Take the next piece of the response."""
        return self._take(self._scanner.feed(text))

    def close(self) -> list[Delta]:
        """The rollout is over: what was held back, and the answer of a model that never opened one."""
        deltas = self._take(self._scanner.close())
        if not self._opened:
            deltas += self._say("content", _written_last("".join(self._last)))
        if rest := self._content.close():
            deltas.append(Delta("content", rest))
        return deltas

    def _take(self, pieces: list[Piece]) -> list[Delta]:
        return [delta for piece in pieces for delta in self._piece(piece)]

    def _piece(self, piece: Piece) -> Iterator[Delta]:
        if self._state == "closed":
            return
        if self._opaque is not None:
            yield from self._say("reasoning", piece.text)
            self._leave_opaque(piece)
        elif piece.tag in _OPAQUE:
            self._opaque, self._state = _OPAQUE[piece.text], "outside"
            yield from self._say("reasoning", piece.text)
        elif piece.tag == ANSWER_OPEN:
            yield from self._open()
        elif self._state == "inside":
            if piece.tag == ANSWER_CLOSE:
                self._state = "closed"
            else:
                yield from self._say("content", piece.text)
        else:
            self._last.append(piece.text)
            if piece.tag not in {THINK_OPEN, THINK_CLOSE}:
                yield from self._say("reasoning", piece.text)

    def _leave_opaque(self, piece: Piece) -> None:
        if piece.text == self._opaque:
            self._opaque = None
            if piece.tag == OBSERVATION_CLOSE:
                self._last.clear()

    def _open(self) -> Iterator[Delta]:
        """An answer begins; one that was begun before and not closed no longer counts, but cannot be taken back."""
        if self._content.text:
            yield Delta("content", "\n")
        self._content = _Trimmed(self._stops)
        self._opened, self._state = True, "inside"

    def _say(self, channel: Channel, text: str) -> Iterator[Delta]:
        said = (self._content if channel == "content" else self._reasoning).feed(text)
        if said:
            yield Delta(channel, said)


def _written_last(text: str) -> str:
    after = text.rpartition(THINK_CLOSE)[2]
    return (after if after.strip() else text).replace(THINK_OPEN, "").replace(THINK_CLOSE, "")


class _Trimmed:
    """Text without blanks at its ends, cut at the first of some strings, handed on as early as it is certain."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self.text = ""
        """What was handed on."""
        self._stops = stops
        self._held = ""
        self._ended = False

    def feed(self, text: str) -> str:
        """Take a piece; what can be handed on."""
        if self._ended:
            return ""
        held = self._held + text if self.text else (self._held + text).lstrip()
        # The one that is completed first, so that the cut does not depend on the pieces.
        found = [(at + len(stop), at) for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self._ended, self._held = True, ""
            return self._give(held[: min(found)[1]].rstrip())
        safe = len(held) - self._unsure(held)
        safe = len(held[:safe].rstrip())
        self._held = held[safe:]
        return self._give(held[:safe])

    def close(self) -> str:
        """Nothing more comes."""
        held, self._held = self._held.rstrip(), ""
        return self._give(held)

    def _give(self, text: str) -> str:
        self.text += text
        return text

    def _unsure(self, text: str) -> int:
        """Length of the end that may become one of the strings."""
        lengths = [
            n for stop in self._stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])
        ]
        return max(lengths, default=0)
