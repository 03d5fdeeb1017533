"""The layers of a Qwen-VL language model, run over a packed step without the machinery of transformers around them.

A step of a few tokens costs mostly what is called around the matrix products: masks that nobody needs, norms and
rotations in many small operations. Here they take one operation where one will do. The modules are the model's own and
are looked up anew each time, so adapters and trained weights count at once. Hooks on the language model or a layer as a
whole are not run: sharded weights (FSDP, ZeRO-3) have to be gathered before.

Shapes: T tokens of a step, A attention heads, H key-value heads, D their size, E width of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Attention of one layer: its index, queries (1, A, T, D), keys and values (1, H, T, D), factor on the scores; gives
(1, T, A, D)."""


def run_layers(
    language: Any,
    embeddings: torch.Tensor,
    positions: torch.Tensor,
    attend: Attend,
    *,
    places: torch.Tensor | None = None,
    deep: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Run the layers.

    Args:
        language: ``Qwen2_5_VLTextModel`` or ``Qwen3VLTextModel``.
        embeddings: Of shape (T, E).
        positions: M-RoPE positions of shape (3, T).
        attend: Attention.
        places: Where image placeholders are, of shape (T,); needed with `deep`.
        deep: For each of the first layers, what is added to its result at these places, of shape (placeholders, E).

    Returns:
        Of shape (T, E), before the last norm.
    """
    cos, sin = language.rotary_emb(embeddings[None], positions[:, None])
    half = cos.shape[-1] // 2
    # Rotating swaps the halves of a head and turns the sign of one; the sign goes into the sines once a step.
    cos, sin = cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)
    hidden = embeddings
    for index, layer in enumerate(language.layers):
        hidden = hidden + _attention(index, layer.self_attn, norm(layer.input_layernorm, hidden), cos, sin, attend)
        hidden = hidden + layer.mlp(norm(layer.post_attention_layernorm, hidden))
        if index < len(deep):
            assert places is not None
            hidden[places] += deep[index].to(hidden.dtype)
    return hidden


def norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """A root-mean-square norm, in one operation where that gives the same numbers."""
    if hidden.dtype != torch.float32:  # rounded elsewhere in the fused form
        normed: torch.Tensor = module(hidden)
        return normed
    return functional.rms_norm(hidden, hidden.shape[-1:], module.weight, module.variance_epsilon)


def _attention(
    index: int, module: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Attend
) -> torch.Tensor:
    tokens, size = len(hidden), module.head_dim
    queries = module.q_proj(hidden).view(tokens, -1, size)
    keys = module.k_proj(hidden).view(tokens, -1, size)
    values = module.v_proj(hidden).view(tokens, -1, size)
    if hasattr(module, "q_norm"):
        queries, keys = norm(module.q_norm, queries), norm(module.k_norm, keys)
    queries, keys = _rotate(queries, cos, sin), _rotate(keys, cos, sin)
    queries, keys, values = (one.transpose(0, 1)[None] for one in (queries, keys, values))
    seen = attend(index, queries, keys, values, module.scaling)
    projected: torch.Tensor = module.o_proj(seen.reshape(tokens, -1))
    return projected


def _rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate heads of shape (T, heads, D) by angles of shape (T, 1, D)."""
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)
