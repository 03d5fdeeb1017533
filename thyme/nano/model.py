"""A lean Qwen2.5-VL forward pass for training the embedded model.

Parameters carry the names that transformers' ``Qwen2_5_VLForConditionalGeneration`` uses, so a state dict moves
between the two unchanged; a test holds them to the same logits. It exists for speed on a CPU: plain bf16 matrix
products, images of one fixed size, no cache. Everything outside training uses transformers' own class.

Shapes: B rows, T tokens, N image tokens, V = `thyme.nano.perception.views.VIEW` pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from thyme.nano.perception.views import VIEW

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLConfig

PATCH = 8
MERGE = 2
SIDE_TOKENS = VIEW // (PATCH * MERGE)
IMAGE_TOKENS = SIDE_TOKENS**2
"""Language-model tokens of one view."""
_TEMPORAL = 2

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NanoConfig:
    """Sizes of the embedded model."""

    vocab_size: int = 640
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    mlp: int = 512
    theta: float = 10_000.0
    mrope_section: tuple[int, int, int] = (4, 6, 6)
    vision_hidden: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    vision_mlp: int = 256
    eps: float = 1e-6


def transformers_config(config: NanoConfig, ids: dict[str, int]) -> Qwen2_5_VLConfig:
    """The same sizes as transformers spells them.

    Args:
        config: The sizes.
        ids: Token ids by name: ``image``, ``video``, ``vision_start``, ``vision_end``, ``end``, ``pad``.
    """
    from transformers import Qwen2_5_VLConfig

    text: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.eps,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": config.theta,
            "mrope_section": list(config.mrope_section),
        },
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids["end"],
        "pad_token_id": ids["pad"],
    }
    vision: dict[str, Any] = {
        "depth": config.vision_layers,
        "hidden_size": config.vision_hidden,
        "intermediate_size": config.vision_mlp,
        "num_heads": config.vision_heads,
        "patch_size": PATCH,
        "temporal_patch_size": _TEMPORAL,
        "spatial_merge_size": MERGE,
        "window_size": VIEW,
        "out_hidden_size": config.hidden,
        "fullatt_block_indexes": list(range(config.vision_layers)),
        "hidden_act": "silu",
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image"],
        video_token_id=ids["video"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply in the activations' type: weights are kept in fp32 and computed with in bf16."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    out: Tensor = functional.linear(x, layer.weight.to(x.dtype), bias)
    return out


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """Attention as two matrix products: on a CPU in bf16 several times faster than the fused one.

    Args:
        q: (B, heads, T, d).
        k: (B, kv heads, T, d).
        v: (B, kv heads, T, d).
        causal: Whether a token sees only itself and what is before it.

    Returns:
        (B, T, heads * d).
    """
    if q.is_cuda:
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        return out.transpose(1, 2).flatten(2)
    repeat = q.shape[1] // k.shape[1]
    if repeat > 1:
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        length = scores.shape[-1]
        scores = scores + torch.full((length, length), -1e4, dtype=scores.dtype).triu(1)
    mixed: Tensor = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return mixed


class _Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class _Mlp(nn.Module):
    def __init__(self, size: int, inner: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size, inner, bias=bias)
        self.up_proj = nn.Linear(size, inner, bias=bias)
        self.down_proj = nn.Linear(inner, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return _linear(self.down_proj, functional.silu(_linear(self.gate_proj, x)) * _linear(self.up_proj, x))


class _VisionAttention(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * size)
        self.proj = nn.Linear(size, size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = _linear(self.qkv, x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = attend(_rotate(q, cos, sin), _rotate(k, cos, sin), v, causal=False)
        return _linear(self.proj, out)


class _VisionBlock(nn.Module):
    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = _Norm(c.vision_hidden, c.eps), _Norm(c.vision_hidden, c.eps)
        self.attn = _VisionAttention(c.vision_hidden, c.vision_heads)
        self.mlp = _Mlp(c.vision_hidden, c.vision_mlp, bias=True)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _PatchEmbed(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        shape = (_TEMPORAL, PATCH, PATCH)
        self.proj = nn.Conv3d(3, size, shape, shape, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        # Both time steps of a still image are equal, so their weights add up.
        return functional.linear(patches, self.proj.weight.sum(2).flatten(1).to(patches.dtype))


class _Merger(nn.Module):
    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        inner = c.vision_hidden * MERGE**2
        self.ln_q = _Norm(c.vision_hidden, c.eps)
        self.mlp = nn.Sequential(nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, c.hidden))

    def forward(self, x: Tensor) -> Tensor:
        rows, length, size = x.shape
        x = self.ln_q(x).reshape(rows, length // MERGE**2, size * MERGE**2)
        first, last = self.mlp[0], self.mlp[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        return _linear(last, functional.gelu(_linear(first, x)))


def patches(views: Tensor) -> Tensor:
    """Cut views into patches, in the order in which neighbours are merged.

    Args:
        views: (B, V, V, 3), uint8.

    Returns:
        (B, patches, 3 * PATCH * PATCH) in [-1, 1].
    """
    rows, side = views.shape[0], VIEW // (PATCH * MERGE)
    x = (views.float() / 127.5 - 1).view(rows, side, MERGE, PATCH, side, MERGE, PATCH, 3)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(rows, side * side * MERGE**2, 3 * PATCH * PATCH)


class Visual(nn.Module):
    """The vision tower: (B, V, V, 3) uint8 to (B, IMAGE_TOKENS, hidden)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(c.vision_hidden)
        self.blocks = nn.ModuleList(_VisionBlock(c) for _ in range(c.vision_layers))
        self.merger = _Merger(c)
        angles = self._angles(c)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    @staticmethod
    def _angles(c: NanoConfig) -> Tensor:
        side = VIEW // PATCH
        head = c.vision_hidden // c.vision_heads
        inverse = 10_000.0 ** -(torch.arange(0, head // 2, 2).float() / (head // 2))
        grid = torch.arange(side).float()
        merged = []
        for axis in torch.meshgrid(grid, grid, indexing="ij"):
            blocks = axis.reshape(side // MERGE, MERGE, side // MERGE, MERGE).transpose(1, 2).flatten()
            merged.append(blocks[:, None] * inverse)
        half = torch.cat(merged, -1)
        return torch.cat([half, half], -1)

    def forward(self, views: Tensor, dtype: torch.dtype) -> Tensor:
        """Features of views, computed in `dtype`."""
        x = self.patch_embed(patches(views).to(dtype))
        cos, sin = self.cos.to(dtype), self.sin.to(dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        out: Tensor = self.merger(x)
        return out


class _TextAttention(nn.Module):
    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        self.head = c.hidden // c.heads
        self.q_proj = nn.Linear(c.hidden, c.hidden)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * self.head)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * self.head)
        self.o_proj = nn.Linear(c.hidden, c.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = (
            _linear(layer, x).view(rows, length, -1, self.head).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return _linear(self.o_proj, attend(_rotate(q, cos, sin), _rotate(k, cos, sin), v, causal=True))


class _TextLayer(nn.Module):
    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        self.self_attn = _TextAttention(c)
        self.mlp = _Mlp(c.hidden, c.mlp, bias=False)
        self.input_layernorm, self.post_attention_layernorm = _Norm(c.hidden, c.eps), _Norm(c.hidden, c.eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _Text(nn.Module):
    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(_TextLayer(c) for _ in range(c.layers))
        self.norm = _Norm(c.hidden, c.eps)


class _Model(nn.Module):
    def __init__(self, c: NanoConfig) -> None:
        super().__init__()
        self.visual = Visual(c)
        self.language_model = _Text(c)


class NanoVL(nn.Module):
    """The whole model. Weights in fp32; activations in `dtype`."""

    inverse: Tensor

    def __init__(self, config: NanoConfig, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.model = _Model(config)
        head = config.hidden // config.heads
        self.register_buffer("inverse", config.theta ** -(torch.arange(0, head, 2).float() / head), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter.flatten(1).shape[1]
                deviation = 0.02 if "embed_tokens" in name else min(0.08, fan_in**-0.5)
                nn.init.normal_(parameter, std=deviation)
            elif "bias" in name:
                nn.init.zeros_(parameter)

    @property
    def text(self) -> _Text:
        """The language model."""
        return self.model.language_model

    @property
    def visual(self) -> Visual:
        """The vision tower."""
        return self.model.visual

    def see(self, views: Tensor) -> Tensor:
        """Image features: (B, V, V, 3) uint8 to (B, IMAGE_TOKENS, hidden) in `dtype`."""
        # A compiled tower is compiled for training batches only; calling forward bypasses it.
        see = self.visual if torch.is_grad_enabled() else self.visual.forward
        out: Tensor = see(views, self.dtype)
        return out

    def _rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self.inverse
        parts = torch.split(angles, list(self.config.mrope_section), -1)
        half = torch.cat([part[axis] for axis, part in enumerate(parts)], -1)
        full = torch.cat([half, half], -1)[:, None]
        return full.cos().to(self.dtype), full.sin().to(self.dtype)

    def forward(self, ids: Tensor, positions: Tensor, image_mask: Tensor, features: Tensor | None) -> Tensor:
        """Last hidden states.

        Args:
            ids: (B, T) token ids, padded on the right.
            positions: (3, B, T).
            image_mask: (B, T), True where an image token stands.
            features: (images, IMAGE_TOKENS, hidden), in reading order of the batch; None without images.

        Returns:
            (B, T, hidden), normalised.
        """
        x = functional.embedding(ids, self.text.embed_tokens.weight).to(self.dtype)
        if features is not None:
            x = x.masked_scatter(image_mask[..., None], features.reshape(-1, x.shape[-1]).to(x.dtype))
        cos, sin = self._rope(positions)
        for layer in self.text.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.text.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits of hidden states, through the tied embedding."""
        return functional.linear(hidden, self.text.embed_tokens.weight.to(hidden.dtype))


def positions_of(ids: Sequence[int], image_id: int) -> Ints:
    """M-RoPE positions of one row.

    Args:
        ids: Token ids; image placeholders come in runs of whole views.
        image_id: The placeholder.

    Returns:
        (3, T): time, height, width.
    """
    side = SIDE_TOKENS
    grid = np.stack([np.zeros(side * side, int), np.repeat(np.arange(side), side), np.tile(np.arange(side), side)])
    parts: list[Ints] = []
    at = start = 0
    while at < len(ids):
        if ids[at] == image_id:
            parts.append(grid + start)
            at, start = at + IMAGE_TOKENS, start + side
        else:
            parts.append(np.full((3, 1), start))
            at, start = at + 1, start + 1
    return np.concatenate(parts, 1)
