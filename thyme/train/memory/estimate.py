"""What a training step needs of one device's memory, reckoned before anything is loaded.

Parameters are counted on torch's meta device; what layers keep for the backward pass is a formula
(`thyme.train.memory.layers`). The peak is the largest of four moments: while the tower sees the images, when the loss
is there and everything is kept, when the last layer has gone backward and every gradient is there, and while the
optimiser steps. Not counted: the CUDA context (about 0.5 GB) and what the allocator loses to fragmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from thyme.config.sft import SFTSettings
from thyme.train.memory.layers import (
    Regime,
    adapter_middles,
    backward_scratch,
    forward_scratch,
    names_of,
    text_layer,
    vision_layer,
)
from thyme.train.memory.shapes import BYTES, Shapes, shapes

Sharding = Literal["none", "zero2", "zero3", "fsdp2"]
"""How the processes of a run share a model. ``none`` is DDP where there are several."""

GIB = 2**30
_TILE_TOKENS, _TILE_WORDS = 4096, 32768
"""Tokens and entries of the vocabulary that the fused head looks at together."""
_BUCKET = 200_000_000
"""Elements of DeepSpeed's reduce and all-gather buckets."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on one device."""

    weights: int
    """Of the model as it stays on the device."""
    gradients: int
    """When all of them are there."""
    optimizer: int
    """States, and the float32 master copy where the weights are bfloat16 (DeepSpeed)."""
    activations: int
    """What layers keep for the backward pass: with checkpointing, their inputs."""
    casts: int
    """Copies of float32 weights that autocast makes in bfloat16 and that live when the loss is there."""
    head: int
    """Logits of a tile of the vocabulary, gradients that the head makes at once."""
    scratch: int
    """What lives for a moment inside one layer: with checkpointing everything it keeps, made again."""
    vision: int
    """What lives for a moment in a tower that keeps nothing."""
    communication: int
    """Buckets, and weights gathered from other devices."""
    moments: Mapping[str, int]
    """Bytes at each of the moments, by name."""
    parameters: int
    trained: int
    """Parameters that are trained."""

    @property
    def peak(self) -> int:
        """The largest of the moments."""
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """Name of the moment of the peak."""
        return max(self.moments, key=lambda name: self.moments[name])

    def fits(self, device_bytes: int, *, reserve: float = 0.08) -> bool:
        """Whether a device holds it, with a share left for what is not counted."""
        return self.peak <= device_bytes * (1 - reserve)


