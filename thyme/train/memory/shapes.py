"""Sizes of a model that memory and cost are reckoned from. Parameters are counted on torch's meta device: exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from thyme.errors import ModelNotFoundError

_MERGES = re.compile(r"merger|projector")
"""In names of parameters between the tower and the language model."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of like transformer layers."""

    layers: int
    hidden: int
    """Width of the residual stream."""
    attention: int
    """Heads times their width."""
    keys: int
    """Key-value heads times their width."""
    mlp: int
    heads: int
    gated: bool
    """Whether the MLP has a gate beside its first matrix."""
    head_norm: bool
    """Whether queries and keys of each head are normed."""
    layer_norm: bool
    """Whether the norms are torch's own layer norms; else RMS norms that compute in float32."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """A vision-language model in numbers."""

    text: Stack
    vision: Stack
    vocabulary: int
    parameters: int
    """All of them, tied ones once."""
    vision_parameters: int
    """Of the tower and what merges its patches into tokens."""
    merger_parameters: int
    """Those of them that see merged patches."""
    head_parameters: int
    """Of the head, whether tied to the embeddings or not."""
    tied: bool
    """Whether head and embeddings are one matrix."""
    matrices: int
    """Elements of the matrices in the language model's layers."""
    linears: dict[str, tuple[int, int]]
    """Width in and out of the linear layers in a language layer, by name."""
    patches_a_token: int
    """Patches that are merged into one token."""
    window: int | None
    """Patches of a window of the tower's attention, where most layers attend within windows."""
    full_layers: int
    """Layers of the tower that attend over the whole image."""
    patch: int
    """Side of a patch, pixels."""

    @property
    def text_parameters(self) -> int:
        """Of the language model, embeddings and head included."""
        return self.parameters - self.vision_parameters


def shapes(config: Mapping[str, Any] | Path) -> Shapes:
    """Count a model without making it.

    Args:
        config: What its ``config.json`` says, or the folder that has it.

    Raises:
        ModelNotFoundError: It is no configuration of a vision-language model that transformers knows.
    """
    content = json.loads((config / "config.json").read_text(encoding="utf-8")) if isinstance(config, Path) else config
    return _counted(json.dumps(content, sort_keys=True))


@lru_cache(maxsize=16)
def _counted(content: str) -> Shapes:
    settings = _config(json.loads(content))
    model = _on_meta(settings)
    text = settings.get_text_config()
    inner = model.model
    language = sum(p.numel() for p in inner.language_model.parameters())
    head = model.lm_head.weight.numel()
    total = sum(p.numel() for p in model.parameters())
    tied = model.lm_head.weight is inner.language_model.embed_tokens.weight
    layer = inner.language_model.layers[0]
    linears = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in layer.named_modules()
        if hasattr(module, "in_features")
    }
    vision = settings.vision_config
    windowed = getattr(vision, "fullatt_block_indexes", None)
    patch = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    return Shapes(
        text=_text_stack(text, head_norm=hasattr(layer.self_attn, "q_norm")),
        vision=_vision_stack(vision),
        vocabulary=text.vocab_size,
        parameters=total,
        vision_parameters=total - language - (0 if tied else head),
        merger_parameters=sum(p.numel() for name, p in inner.named_parameters() if _MERGES.search(name)),
        head_parameters=head,
        tied=tied,
        matrices=text.num_hidden_layers * sum(rows * columns for rows, columns in linears.values()),
        linears=linears,
        patches_a_token=_merge(settings, vision),
        window=(vision.window_size // patch) ** 2 if windowed is not None else None,
        full_layers=_depth(vision) if windowed is None else len([i for i in windowed if i < _depth(vision)]),
        patch=patch,
    )


def _config(content: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    values = {name: value for name, value in content.items() if name != "model_type"}
    try:
        settings = AutoConfig.for_model(content["model_type"], **values)
    except (KeyError, ValueError) as error:
        raise ModelNotFoundError(f"the configuration is of no model that transformers knows: {error}") from error
    if not hasattr(settings, "vision_config"):
        raise ModelNotFoundError(f"a model of type '{content['model_type']}' has no vision tower")
    return settings


def _on_meta(settings: Any) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText  # untyped there
    with torch.device("meta"):
        return auto.from_config(settings)


def _text_stack(text: Any, *, head_norm: bool) -> Stack:
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Stack(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        attention=text.num_attention_heads * width,
        keys=text.num_key_value_heads * width,
        mlp=text.intermediate_size,
        heads=text.num_attention_heads,
        gated=True,
        head_norm=head_norm,
        layer_norm=False,
    )


def _vision_stack(vision: Any) -> Stack:
    gated = hasattr(vision, "fullatt_block_indexes")  # Qwen2.5-VL's tower is built like a language model
    return Stack(
        layers=_depth(vision),
        hidden=vision.hidden_size,
        attention=vision.hidden_size,
        keys=vision.hidden_size,
        mlp=vision.intermediate_size,
        heads=getattr(vision, "num_heads", None) or vision.num_attention_heads,
        gated=gated,
        head_norm=False,
        layer_norm=not gated,
    )


def _depth(vision: Any) -> int:
    depth = getattr(vision, "depth", None)
    return int(vision.num_hidden_layers if depth is None else depth)


def _merge(settings: Any, vision: Any) -> int:
    side = getattr(vision, "spatial_merge_size", None)
    if side is None:
        side = round(1 / getattr(settings, "downsample_ratio", 0.5))
    return int(side) ** 2


DType = Literal["float32", "bfloat16"]
BYTES: dict[DType, int] = {"float32": 4, "bfloat16": 2}
"""Bytes of an element."""
