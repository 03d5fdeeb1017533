"""One forward pass over tokens of several trajectories, packed end to end.

Nothing is padded and no row waits for another: the tokens of all rows run through the model's linear layers together,
and each row attends to its own cache. A row that decodes brings one token, a row that reads an observation brings many,
in the same step. Positions are always given, never left to the model.

Shapes: T tokens of all rows in a step, q tokens of one row, n tokens in its cache, A attention heads, H key-value
heads, D their size, E width of the model, V size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from thyme.engines.transformers_cache import CacheShape, Desk, RowCache
from thyme.engines.transformers_layers import norm, run_layers
from thyme.families.positions import IntArray

_WORTH_SEATING = 3
"""Rows that write from which on they attend together."""
_WORTH_SHARING = 128
"""Tokens of a common beginning from which on it is attended to once for all of them."""
_WORTH_PADDING = 2
"""They do not where padding to the longest would make more than this many times the work."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the vision tower makes of an image: k tokens."""

    embeddings: torch.Tensor
    """Shape (k, E)."""
    deep: tuple[torch.Tensor, ...] = ()
    """Qwen3-VL's deepstack: one of shape (k, E) for each of the first layers, added to what the layer gives."""

    def __len__(self) -> int:
        """Tokens, k."""
        return len(self.embeddings)

    def cut(self, start: int, stop: int | None = None) -> Features:
        """Some of the tokens."""
        return Features(self.embeddings[start:stop], tuple(layer[start:stop] for layer in self.deep))


