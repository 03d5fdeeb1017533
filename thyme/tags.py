"""The tags that the model writes and reads: their names, how to find them in a stream, how to keep text free of them.

Kept below `thyme.markup` (the grammar) and `thyme.prompts`, which both need it. This module imports nothing of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CODE_OPEN, CODE_CLOSE = "<code>", "</code>"
OBSERVATION_OPEN, OBSERVATION_CLOSE = "<sandbox_output>", "</sandbox_output>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
IMAGE = "<image>"
"""Stands for one image, in order; the engine puts its own placeholder tokens there."""

TAGS = (
    THINK_OPEN,
    THINK_CLOSE,
    CODE_OPEN,
    CODE_CLOSE,
    OBSERVATION_OPEN,
    OBSERVATION_CLOSE,
    ANSWER_OPEN,
    ANSWER_CLOSE,
    IMAGE,
)
"""Every string that means something, exactly as written; `<Code>` or `< code>` is plain text."""

# What follows a `<` that must not stay: the rest of a tag, or the bar of a tokenizer's control token (`<|im_end|>`).
_TAIL = "(?:" + "|".join(re.escape(tag[1:]) for tag in TAGS) + r"|\|)"
_DANGEROUS = re.compile(rf"<(?={_TAIL})|&(?=(?:amp;)*lt;{_TAIL})")
_ESCAPED = re.compile(rf"&lt;(?={_TAIL})|&amp;(?=(?:amp;)*lt;{_TAIL})")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
_CHARACTERS = {entity: character for character, entity in _ENTITIES.items()}


def escape(text: str) -> str:
    """Make text of foreign origin (printed output, a question) free of tags and of tokenizer control tokens.

    Only a ``<`` that would open one becomes ``&lt;``, so ordinary text and comparisons stay as they are; an ``&`` is
    escaped only where the text already looks escaped, so that `unescape` is the exact inverse.
    """
    return _DANGEROUS.sub(lambda match: _ENTITIES[match.group()], text)


def unescape(text: str) -> str:
    """Undo `escape`."""
    return _ESCAPED.sub(lambda match: _CHARACTERS[match.group()], text)


@lru_cache(64)
def _sought(tags: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """What finds some tags, and all that one of them may begin with."""
    if any(not tag.startswith("<") or "<" in tag[1:] for tag in tags):
        raise ValueError(f"every tag must begin with its only '<': {list(tags)}")
    pattern = re.compile("|".join(re.escape(tag) for tag in sorted(tags, key=len, reverse=True)) or r"(?!)")
    return pattern, frozenset(tag[:length] for tag in tags for length in range(1, len(tag)))


@dataclass(frozen=True, slots=True)
class Piece:
    """A tag, or text between tags, and where it stands in everything fed so far (characters)."""

    text: str
    start: int
    tag: str | None = None
    """The tag itself if this piece is one, else None."""

    @property
    def end(self) -> int:
        """Position after its last character."""
        return self.start + len(self.text)


class TagScanner:
    """Finds tags in text that arrives in chunks of any size.

    Text is handed on as early as it cannot be part of a tag any more; at most the beginning of one tag is held back.
    Tags and their positions do not depend on where the chunks end.
    """

    def __init__(self, tags: Sequence[str] = TAGS) -> None:
        """Look for `tags`, each of which begins with ``<`` and holds no other ``<``."""
        self._pattern, self._prefixes = _sought(tuple(tags))
        self._held = ""
        self._position = 0

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk; return what is certain now, in order."""
        buffer = self._held + text
        pieces: list[Piece] = []
        done = 0
        for match in self._pattern.finditer(buffer):
            self._emit(pieces, buffer[done : match.start()], None)
            self._emit(pieces, match.group(), match.group())
            done = match.end()
        border = buffer.rfind("<", done)
        if border < 0 or buffer[border:] not in self._prefixes:
            border = len(buffer)
        self._emit(pieces, buffer[done:border], None)
        self._held = buffer[border:]
        return pieces

    def close(self) -> list[Piece]:
        """Nothing more comes: return what was held back."""
        pieces: list[Piece] = []
        self._emit(pieces, self._held, None)
        self._held = ""
        return pieces

    def all(self, text: str) -> list[Piece]:
        """`feed` and `close` in one go."""
        return [*self.feed(text), *self.close()]

    def _emit(self, pieces: list[Piece], text: str, tag: str | None) -> None:
        if text:
            pieces.append(Piece(text, self._position, tag))
            self._position += len(text)
