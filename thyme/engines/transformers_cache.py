"""Key-value caches: one a trajectory, of its own length, without holes; and a desk for those that write together.

Shapes: H key-value heads, D their size, C the capacity that was reserved, n the tokens held, P places at the desk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from thyme.engines.token_sequence import TokenSequence
from thyme.families import Family

_GROWTH = 256
"""Least tokens by which the capacity grows."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a cache of a model looks like."""

    layers: int
    heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    def room(self, places: int, capacity: int) -> list[torch.Tensor]:
        """Tensors of shape (places, H, C, D), one a layer. All zero: masking does not silence a NaN."""
        size = (places, self.heads, capacity, self.head_size)
        return [torch.zeros(size, dtype=self.dtype, device=self.device) for _ in range(self.layers)]


@dataclass(eq=False)
class RowCache:
    """Keys and values of what was fed for one trajectory, and what that was."""

    shape: CacheShape
    ids: list[int] = field(default_factory=list)
    """The n token ids fed, image placeholders included."""
    images: list[tuple[int, int, str]] = field(default_factory=list)
    """First token, number of tokens and content id of each image whose feeding began."""
    next_position: int = 0
    """M-RoPE position of the next token; negative where feeding stopped in the middle of what was to be read."""
    keys: list[torch.Tensor] = field(default_factory=list)
    """One a layer, of shape (1, H, C, D)."""
    values: list[torch.Tensor] = field(default_factory=list)
    capacity: int = 0
    desk: Desk | None = field(default=None, repr=False)
    """Where it is seated; its tensors are views of the desk's then."""

    def __len__(self) -> int:
        """Tokens held, n."""
        return len(self.ids)

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens in all."""
        if length <= self.capacity:
            return
        capacity = max(length, self.capacity + max(_GROWTH, self.capacity // 2))
        if self.desk is not None:
            self.desk.grow(capacity=capacity)
        else:
            self.move(*(self.shape.room(1, capacity) for _ in range(2)))

    def move(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        """Go on in other tensors, one a layer, of shape (1, H, C, D)."""
        held = len(self)
        for old, new in zip((*self.keys, *self.values), (*keys, *values), strict=False):  # nothing is old at first
            new[:, :, :held] = old[:, :, :held]
        self.keys, self.values = keys, values
        self.capacity = keys[0].shape[2]

    def leave(self) -> None:
        """Leave the desk, if seated, with tensors of its own."""
        if self.desk is not None:
            self.desk.dismiss(self)

    def drop(self) -> None:
        """Forget everything, and leave the desk, if seated. Takes no memory, so it works where there is none."""
        if self.desk is not None:
            self.desk.dismiss(self, keep=False)
        self.ids, self.images, self.next_position = [], [], 0
        self.keys, self.values, self.capacity = [], [], 0

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put the keys and values of q new tokens behind the n held; they count once `extend` says so.

        Args:
            layer: Index of the layer.
            keys: Of shape (1, H, q, D).
            values: Of shape (1, H, q, D).

        Returns:
            Keys and values of all n + q tokens, as views.
        """
        held = len(self.ids)
        length = held + keys.shape[2]
        all_keys, all_values = self.keys[layer], self.values[layer]
        all_keys[:, :, held:length] = keys
        all_values[:, :, held:length] = values
        return all_keys[:, :, :length], all_values[:, :, :length]

    def extend(self, ids: Sequence[int], next_position: int) -> None:
        """Count tokens whose keys and values were written in every layer."""
        self.ids.extend(ids)
        self.next_position = next_position

    def align(self, wanted: TokenSequence, family: Family) -> None:
        """Keep the longest common prefix with a sequence, and at most all of it but its last token.

        What is kept never ends inside an image, and images count as equal by content, not by their placeholders.
        """
        keep = self.common(wanted)
        if keep < len(self) or self.next_position < 0:
            self.images = [image for image in self.images if image[0] < keep]
            del self.ids[keep:]
            self._place(wanted, family)

    def take_over(self, donor: RowCache, count: int, wanted: TokenSequence, family: Family) -> None:
        """Begin, empty, with a copy of the first tokens of another cache.

        Args:
            donor: Holds them.
            count: How many, at most `common` of the donor.
            wanted: The sequence that they begin.
            family: For positions.
        """
        self.reserve(count)
        for mine, others in zip((*self.keys, *self.values), (*donor.keys, *donor.values), strict=True):
            mine[:, :, :count] = others[:, :, :count]
        self.ids = donor.ids[:count]
        self.images = [image for image in donor.images if image[0] < count]
        self._place(wanted, family)

    def common(self, wanted: TokenSequence) -> int:
        """Tokens that could be kept for a sequence; never all of it, as the last one's logits are needed."""
        length = min(len(self), len(wanted.ids) - 1)
        differ = np.flatnonzero(np.asarray(self.ids[:length], dtype=np.int64) != wanted.ids[:length])
        return wanted.whole_images(int(differ[0]) if differ.size else length, self.images)

    def begins_like(self, other: RowCache) -> int:
        """Tokens of the longest common prefix with another cache; it never ends inside an image."""
        length = min(len(self), len(other))
        differ = np.flatnonzero(np.not_equal(self.ids[:length], other.ids[:length]))
        length = int(differ[0]) if differ.size else length
        for image in self.images:
            if image[0] < length and (image not in other.images or length < image[0] + image[1]):
                return image[0]
        return length

    def _place(self, wanted: TokenSequence, family: Family) -> None:
        """Work out where the next token stands."""
        kept_grids = wanted.grids[: len(self.images)]
        self.next_position = family.positions(wanted.ids[: len(self)], kept_grids, 0)[1]