def join(features: Sequence[Features]) -> Features:
    """Features one after the other; at least one."""
    if len(features) == 1:
        return features[0]
    deep = zip(*(one.deep for one in features), strict=True)
    return Features(torch.cat([one.embeddings for one in features]), tuple(torch.cat(layers) for layers in deep))


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """The q tokens that one row feeds in one step."""

    cache: RowCache
    ids: Sequence[int]
    positions: IntArray
    """Shape (3, q)."""
    next_position: int
    """Position of the token after them."""
    features: Features | None = None
    """Of the image placeholders among them, in order."""
    wants_logits: bool = True
    """Whether the step's logits after the last of them are wanted."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """Tokens ``start`` to ``stop`` of the packed step, and the cache they belong to."""

    cache: RowCache
    start: int
    stop: int
    mask: torch.Tensor | None
    """Shape (q, n + q), True where a token may look; None where it is plainly causal or there is one token."""


@dataclass(frozen=True, slots=True)
class _Together:
    """The rows of the desk, one token each, in the order of its places: the first tokens of the packed step."""

    desk: Desk
    ends: torch.Tensor
    """Where their new tokens go, of shape (rows * H,)."""
    longest: int
    mask: torch.Tensor
    """Shape (rows, 1, 1, longest + 1), 0 where a row may look and minus infinity elsewhere."""
    shared: int
    """Tokens that all of them begin with, or 0 where using that would not pay."""


class PackedModel:
    """A Qwen-VL model from transformers, run packed."""

    def __init__(self, model: Any, image_token_id: int, autocast: torch.dtype | None = None) -> None:
        """Wrap a loaded model.

        Args:
            model: ``Qwen2_5_VLForConditionalGeneration`` or ``Qwen3VLForConditionalGeneration``, in eval mode.
            image_token_id: The image placeholder.
            autocast: Type that products are computed in; None is that of the weights.
        """
        self.model = model
        text = model.config.text_config
        self.device: torch.device = model.device
        self.vocabulary: int = text.vocab_size
        self.max_context: int = text.max_position_embeddings
        self._language = model.model.language_model
        self._image_token_id = image_token_id
        head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.cache_shape = CacheShape(
            text.num_hidden_layers, text.num_key_value_heads, head_size, autocast or model.dtype, self.device
        )
        self._autocast = autocast
        self._desk = Desk(self.cache_shape)

    def forget(self) -> None:
        """Free what is reserved for rows that write together, if none does."""
        self._desk.clear()

    def close(self) -> None:
        """Free what is reserved for rows that write together; the caches of those that do are forgotten."""
        self._desk.empty()

    def see(self, patches: torch.Tensor, grid: torch.Tensor) -> Features:
        """Run the vision tower over one image.

        Args:
            patches: Of shape (patches, values a patch).
            grid: Of shape (1, 3).
        """
        patches, grid = patches.to(self.device, self.model.dtype), grid.to(self.device)
        with self._precision():
            seen = self.model.model.get_image_features(patches, grid, return_dict=True)
        deep = getattr(seen, "deepstack_features", None) or ()
        # Of one image, transformers gives a list of one tensor, and before 5.18 the deepstack's tensors bare.
        whole = tuple(layer if isinstance(layer, torch.Tensor) else layer[0] for layer in deep)
        return Features(seen.pooler_output[0], whole)

    def step(self, feeds: Sequence[Feed]) -> torch.Tensor:
        """Feed the tokens of several rows and extend their caches.

        Args:
            feeds: At least one, each of another row.

        Returns:
            Logits after the last token of each feed that wants them, in order, of shape (feeds that do, V).
        """
        with self._precision():
            return self._step(feeds)

    def _precision(self) -> AbstractContextManager[None]:
        """What products are computed in. Weights cast for it are not kept: they are trained meanwhile."""
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._autocast, cache_enabled=False)

    def _step(self, feeds: Sequence[Feed]) -> torch.Tensor:
        together = self._seated(feeds)
        seated = {id(feed) for feed in together}
        ordered = [*together, *(feed for feed in feeds if id(feed) not in seated)]
        ids = torch.tensor([token for feed in ordered for token in feed.ids], device=self.device)
        positions = torch.from_numpy(np.concatenate([feed.positions for feed in ordered], axis=1)).to(self.device)
        embeddings = self._language.embed_tokens(ids)
        features = [feed.features for feed in ordered if feed.features is not None]
        places, deep = None, list[torch.Tensor]()
        if features:
            seen, places = join(features), ids == self._image_token_id
            embeddings[places] = seen.embeddings.to(embeddings.dtype)
            deep += seen.deep
        attend = partial(_attend, self._together(together), self._segments(ordered[len(together) :], len(together)))
        hidden = run_layers(self._language, embeddings, positions, attend, places=places, deep=deep)
        ends = np.cumsum([len(feed.ids) for feed in ordered])
        last = {id(feed): int(end) - 1 for feed, end in zip(ordered, ends, strict=True)}
        for feed in feeds:
            feed.cache.extend(feed.ids, feed.next_position)
        wanted = hidden[[last[id(feed)] for feed in feeds if feed.wants_logits]]
        logits: torch.Tensor = self.model.lm_head(norm(self._language.norm, wanted))
        return logits

    def _seated(self, feeds: Sequence[Feed]) -> list[Feed]:
        """The feeds that attend together, in the order of the desk; none where that would not pay."""
        writers = {id(feed.cache): feed for feed in feeds if len(feed.ids) == 1 and len(feed.cache)}
        if len(writers) < _WORTH_SEATING:
            return []
        for cache in [cache for cache in self._desk.rows if id(cache) not in writers]:
            cache.leave()
        for feed in writers.values():
            feed.cache.reserve(len(feed.cache) + 1)
            if feed.cache.desk is None:
                self._desk.seat(feed.cache)
        lengths = [len(cache) for cache in self._desk.rows]
        if max(lengths) * len(lengths) > _WORTH_PADDING * sum(lengths):
            return []
        return [writers[id(cache)] for cache in self._desk.rows]

    def _together(self, feeds: Sequence[Feed]) -> _Together | None:
        if not feeds:
            return None
        counts = [len(feed.cache) for feed in feeds]
        longest = max(counts)
        hidden = torch.arange(longest + 1, device=self.device) > torch.tensor(counts, device=self.device)[:, None]
        mask = torch.zeros(hidden.shape, dtype=self.model.dtype, device=self.device).masked_fill_(hidden, -torch.inf)
        shared = self._desk.shared if self._desk.shared >= _WORTH_SHARING else 0
        return _Together(self._desk, self._desk.ends(), longest, mask[:, None, None], shared)

    def _segments(self, feeds: Sequence[Feed], start: int) -> list[_Segment]:
        segments = []
        for feed in feeds:
            held, new = len(feed.cache), len(feed.ids)
            feed.cache.reserve(held + new)
            mask = None
            if held and new > 1:
                mask = torch.ones(new, held + new, dtype=torch.bool, device=self.device).tril(held)
            segments.append(_Segment(feed.cache, start, start + new, mask))
            start += new
        return segments


def _attend(
    together: _Together | None,
    segments: Sequence[_Segment],
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Attention of packed rows; see `thyme.engines.transformers_layers.Attend`.

    Args:
        together: The rows of the desk, whose tokens come first.
        segments: Whose the other tokens are.
        layer: Index of the layer.
        query: Of shape (1, A, T, D).
        key: Of shape (1, H, T, D).
        value: Of shape (1, H, T, D).
        scaling: Factor on the scores.

    Returns:
        Of shape (1, T, A, D).
    """
    outputs = []
    if together is not None:
        outputs.append(_attend_at_desk(layer, query, key, value, scaling, together))
    for row in segments:
        new = slice(row.start, row.stop)
        keys, values = row.cache.write(layer, key[:, :, new], value[:, :, new])
        outputs.append(_attend_alone(query[:, :, new], keys, values, scaling, row.mask))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def _attend_at_desk(
    layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, together: _Together
) -> torch.Tensor:
    """One token of each row of the desk. Returns (1, rows, A, D)."""
    rows, heads, size = len(together.desk.rows), key.shape[1], query.shape[3]
    keys, values = together.desk.write(
        layer, key[0, :, :rows].transpose(0, 1), value[0, :, :rows].transpose(0, 1), together.ends, together.longest
    )
    # The query heads that share a key-value head stand in for the query's length: no copy of the cache.
    grouped = query[0, :, :rows].transpose(0, 1).reshape(rows, heads, -1, size)
    if together.shared:
        seen = _attend_to_shared(grouped * scaling, keys, values, together.mask, together.shared)
    else:
        seen = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=together.mask, scale=scaling)
    return seen.reshape(1, rows, -1, size)