def estimate(
    config: Mapping[str, Any] | Path,
    settings: SFTSettings,
    *,
    tokens: int,
    patches: int = 0,
    targets: int | None = None,
    world_size: int = 1,
    sharding: Sharding = "none",
    device: Literal["cuda", "cpu"] = "cuda",
) -> MemoryEstimate:
    """Estimate the peak of a training step after the first one.

    Args:
        config: What the model's ``config.json`` says, or the folder that has it.
        settings: How it is trained.
        tokens: Tokens of one forward pass, padding included: ``batch_size`` times the longest sample.
        patches: Patches of all its images.
        targets: Tokens of it that are trained on; None is all. Only a GPU's fused head leaves the others out.
        world_size: Devices.
        sharding: What of the model is shared among them.
        device: ``cpu`` is there to be measured against: autocast only where it is asked for, and a head without Triton.
    """
    model = shapes(config)
    regime = regime_of(settings, model, device=device)
    sharded = sharding != "none" and world_size > 1
    if sharded and regime.autocast:  # weights are gathered in bfloat16, and so is the stream
        regime = replace(regime, stream=2)
    state = _state(model, settings, regime, world_size, sharding)
    step = _Step(settings.gradient_checkpointing, tokens, patches, settings.batch_size)
    kept, scratch = _activations(model, settings, regime, step)
    forward, head = _head(model, settings, regime, tokens, tokens if targets is None else targets, device)
    sees = settings.freeze_vision and settings.cache != "features"
    vision = forward_scratch(model.vision, regime) * patches if sees else 0
    casts = _casts(model, settings, regime)
    early = state.gradients if settings.accumulation > 1 or state.buckets_live else 0
    stays = state.weights + state.optimizer + state.communication
    moments = {
        "images": stays + early + vision,
        "end of the forward pass": stays + early + kept + casts + forward,
        "loss": stays + early + kept + (0 if step.checkpointed else casts) + head,
        "end of the backward pass": stays + state.gradients + scratch,
        "optimiser": stays + state.gradients,
    }
    return MemoryEstimate(
        weights=state.weights,
        gradients=state.gradients,
        optimizer=state.optimizer,
        activations=kept,
        casts=casts,
        head=max(forward, head),
        scratch=scratch,
        vision=vision,
        communication=state.communication,
        moments=moments,
        parameters=model.parameters,
        trained=state.trained,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """One forward and backward pass."""

    checkpointed: bool
    tokens: int
    patches: int
    rows: int


def regime_of(settings: SFTSettings, model: Shapes, *, device: Literal["cuda", "cpu"] = "cuda") -> Regime:
    """Dtypes of a step. On a GPU autocast to bfloat16 is on unless the settings switch it off."""
    autocast = device == "cuda" if settings.bf16 is None else settings.bf16
    stream = BYTES[settings.weights_dtype]
    adapters = None if settings.lora is None else names_of(settings.lora.targets, model.linears)
    return Regime(stream=stream, compute=2 if autocast else stream, autocast=autocast, adapters=adapters)


def trained_parameters(model: Shapes, settings: SFTSettings) -> int:
    """Parameters that the settings train."""
    tower = 0 if settings.freeze_vision else model.vision_parameters
    if settings.lora is None:
        return model.text_parameters + tower
    widths = [sum(model.linears[name]) for name in names_of(settings.lora.targets, model.linears)]
    return settings.lora.rank * sum(widths) * model.text.layers + tower


@dataclass(frozen=True, slots=True)
class _State:
    """What the model itself needs on one device, bytes."""

    trained: int
    weights: int
    gradients: int
    optimizer: int
    communication: int = 0
    buckets_live: bool = False
    """Whether gradients are there from the start of a step, in buckets (DDP)."""


def _state(model: Shapes, settings: SFTSettings, regime: Regime, world: int, sharding: Sharding) -> _State:
    trained = trained_parameters(model, settings)
    size = BYTES[settings.weights_dtype]
    tower = 0 if settings.freeze_vision else model.vision_parameters
    # Adapters are float32 beside the base, a tower trained beside them is a copy.
    adapters = 0 if settings.lora is None else trained - tower
    added = 4 * adapters + (size * tower if adapters else 0)
    weights = model.parameters * size + added
    gradients = added or trained * size
    optimizer = gradients * _optimizer_states(model, settings, trained) // trained
    if world == 1:
        return _State(trained, weights, gradients, optimizer)
    if sharding == "none":
        return _State(trained, weights, gradients, optimizer, gradients, buckets_live=True)
    gathered = 2 * _gathered(model)
    if sharding == "fsdp2":
        reduced = 4 * _unit(model) if settings.lora is None else 0  # one unit's gradient before it is shared out
        return _State(trained, weights // world, gradients // world, optimizer // world, gathered + reduced)
    # DeepSpeed: bfloat16 weights; the float32 master, states and gradients are shared out, under ZeRO-3 weights too.
    weights = 2 * (model.parameters + (trained if adapters else 0))
    master = 4 * (trained + _optimizer_states(model, settings, trained)) // world
    buckets = 2 * 2 * min(_BUCKET, trained)
    if sharding == "zero2":
        return _State(trained, weights, 4 * trained // world, master, buckets)
    return _State(trained, weights // world, 4 * trained // world, master, buckets + gathered)


def _optimizer_states(model: Shapes, settings: SFTSettings, trained: int) -> int:
    """Numbers that the optimiser keeps: two a parameter, one for those that Muon has."""
    if settings.optimizer == "adamw":
        return 2 * trained
    return 2 * trained - (trained if settings.lora is not None else model.matrices)


def _unit(model: Shapes) -> int:
    """Parameters that are reduced together: a layer, or the embeddings."""
    return max(model.matrices // model.text.layers, model.head_parameters)


def _gathered(model: Shapes) -> int:
    """Parameters gathered at once: embeddings and head, which stay, a layer, and the next one fetched ahead."""
    return (1 if model.tied else 2) * model.head_parameters + 2 * (model.matrices // model.text.layers)


def _activations(model: Shapes, settings: SFTSettings, regime: Regime, step: _Step) -> tuple[int, int]:
    """Bytes kept by all layers until the backward pass, and bytes that live inside one layer."""
    masked = step.rows > 1 or settings.packing
    rank = settings.lora.rank if settings.lora else 0
    tokens, layers = step.tokens, model.text.layers
    mask = regime.compute * tokens * (tokens // step.rows) if masked else 0  # a layer's own, in its dtype
    layer = (text_layer(model.text, regime, masked=masked) + adapter_middles(rank, regime)) * tokens + mask
    inside = backward_scratch(model.text, regime) * tokens + (layer if step.checkpointed else 0)
    if regime.autocast and regime.stream == 4:
        inside += 2 * model.matrices // layers  # a layer's weights, cast
    rotary = 2 * tokens * (model.text.attention // model.text.heads) * regime.stream
    ends = 8 * tokens * model.text.hidden  # embeddings, and the last norm
    kept = rotary + ends + mask // 2
    kept += layers * (model.text.hidden * regime.stream * tokens if step.checkpointed else layer)
    if settings.freeze_vision:
        return kept, inside
    tower = vision_layer(model.vision, regime) * step.patches
    stream = model.vision.hidden * regime.stream * step.patches
    kept += model.vision.layers * (stream if step.checkpointed else tower)
    backward = backward_scratch(model.vision, regime) * step.patches
    return kept, max(inside, backward + (tower if step.checkpointed else 0))


def _casts(model: Shapes, settings: SFTSettings, regime: Regime) -> int:
    """bfloat16 copies of float32 matrices. Autocast keeps those of trained weights until the forward pass ends."""
    if not regime.autocast or regime.stream == 2:
        return 0
    if settings.gradient_checkpointing and settings.lora is not None:
        return 0  # autocast keeps no copies of frozen weights, and checkpointing lets them go
    return 2 * model.matrices


def _head(
    model: Shapes, settings: SFTSettings, regime: Regime, tokens: int, targets: int, device: str
) -> tuple[int, int]:
    """Bytes that the head needs in the forward and in the backward pass."""
    hidden, words = model.text.hidden, model.vocabulary
    trained = settings.lora is None
    if settings.loss == "full":
        logits = tokens * words * (regime.compute + 8)  # as they are made, in float32, and their log-softmax
        cast = 2 * model.head_parameters if regime.autocast and regime.stream == 4 else 0
        return logits + cast, logits + cast + 8 * tokens * words + (
            model.head_parameters * regime.stream if trained else 0
        )
    seen = targets if device == "cuda" else tokens
    rows, columns = min(seen, _TILE_TOKENS), min(words, _TILE_WORDS)
    tile = rows * _TILE_WORDS * regime.compute
    if regime.compute != regime.stream:
        tile += columns * hidden * regime.compute  # a part of the weights, cast
    # Without Triton a tile is worked on in float32, in several steps.
    forward, backward = (4, 7) if device == "cpu" else (0, 0)
    kept = seen * hidden * (4 + regime.stream)
    gradient = model.head_parameters * (4 + (2 if regime.stream == 2 else 0)) if trained else 0
    return tile + 4 * forward * rows * columns, tile + 4 * backward * rows * columns + kept + gradient
