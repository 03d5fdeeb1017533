"""The optimisers: AdamW, or Muon for the matrices of the hidden layers with AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from thyme.config.training import TrainingSettings

_NOT_HIDDEN = ("embed", "lm_head")
"""Parts of names of matrices that look up or score tokens and positions; Muon is not meant for them."""


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Make the optimiser of all parameters that require a gradient. Vectors (norms, biases) get no weight decay.

    Args:
        model: Its parameters' names decide who gets what.
        settings: Rates, betas, decay.
    """
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    muon = settings.optimizer == "muon"
    hidden = [p for name, p in trained if muon and p.ndim == 2 and not any(part in name for part in _NOT_HIDDEN)]
    taken = {id(parameter) for parameter in hidden}
    rest = [parameter for _, parameter in trained if id(parameter) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    parts: list[torch.optim.Optimizer] = []
    if hidden:
        parts.append(torch.optim.Muon(hidden, lr=settings.muon_learning_rate, weight_decay=settings.weight_decay))
    if rest:  # adapters are nothing but hidden matrices
        filled = [group for group in groups if group["params"]]
        parts.append(torch.optim.AdamW(filled, lr=settings.learning_rate, betas=settings.betas, fused=True))
    return parts[0] if len(parts) == 1 else Together(*parts)


class Together(torch.optim.Optimizer):
    """Several optimisers that step as one. Their groups are its groups, so a scheduler moves each from its own rate."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch's overloads
        """Let each part step."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The parts' states, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the parts' states back."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