def _attend_to_shared(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, shared: int
) -> torch.Tensor:
    """Attention of rows that begin alike: the beginning is read from memory once, which is what attention waits for.

    Args:
        query: Scaled, of shape (rows, H, A / H, D).
        keys: Of shape (rows, H, n, D).
        values: Of shape (rows, H, n, D).
        mask: Of shape (rows, 1, 1, n).
        shared: Tokens that all rows begin with.

    Returns:
        Of shape (rows, H, A / H, D).
    """
    rows, heads, group, size = query.shape
    across = query.transpose(0, 1).reshape(heads, rows * group, size)
    to_shared = torch.bmm(across, keys[0, :, :shared].transpose(1, 2)).view(heads, rows, group, shared)
    to_own = torch.matmul(query, keys[:, :, shared:].transpose(2, 3)) + mask[..., shared:]
    scores = torch.cat([to_shared, to_own.transpose(0, 1)], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    of_shared = torch.bmm(weights[..., :shared].flatten(1, 2), values[0, :, :shared])
    of_own = torch.matmul(weights[..., shared:].transpose(0, 1), values[:, :, shared:])
    return of_own + of_shared.view(heads, rows, group, size).transpose(0, 1)


def _attend_alone(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """The q tokens of one row, of shape (1, A, q, D). Returns (1, q, A, D)."""
    heads, attention_heads, count = keys.shape[1], query.shape[1], query.shape[2]
    if count == 1:
        grouped = query.reshape(1, heads, attention_heads // heads, -1)
        seen = functional.scaled_dot_product_attention(grouped, keys, values, scale=scaling)
        return seen.reshape(1, 1, attention_heads, -1)
    keys, values = (one.repeat_interleave(attention_heads // heads, dim=1) for one in (keys, values))
    seen = functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling
    )
    return seen.transpose(1, 2)
