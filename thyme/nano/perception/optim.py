"""Optimiser and schedule of every stage: Muon on matrices, AdamW on the rest, a trapezoid of learning rates."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

MUON_LR = 0.015
ADAM_LR = 2e-3


class Optimizer:
    """Both optimisers under one learning-rate schedule."""

    def __init__(self, modules: Iterable[nn.Module], steps: int, *, scale: float = 1.0, decay: float = 0.5) -> None:
        """Take every trainable parameter of `modules`.

        Args:
            modules: What is trained.
            steps: Length of the schedule.
            scale: Factor on both learning rates.
            decay: Share of the steps, at the end, over which the rate falls to zero.
        """
        named = [(n, p) for module in modules for n, p in module.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.dim() == 2 and "embed" not in n and "head" not in n]
        chosen = {id(p) for p in matrices}
        self._parameters = [p for _, p in named]
        rest = [p for p in self._parameters if id(p) not in chosen]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=MUON_LR * scale, momentum=0.95, weight_decay=0.0, adjust_lr_fn="original"),
            torch.optim.AdamW(rest, lr=ADAM_LR * scale, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._rates = [o.param_groups[0]["lr"] for o in self._optimizers]
        self._steps, self._decay, self._done = steps, decay, 0

    def step(self) -> None:
        """Clip, update, clear."""
        self._done += 1
        left = max(0.0, 1 - self._done / self._steps)
        factor = min(1.0, self._done / 40) * min(1.0, left / self._decay)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
