"""The loss from the model's own logits: what TRL's tiled loss is measured against; quick for tiny vocabularies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thyme.train.encode import IGNORED


@dataclass(frozen=True)
class TokenSums:
    """Sums over the trained tokens of a batch."""

    nll: torch.Tensor
    """Negative log-likelihood, nats; carries the gradient."""
    right: torch.Tensor
    """Tokens that are the most probable one."""
    count: torch.Tensor
    """Trained tokens."""


def token_sums(logits: torch.Tensor, labels: torch.Tensor) -> TokenSums:
    """Score each label by the logits of the token before it.

    Args:
        logits: (B, L, V), of any float type; the sums are taken in float32.
        labels: (B, L), -100 where nothing is trained.
    """
    logits, targets = logits[:, :-1].float(), labels[:, 1:]
    nll = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return TokenSums(nll, (logits.argmax(-1) == targets).sum(), (targets != IGNORED).sum())


def full_sums(model: nn.Module, inputs: dict[str, Any]) -> TokenSums:
    """Sums over the trained tokens of a batch, all its logits in memory.

    Args:
        model: Whatever stands around the model in training.
        inputs: The batch, labels included; not changed.
    """
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    return token_sums(model(**(rest | {"use_cache": False})).logits, inputs["labels"])
