"""One span being generated: what is still to be fed, what was written, and where its chunks go."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from thyme.engines.base import Chunk
from thyme.engines.local import token_chunk
from thyme.engines.outbox import Outbox
from thyme.engines.span_text import SpanText
from thyme.engines.token_sequence import TokenSequence
from thyme.engines.transformers_cache import RowCache
from thyme.engines.transformers_model import Features, Feed, join
from thyme.engines.transformers_pictures import Look
from thyme.families import Family
from thyme.types import ImageRecord


@dataclass(frozen=True, eq=False)
class Job:
    """A request, made ready for the model's thread."""

    trajectory_id: str
    sequence: TokenSequence
    temperature: float
    text: SpanText
    max_tokens: int
    draws: random.Random
    outbox: Outbox


class Reading:
    """Tokens and images that a row still has to be fed before it can write."""

    def __init__(
        self,
        cache: RowCache,
        sequence: TokenSequence,
        family: Family,
        prepare: Callable[[ImageRecord], Look],
    ) -> None:
        """Plan to feed what the cache does not hold.

        Args:
            cache: Aligned with the sequence.
            sequence: What is wanted before the first new token.
            family: For positions and placeholders.
            prepare: Begins to make an image ready to be shown.
        """
        start, known = len(cache), len(cache.images)
        self._ids = sequence.ids[start:]
        self._positions, self._next_position = family.positions(self._ids, sequence.grids[known:], cache.next_position)
        self._is_image = self._ids == family.image_token_id
        self._looks = deque(prepare(image) for image in sequence.images[known:])
        self._images = deque(
            (first, count, image.id)
            for first, count, image in zip(sequence.starts, sequence.counts, sequence.images, strict=True)
            if first >= start
        )
        self._features: Features | None = None
        self._cache = cache
        self._offset, self._at = start, 0

    @property
    def ready(self) -> bool:
        """Whether all images can be shown."""
        return all(look.ready for look in self._looks)

    @property
    def done(self) -> bool:
        """Whether everything was handed out."""
        return self._at == len(self._ids)

    def take(self, limit: int, see: Callable[[Look], Features]) -> Feed:
        """The next tokens.

        Args:
            limit: The most of them, at least 1.
            see: What the vision tower makes of an image.
        """
        start, stop = self._at, min(self._at + limit, len(self._ids))
        features = self._take_features(int(self._is_image[start:stop].sum()), see)
        while self._images and self._images[0][0] < self._offset + stop:
            self._cache.images.append(self._images.popleft())
        self._at = stop
        # Unknown inside an image, and nobody asks: nothing is generated before everything is fed.
        next_position = self._next_position if self.done else -1
        ids: list[int] = self._ids[start:stop].tolist()
        return Feed(self._cache, ids, self._positions[:, start:stop], next_position, features, wants_logits=self.done)

    def _take_features(self, count: int, see: Callable[[Look], Features]) -> Features | None:
        """Features of the next placeholders; images are looked at when their first one is fed."""
        if not count:
            return None
        held = self._features
        while held is None or len(held) < count:
            seen = see(self._looks.popleft())
            held = seen if held is None else join([held, seen])
        self._features = held.cut(count) if count < len(held) else None
        return held.cut(0, count)

    def drop(self) -> None:
        """Give up on images that nobody is shown any more."""
        for look in self._looks:
            look.drop()


@dataclass(eq=False)
class Row:
    """A job that holds a place in the batch."""

    job: Job
    cache: RowCache
    reading: Reading
    written: int = 0
    """Tokens generated in this span."""
    last: int = 0
    """The last of them, not fed yet."""

    @property
    def temperature(self) -> float:
        """tau; 0 is greedy."""
        return self.job.temperature

    @property
    def draws(self) -> random.Random:
        """The row's own random numbers."""
        return self.job.draws

    @property
    def text(self) -> SpanText:
        """The span's text so far."""
        return self.job.text

    def write(self, token: int, logprob: float, *, end_ids: frozenset[int], max_context: int) -> Chunk:
        """Take the next token; the chunk says whether the span ends with it."""
        self.written += 1
        self.last = token
        return token_chunk(
            self.text,
            token,
            logprob,
            end=token in end_ids,
            full=len(self.cache) + 1 >= max_context,
            last=self.written >= self.job.max_tokens,
        )
