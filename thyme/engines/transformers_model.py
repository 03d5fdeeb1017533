"""One forward pass over tokens of several trajectories, packed end to end.

Nothing is padded and no row waits for another: the tokens of all rows run through the model's linear layers together,
and each row attends to its own cache. A row that decodes brings one token, a row that reads an observation brings many,
in the same step. Positions are always given, never left to the model.

Shapes: T tokens of all rows in a step, q tokens of one row, n tokens in its cache, A attention heads, H key-value
heads, D their size, E width of the model, V size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from thyme.engines.transformers_cache import CacheShape, RowCache
from thyme.families.positions import IntArray

_ATTENTION = "thyme_packed"


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


class PackedModel:
    """A Qwen-VL model from transformers, run packed."""

    def __init__(self, model: Any, image_token_id: int) -> None:
        """Wrap a loaded model.

        Args:
            model: ``Qwen2_5_VLForConditionalGeneration`` or ``Qwen3VLForConditionalGeneration``, in eval mode.
            image_token_id: The image placeholder.
        """
        self.model = model
        text = model.config.text_config
        self.device: torch.device = model.device
        self.vocabulary: int = text.vocab_size
        self.max_context: int = text.max_position_embeddings
        self._language = model.model.language_model
        self._image_token_id = image_token_id
        self._no_mask = torch.zeros(1, 1, 1, 1, device=self.device)
        head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.cache_shape = CacheShape(
            text.num_hidden_layers, text.num_key_value_heads, head_size, model.dtype, self.device
        )

    def see(self, patches: torch.Tensor, grid: torch.Tensor) -> Features:
        """Run the vision tower over one image.

        Args:
            patches: Of shape (patches, values a patch).
            grid: Of shape (1, 3).
        """
        patches, grid = patches.to(self.device, self.model.dtype), grid.to(self.device)
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
        ids = torch.tensor([token for feed in feeds for token in feed.ids], device=self.device)
        positions = torch.from_numpy(np.concatenate([feed.positions for feed in feeds], axis=1)).to(self.device)
        embeddings = self._language.embed_tokens(ids)
        vision: dict[str, Any] = {}
        features = [feed.features for feed in feeds if feed.features is not None]
        if features:
            seen, places = join(features), ids == self._image_token_id
            embeddings[places] = seen.embeddings.to(embeddings.dtype)
            if seen.deep:
                vision = {"visual_pos_masks": places[None], "deepstack_visual_embeds": list(seen.deep)}
        segments = self._segments(feeds)
        with _packed_attention(self._language.config):
            hidden = self._language(
                inputs_embeds=embeddings[None],
                position_ids=positions[:, None],
                attention_mask=self._no_mask,  # a ready-made mask is taken as it is; the segments know who sees whom
                use_cache=False,
                segments=segments,
                **vision,
            ).last_hidden_state[0]
        for feed in feeds:
            feed.cache.extend(feed.ids, feed.next_position)
        wanted = [segment.stop - 1 for segment, feed in zip(segments, feeds, strict=True) if feed.wants_logits]
        logits: torch.Tensor = self.model.lm_head(hidden[wanted])
        return logits

    def _segments(self, feeds: Sequence[Feed]) -> list[_Segment]:
        segments, start = [], 0
        for feed in feeds:
            held, new = len(feed.cache), len(feed.ids)
            feed.cache.reserve(held + new)
            mask = None
            if held and new > 1:
                mask = torch.ones(new, held + new, dtype=torch.bool, device=self.device).tril(held)
            segments.append(_Segment(feed.cache, start, start + new, mask))
            start += new
        return segments


@contextmanager
def _packed_attention(config: Any) -> Iterator[None]:
    """Switch the language model to packed attention for one pass, and leave it to others as it was."""
    before = config._attn_implementation
    config._attn_implementation = _ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    segments: Sequence[_Segment],
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of packed rows, in the form that transformers calls.

    Args:
        module: The attention layer.
        query: Of shape (1, A, T, D).
        key: Of shape (1, H, T, D).
        value: Of shape (1, H, T, D).
        attention_mask: Not used.
        scaling: Factor on the scores.
        segments: Whose tokens they are.

    Returns:
        Of shape (1, T, A, D), and no weights.
    """
    outputs = []
    heads, groups = key.shape[1], query.shape[1] // key.shape[1]
    for row in segments:
        new = slice(row.start, row.stop)
        keys, values = row.cache.write(module.layer_idx, key[:, :, new], value[:, :, new])
        if row.stop - row.start == 1:
            # The query heads that share a key-value head stand in for the query's length: no copy of the cache.
            one = query[:, :, new].view(1, heads, groups, -1)
            seen = functional.scaled_dot_product_attention(one, keys, values, scale=scaling)
            outputs.append(seen.reshape(1, 1, heads * groups, -1))
            continue
        seen = functional.scaled_dot_product_attention(
            query[:, :, new],
            keys.repeat_interleave(groups, dim=1),
            values.repeat_interleave(groups, dim=1),
            attn_mask=row.mask,
            is_causal=row.mask is None,
            scale=scaling,
        )
        outputs.append(seen.transpose(1, 2))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None


ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)
