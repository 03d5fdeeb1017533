"""The half of own_family.py that holds tensors: what `thyme.families.tensors` asks every family for."""

from __future__ import annotations

from typing import Any

import torch

from thyme.families.qwen_vl_tensors import features, pixels

__all__ = ["features", "pixels", "tower_output"]


def tower_output(features: torch.Tensor, hidden: int) -> Any:
    """What the model's forward takes in place of pixels; there are no features for deeper layers."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    output: Any = BaseModelOutputWithPooling
    return output(pooler_output=(features,))
