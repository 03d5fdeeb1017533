"""Notices a model that goes round in circles, while it writes.

Rolling hashes (Rabin-Karp) over windows of fixed length: the output is a loop once non-overlapping copies of one
window cover more than a share of all of it (the paper: more than 50 %; it does not state the length). Several
lengths, because a window w sees loops of a period below 2 w only, and least well those just below w or 2 w, whose
copies cover hardly more than half. Each character costs O(1) a window length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from thyme.config import RepetitionConfig

ROLLING_THRESHOLD, ROLLING_MIN_CHARS = 0.5, 512
RELEASED_THRESHOLD, RELEASED_MIN_CHARS, RELEASED_TAIL = 0.3, 50, 1000
RELEASED_EXEMPT = ("sandbox_output", "answer", "<code>")
RELEASED_STRIDE = 100
"""The released check is quadratic in its tail, so the streaming form runs it every so many characters."""

MODULUS = (1 << 61) - 1
BASE = 1_000_003


@dataclass(frozen=True, slots=True)
class Repetition:
    """A loop that was found."""

    window: str
    """The text that repeats; a window's length of it."""
    copies: int
    """How often it stands in the output, without overlaps (``released``: with overlaps)."""
    coverage: float
    """Share of the output that the copies take (``released``: of its tail; may exceed 1)."""
    position: int
    """Length of the output when it was found, characters."""


class Detector(Protocol):
    """Reads what the model generates, code and text, never observations."""

    def feed(self, text: str) -> Repetition | None:
        """Take new text; return the loop once there is one, and the same one ever after."""
        ...


def make_detector(config: RepetitionConfig) -> Detector | None:
    """The detector that the config asks for; None if it is off."""
    if config.variant == "off":
        return None
    if config.variant == "released":
        return ReleasedDetector(config.threshold or RELEASED_THRESHOLD, config.min_chars or RELEASED_MIN_CHARS)
    return RepetitionDetector(
        config.windows,
        threshold=config.threshold or ROLLING_THRESHOLD,
        min_chars=config.min_chars or ROLLING_MIN_CHARS,
        min_copies=config.min_copies,
    )


class _Window:
    """The rolling hash of one window length, and how many copies each hash has."""

    __slots__ = ("best", "best_key", "best_start", "copies", "drop", "ends", "hash", "length")

    def __init__(self, length: int, modulus: int) -> None:
        self.length = length
        self.drop = pow(BASE, length, modulus)
        self.hash = 0
        self.copies: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        """Position after the last counted copy, by hash."""
        self.best = 0
        """Most copies of any window so far, its hash, and where one of them starts."""
        self.best_key = 0
        self.best_start = 0


class RepetitionDetector:
    """The detector of the paper; see the head of this module.

    It fires at the first character where, for some window, copies >= `min_copies`, output >= `min_chars` and
    copies x length > `threshold` x output. Chunk borders do not matter. Copies are counted from the left, which is the
    most that fit without overlap. Before it fires, the count is checked against the text itself, so that a collision of
    hashes never ends a rollout.
    """

    def __init__(
        self,
        windows: Sequence[int] = (32, 128, 512),
        *,
        threshold: float = ROLLING_THRESHOLD,
        min_chars: int = ROLLING_MIN_CHARS,
        min_copies: int = 3,
        modulus: int = MODULUS,
    ) -> None:
        """Set it up; lengths in characters. `modulus` is for tests that want collisions."""
        self._threshold, self._min_chars, self._min_copies, self._modulus = threshold, min_chars, min_copies, modulus
        self._windows = [_Window(length, modulus) for length in sorted(set(windows))]
        self._codes: list[int] = []
        self._found: Repetition | None = None

    def feed(self, text: str) -> Repetition | None:
        """Take new text; see `Detector.feed`."""
        for character in text:
            if self._found is not None:
                break
            self._push(ord(character))
        return self._found

    def _push(self, code: int) -> None:
        codes = self._codes
        codes.append(code)
        size = len(codes)
        ripe = size >= self._min_chars
        limit = self._threshold * size
        for window in self._windows:
            length = window.length
            rolled = window.hash * BASE + code + 1
            if size <= length:
                window.hash = rolled % self._modulus
                if size < length:
                    continue
            else:
                window.hash = (rolled - (codes[size - length - 1] + 1) * window.drop) % self._modulus
            self._count(window, size)
            if ripe and window.best * length > limit and window.best >= self._min_copies:
                self._found = self._verified(window)
                if self._found is not None:
                    return

    def _count(self, window: _Window, size: int) -> None:
        """Count the window that ends at `size`, unless it overlaps the last counted copy of itself."""
        key, start = window.hash, size - window.length
        if start < window.ends.get(key, 0):
            return
        window.ends[key] = size
        copies = window.copies[key] = window.copies.get(key, 0) + 1
        if copies > window.best:
            window.best, window.best_key, window.best_start = copies, key, start

    def _verified(self, window: _Window) -> Repetition | None:
        text = "".join(map(chr, self._codes))
        sample = text[window.best_start : window.best_start + window.length]
        copies = text.count(sample)
        if copies >= self._min_copies and copies * window.length > self._threshold * len(text):
            return Repetition(sample, copies, copies * window.length / len(text), len(text))
        self._correct(window, copies)
        return None

    def _correct(self, window: _Window, copies: int) -> None:
        """Two different windows shared a hash: put the count right and look for the next best."""
        window.copies[window.best_key] = copies
        key = max(window.copies, key=window.copies.__getitem__)
        window.best, window.best_key, window.best_start = window.copies[key], key, window.ends[key] - window.length


def released_repetition(
    text: str, threshold: float = RELEASED_THRESHOLD, min_chars: int = RELEASED_MIN_CHARS
) -> Repetition | None:
    """The check of the authors' code, for parity: on the last 1000 characters, copies may overlap.

    Substrings from a third of the tail downwards as long as two copies could exceed the threshold. Exempt is any text
    that holds ``answer``, ``sandbox_output`` or ``<code>``, which is why it hardly ever fires there.
    """
    tail = text[-RELEASED_TAIL:]
    size = len(tail)
    if size < min_chars or any(word in text for word in RELEASED_EXEMPT):
        return None
    for length in range(size // 3, 0, -1):
        if 2 * length / size <= threshold:
            return None
        found = _most_common(tail, length)
        if found[1] > 1 and found[1] * length / size > threshold:
            return Repetition(found[0], found[1], found[1] * length / size, len(text))
    return None


def _most_common(text: str, length: int) -> tuple[str, int]:
    counts: dict[str, int] = {}
    for start in range(len(text) - length + 1):
        sample = text[start : start + length]
        counts[sample] = counts.get(sample, 0) + 1
    return max(counts.items(), key=lambda item: item[1])


class ReleasedDetector:
    """`released_repetition` on a stream: looked at whenever another 100 characters have come."""

    def __init__(self, threshold: float = RELEASED_THRESHOLD, min_chars: int = RELEASED_MIN_CHARS) -> None:
        """Set the share of the tail and the shortest output, characters."""
        self._threshold, self._min_chars = threshold, min_chars
        self._text = ""
        self._found: Repetition | None = None

    def feed(self, text: str) -> Repetition | None:
        """Take new text; see `Detector.feed`."""
        while text and self._found is None:
            room = RELEASED_STRIDE - len(self._text) % RELEASED_STRIDE
            self._text, text = self._text + text[:room], text[room:]
            if len(self._text) % RELEASED_STRIDE == 0:
                self._found = released_repetition(self._text, self._threshold, self._min_chars)
        return self._found
