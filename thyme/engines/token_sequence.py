"""A request as one sequence of token ids and images. No tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thyme.engines.base import Request
from thyme.errors import EngineError
from thyme.families import Family, Grid
from thyme.families.positions import IntArray
from thyme.markup import observation_parts
from thyme.types import Generated, ImageRecord, Observation, Prompt, Segment


@dataclass(frozen=True)
class TokenSequence:
    """Everything that stands before the first token to generate."""

    ids: IntArray
    """Shape (L,), image placeholders expanded."""
    images: tuple[ImageRecord, ...]
    grids: tuple[Grid, ...]
    starts: tuple[int, ...]
    """Index of each image's first placeholder."""
    counts: tuple[int, ...]
    """Placeholders of each image."""

    @cached_property
    def _images_by_start(self) -> dict[int, tuple[int, str]]:
        return {s: (n, image.id) for s, n, image in zip(self.starts, self.counts, self.images, strict=True)}

    def image_at(self, start: int) -> tuple[int, str] | None:
        """Number of placeholders and content id of the image that starts there."""
        return self._images_by_start.get(start)

    def shared(self, other: TokenSequence) -> int:
        """Tokens of the longest common prefix, images compared by content; it never ends inside an image."""
        both = min(len(self.ids), len(other.ids))
        differ = np.flatnonzero(self.ids[:both] != other.ids[:both])
        return self.whole_images(int(differ[0]) if differ.size else both, other.spans)

    @property
    def spans(self) -> list[tuple[int, int, str]]:
        """First token, number of tokens and content id of each image."""
        return [(start, *self._images_by_start[start]) for start in self.starts]

    def whole_images(self, length: int, images: Sequence[tuple[int, int, str]]) -> int:
        """How much remains of a common prefix of ids, if images have to be the same and to be in it as a whole.

        Args:
            length: Of the prefix.
            images: The other side's, as `spans` gives them.
        """
        for start, count, content in images:
            if start < length and (self.image_at(start) != (count, content) or length < start + count):
                return start
        return length


def request_sequence(request: Request, family: Family) -> TokenSequence:
    """Ids and images of prompt and segments. Ids that are known are taken as they are; only missing ones are made.

    Raises:
        EngineError: The record's placeholders and images do not match under this model's image settings.
    """
    ids, images = _prompt(request.prompt, family)
    for segment in request.segments:
        more_ids, more_images = _segment(segment, family)
        ids += more_ids
        images += more_images
    array = np.asarray(ids, dtype=np.int64)
    grids = tuple(family.grid(image.width, image.height) for image in images)
    counts = [family.image_tokens(grid) for grid in grids]
    placeholders = np.flatnonzero(array == family.image_token_id)
    if placeholders.size != sum(counts):
        raise EngineError(
            f"trajectory {request.trajectory_id} holds {placeholders.size} image tokens where its {len(images)} images "
            f"take {sum(counts)}; it was recorded with other pixel limits or another model"
        )
    firsts = np.cumsum([0, *counts])[:-1]
    starts = tuple(int(placeholders[first]) for first in firsts)
    return TokenSequence(array, tuple(images), grids, starts, tuple(counts))


def _prompt(prompt: Prompt, family: Family) -> tuple[list[int], list[ImageRecord]]:
    images = [seen.image for seen in prompt.images]
    if prompt.token_ids:
        return list(prompt.token_ids), images
    return list(family.encode_parts(family.prompt_parts(prompt.system, prompt.user, images)).ids), images


def _segment(segment: Segment, family: Family) -> tuple[list[int], list[ImageRecord]]:
    if isinstance(segment, Generated):
        return list(segment.token_ids) or family.encode_text(segment.text), []
    return _observation(segment, family)


def _observation(observation: Observation, family: Family) -> tuple[list[int], list[ImageRecord]]:
    images = list(observation.execution.images)
    if observation.token_ids:
        return list(observation.token_ids), images
    return list(family.encode_parts(observation_parts(observation.execution)).ids), images
