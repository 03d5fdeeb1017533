"""The text of a span while its tokens arrive: whole characters only, stop strings, blocked strings. No tensors.

Strings are looked for in the bytes: UTF-8 synchronises itself, so a match of bytes is a match of text, and a token that
ends inside a character needs no waiting.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class SpanText:
    """Decodes one span and watches for strings in it.

    A stop or blocked string may begin before the span, in what the model wrote just before; it must end inside.
    """

    def __init__(
        self, token_bytes: Sequence[bytes], *, stop: Sequence[str] = (), blocked: Sequence[str] = (), before: str = ""
    ) -> None:
        """Start at the end of `before`.

        Args:
            token_bytes: Bytes of each token by id.
            stop: Strings that end the span.
            blocked: Strings that must not be completed.
            before: What the model wrote just before the span.
        """
        self._token_bytes = token_bytes
        self._stop = [(text, text.encode()) for text in stop]
        self._blocked = [text.encode() for text in blocked]
        self._reach = max((len(text.encode()) for text in (*stop, *blocked)), default=1) - 1
        self._tail = self._last(before.encode())
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def completes_blocked(self, token: int) -> bool:
        """Whether this token, next, would complete a blocked string."""
        if not self._blocked:
            return False
        window = self._tail + self._token_bytes[token]
        return any(self._end(text, window) for text in self._blocked)

    def push(self, token: int) -> tuple[str, str | None]:
        """Take the next token.

        Returns:
            The characters it completes, and the stop string that it completes (the first to end, if several).
        """
        piece = self._token_bytes[token]
        text = self._decoder.decode(piece)
        if not self._stop and not self._blocked:
            return text, None
        window = self._tail + piece
        ends = [(end, stop) for stop, encoded in self._stop if (end := self._end(encoded, window))]
        self._tail = self._last(window)
        return text, min(ends)[1] if ends else None

    def flush(self) -> str:
        """What a character that never became whole is shown as, at the end of the span."""
        return self._decoder.decode(b"", final=True)

    def _end(self, text: bytes, window: bytes) -> int:
        """Where a text ends in tail and piece, if it ends in the piece; 0 if it does not."""
        at = window.find(text, max(0, len(self._tail) - len(text) + 1))
        return at + len(text) if at >= 0 else 0

    def _last(self, window: bytes) -> bytes:
        return window[-self._reach :] if self._reach else b""
