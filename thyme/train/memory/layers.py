"""What a transformer layer keeps for its backward pass, in bytes a token: read off the models' code, term by term.

A dtype regime decides most of it. Either weights and residual stream are of one dtype, or the weights are float32
under autocast: then the stream is float32, and each linear layer casts its own copy of input and weight to bfloat16.
`tests/train/test_memory.py` holds the sum against what tensors really take.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from thyme.train.memory.shapes import Stack

SHARED_INPUTS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("o_proj",), ("down_proj",))
"""Linear layers of a language layer that read the same tensor."""


@dataclass(frozen=True, slots=True)
class Regime:
    """Dtypes of a step."""

    stream: int
    """Bytes of an element of the residual stream."""
    compute: int
    """Bytes of an element in matrix products."""
    autocast: bool
    """Whether linear layers cast their inputs and weights."""
    adapters: frozenset[str] | None = None
    """Names of the layers with adapters, where only these are trained. Adapters' weights are float32."""


def text_layer(stack: Stack, regime: Regime, *, masked: bool) -> int:
    """Bytes a token that one language layer keeps for its backward pass.

    Args:
        stack: The layers.
        regime: Dtypes, and what is trained.
        masked: Whether attention gets a mask (rows are padded), so that keys and values are repeated for each head.
    """
    norms = 2 * _rms_norm(stack.hidden, regime, regime.stream)
    if stack.head_norm:
        norms += _rms_norm(stack.attention + stack.keys, regime, regime.compute)
    return norms + _linear_inputs(stack, regime) + _attention(stack, regime, masked=masked)


def _rms_norm(width: int, regime: Regime, output: int) -> int:
    """The float32 input; the normed tensor too where the norm's weight is trained."""
    return width * (4 + (output if regime.adapters is None else 0))


def _linear_inputs(stack: Stack, regime: Regime) -> int:
    """Inputs of the linear layers, and the tensors of the activation between them."""
    width = {"q_proj": stack.hidden, "gate_proj": stack.hidden, "o_proj": stack.attention, "down_proj": stack.mlp}
    kept = 3 * stack.mlp * regime.compute  # gate, activated gate, up
    for group in SHARED_INPUTS:
        readers = sum(1 for name in group if regime.adapters is None or name in regime.adapters)
        if not readers:
            continue
        # The attention's own output is kept by the attention; only a cast of it is a new tensor.
        size, copies = _input_copies(regime, readers, is_kept=group == ("o_proj",))
        kept += width[group[0]] * size * copies
    return kept


def _input_copies(regime: Regime, readers: int, *, is_kept: bool) -> tuple[int, int]:
    """Bytes of an element and number of tensors that the readers of one input keep."""
    shared = 0 if is_kept else 1
    if regime.adapters is None:
        # Under autocast each reader casts the float32 stream for itself; what attention gives is narrow already.
        return regime.compute, readers if regime.autocast and regime.stream == 4 and not is_kept else shared
    if regime.autocast:
        return regime.compute, readers  # the input goes to the adapter's float32 first, so that each casts it back
    return (4, readers) if regime.compute == 2 else (4, shared)


def _attention(stack: Stack, regime: Regime, *, masked: bool) -> int:
    """Queries, keys, values, the output, and the log-sum-exp of each head."""
    keys = stack.attention if masked else stack.keys
    return regime.compute * (2 * stack.attention + 2 * keys) + 4 * stack.heads


def adapter_middles(rank: int, regime: Regime) -> int:
    """Bytes a token that the narrow middles of a layer's adapters keep."""
    return rank * len(regime.adapters or ()) * (regime.compute if regime.autocast else 4)


def vision_layer(stack: Stack, regime: Regime) -> int:
    """Bytes a patch that one layer of a trained tower keeps."""
    stream, compute, hidden = regime.stream, regime.compute, stack.hidden
    norms = 2 * (stream if stack.layer_norm else 4 + stream)
    readers = 3 if stack.gated and regime.autocast and stream == 4 else 2  # each casts; without casts gate and up share
    # Queries and keys after rotation, the product of which they are views, the windows' outputs and these together.
    attention = 7 * compute
    mlp = stack.mlp * compute * (4 if stack.gated else 2)
    return hidden * (norms + readers * compute + attention) + mlp + 4 * stack.heads


def backward_scratch(stack: Stack, regime: Regime) -> int:
    """Bytes a token that live while a layer goes backward: gradients of the MLP's tensors, of the stream."""
    return 3 * stack.mlp * regime.compute + 2 * stack.hidden * regime.stream


def forward_scratch(stack: Stack, regime: Regime) -> int:
    """Bytes a token of a layer whose forward pass keeps nothing: the larger of its two halves."""
    stream = 2 * stack.hidden * max(regime.stream, 4)
    attention = stack.hidden * (3 * regime.compute + 4 * 4)  # the three, and rotary positions in float32
    mlp = stack.mlp * regime.compute * (3 if stack.gated else 2)
    return stream + max(attention, mlp)


def names_of(targets: Collection[str], known: Collection[str]) -> frozenset[str]:
    """The targets that a language layer has."""
    return frozenset(name for name in targets if name in known)
