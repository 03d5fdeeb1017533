"""The key-value cache of one trajectory: its own length, no holes, no padding.

Shapes: H key-value heads, D their size, C the capacity that was reserved, n the tokens held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from thyme.engines.transformers_sequence import TokenSequence
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

    def __len__(self) -> int:
        """Tokens held, n."""
        return len(self.ids)

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens in all."""
        if length <= self.capacity:
            return
        capacity = max(length, self.capacity + max(_GROWTH, self.capacity // 2))
        self.keys = self._grown(self.keys, capacity)
        self.values = self._grown(self.values, capacity)
        self.capacity = capacity

    def _grown(self, old: list[torch.Tensor], capacity: int) -> list[torch.Tensor]:
        shape, held = self.shape, len(self)
        size = (1, shape.heads, capacity, shape.head_size)
        grown = [torch.empty(size, dtype=shape.dtype, device=shape.device) for _ in range(shape.layers)]
        for new, kept in zip(grown, old, strict=False):  # nothing is old at first
            new[:, :, :held] = kept[:, :, :held]
        return grown

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
        keep = self._common(wanted)
        for start, count, content in self.images:
            if start < keep and (wanted.image_at(start) != (count, content) or keep < start + count):
                keep = start
        if keep < len(self) or self.next_position < 0:
            self.images = [image for image in self.images if image[0] < keep]
            del self.ids[keep:]
            kept_grids = wanted.grids[: len(self.images)]
            self.next_position = family.positions(wanted.ids[:keep], kept_grids, 0)[1]

    def _common(self, wanted: TokenSequence) -> int:
        length = min(len(self), len(wanted.ids) - 1)
        differ = np.flatnonzero(np.asarray(self.ids[:length], dtype=np.int64) != wanted.ids[:length])
        return int(differ[0]) if differ.size else length