class Desk:
    """Caches of rows that write, side by side, so that one call attends for all of them.

    Sitting down and leaving copies a cache once each; in between, a step writes into all of them at once and pads
    nothing but the attention to the longest.
    """

    def __init__(self, shape: CacheShape) -> None:
        """An empty desk."""
        self.rows: list[RowCache] = []
        """Seated caches; the first places are always taken."""
        self._shape = shape
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._places = self._capacity = 0
        self._shared: int | None = None

    @property
    def shared(self) -> int:
        """Tokens with which all seated rows begin, images compared by content; 0 for less than two rows."""
        if self._shared is None:
            first, others = self.rows[:1], self.rows[1:]
            self._shared = min((first[0].begins_like(other) for other in others), default=0)
        return self._shared

    def seat(self, cache: RowCache) -> None:
        """Seat a cache at the next free place."""
        self.grow(places=len(self.rows) + 1, capacity=len(cache) + 1)
        self.rows.append(cache)
        self._shared = None
        cache.desk = self
        self._bind(len(self.rows) - 1)

    def dismiss(self, cache: RowCache, *, keep: bool = True) -> None:
        """Let a seated cache go; the last one takes its place.

        Args:
            cache: Gets tensors of its own.
            keep: False: it gets none, and must not be used as it is.
        """
        place = self.rows.index(cache)
        if keep:
            cache.move(*(self._shape.room(1, len(cache) + _GROWTH) for _ in range(2)))
        cache.desk = None
        self._shared = None
        last = self.rows.pop()
        if last is not cache:
            self.rows[place] = last
            self._bind(place)

    def clear(self) -> None:
        """Free what is reserved, if nobody is seated: room that is made anew costs more than what is written to it."""
        if not self.rows:
            self._keys, self._values, self._places, self._capacity = [], [], 0, 0

    def empty(self) -> None:
        """Free everything; who was seated is forgotten."""
        for cache in reversed(tuple(self.rows)):  # from the last place on, nobody has to move
            cache.drop()
        self.clear()

    def grow(self, *, places: int = 0, capacity: int = 0) -> None:
        """Make sure of so many places of such a capacity. Where memory does not suffice, everything is as before."""
        if places <= self._places and capacity <= self._capacity:
            return
        places = 2 * places if places > self._places else self._places
        capacity = capacity + max(_GROWTH, capacity // 2) if capacity > self._capacity else self._capacity
        keys, values = (self._shape.room(places, capacity) for _ in range(2))
        self._keys, self._values, self._places, self._capacity = keys, values, places, capacity
        for place in range(len(self.rows)):
            self._bind(place)

    def ends(self) -> torch.Tensor:
        """Where the next token of every seated row goes, as `write` takes it, of shape (rows * H,)."""
        heads, capacity = self._shape.heads, self._capacity
        lengths = torch.tensor([len(row) for row in self.rows], device=self._shape.device)
        starts = torch.arange(len(self.rows) * heads, device=self._shape.device) * capacity
        return starts + lengths.repeat_interleave(heads)

    def write(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, ends: torch.Tensor, longest: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put one new token of every seated row behind what the row holds; it counts once `RowCache.extend` says so.

        Args:
            layer: Index of the layer.
            keys: Of shape (rows, H, D), in the order of the places.
            values: Of shape (rows, H, D).
            ends: What `ends` gives.
            longest: The most tokens that a row holds.

        Returns:
            Keys and values of shape (rows, H, longest + 1, D), as views; what lies behind a row's own n + 1 tokens is
            to be masked.
        """
        size = self._shape.head_size
        whole = self._keys[layer], self._values[layer]
        for reserved, new in zip(whole, (keys, values), strict=True):
            reserved.view(-1, size).index_copy_(0, ends, new.reshape(-1, size).to(reserved.dtype))
        all_keys, all_values = (reserved[: len(self.rows), :, : longest + 1] for reserved in whole)
        return all_keys, all_values

    def _bind(self, place: int) -> None:
        one = slice(place, place + 1)
        self.rows[place].move([layer[one] for layer in self._keys], [layer[one] for layer in self._values])
