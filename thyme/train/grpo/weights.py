"""The weights of a model in training as a checkpoint would hold them, for an engine that keeps a copy of its own.

Adapters are merged into what is handed out and never into the model, which stays as it is to the bit. Where FSDP2 or
ZeRO-3 spreads the weights, they are put together one tensor at a time, so that no process ever holds a second model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from thyme.errors import ConfigError

_WRAPPERS = ("module", "_orig_mod")
"""Where DDP and DeepSpeed, and torch.compile, keep the model that they wrap."""


def inner_model(model: Any) -> Any:
    """The transformers model below what training put around it: DDP, DeepSpeed, compilation, adapters.

    Adapters stay active: they live in the layers of the inner model.
    """
    while wrapped := next((name for name in _WRAPPERS if isinstance(getattr(model, name, None), nn.Module)), None):
        model = getattr(model, wrapped)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_spread(model: Any) -> bool:
    """Whether this process holds only a part of the weights (FSDP2, ZeRO-3)."""
    return any(_is_part(parameter) for parameter in model.parameters())


def whole_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight once, under the name that transformers gives it, adapters merged.

    Where weights are spread over processes, all of them must go through this together, and to its end. A tensor is good
    until the next one is asked for.

    Args:
        model: The model in training, with whatever stands around it.

    Raises:
        ConfigError: Adapters that cannot be merged weight by weight.
    """
    inner = inner_model(model)
    adapted = dict(_adapters(inner))
    extra = {id(part) for layer in adapted.values() for part in _own(layer)}
    for name, parameter in inner.named_parameters():
        if id(parameter) in extra or ".original_module." in name:
            continue
        path, _, _ = name.rpartition(".base_layer.")
        whole = _whole(parameter)
        if path in adapted and name.endswith(".base_layer.weight"):
            whole = _merged(whole, adapted[path])
        yield _plain(name), whole


def _adapters(inner: Any) -> Iterator[tuple[str, Any]]:
    """Layers with adapters, by name.

    Raises:
        ConfigError: One is not a plain LoRA of a linear layer.
    """
    try:
        from peft.tuners.lora import Linear
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:  # no peft, no adapters
        return
    for name, module in inner.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        plain = isinstance(module, Linear) and not module.lora_variant and not any(module.lora_bias.values())
        if not plain:
            raise ConfigError(
                f"the adapter at '{name}' ({type(module).__name__}) cannot be merged for the engine: use plain LoRA on "
                "linear layers, or engine.backend = 'transformers'"
            )
        yield name, module


def _own(layer: Any) -> Iterator[nn.Parameter]:
    """Parameters of the adapters themselves."""
    for part in layer.adapter_layer_names:
        yield from getattr(layer, part).parameters()


def _merged(weight: torch.Tensor, layer: Any) -> torch.Tensor:
    """W + s B A of all active adapters, in the type of W; the sum is taken in 32 bits, as peft merges.

    Args:
        weight: Of shape (out, in), or (in, out) where the layer stores it so.
        layer: peft's.
    """
    total = weight.float()
    for adapter in layer.active_adapters:
        if adapter in layer.scaling:
            down = _whole(layer.lora_A[adapter].weight).float()
            up = _whole(layer.lora_B[adapter].weight).float()
            change = layer.scaling[adapter] * (up @ down)
            total = total + (change.T if layer.fan_in_fan_out else change)
    return total.to(weight.dtype)


def _plain(name: str) -> str:
    """Name of a weight without what peft puts around its layer."""
    before, saved, rest = name.partition(".modules_to_save.")
    return f"{before}.{rest.partition('.')[2]}" if saved else name.replace(".base_layer.", ".")


def _is_part(parameter: torch.Tensor) -> bool:
    return hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id")


@torch.no_grad()
def _whole(parameter: torch.Tensor) -> torch.Tensor:
    """A weight put together from its parts; itself where it is whole."""
    if hasattr(parameter, "ds_id"):
        import deepspeed  # its ``zero`` is an attribute, not a module

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    if hasattr(parameter, "full_tensor"):
        if parameter.is_cpu and torch.cuda.is_available():  # parts that wait on the CPU cannot talk over NCCL
            parameter = parameter.to("cuda")
        whole: torch.Tensor = parameter.full_tensor()
        return whole.detach()
    return parameter.detach()
