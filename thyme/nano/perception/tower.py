"""First stage: the vision tower alone, with a dense auxiliary head for each token.

Trained on the language-model loss alone, a model of this size never starts to read; with every token asked for colour,
label, place and character of the plate under it, it does within minutes. The heads are dropped afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thyme.nano.model import NanoVL
from thyme.nano.perception.optim import Optimizer
from thyme.nano.perception.views import CLASSES, HEADS, IGNORE, Pool

Report = Callable[[str], None]


class AuxiliaryHeads(nn.Module):
    """One linear classifier a head, on normalised features."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden, sum(CLASSES))

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, N, hidden) to one (B, N, classes) a head, fp32."""
        normal = functional.layer_norm(features.float(), (features.shape[-1],))
        return list(self.head(normal).split(list(CLASSES), -1))


def losses(outputs: list[Tensor], targets: Tensor) -> Tensor:
    """Sum of the heads' cross-entropies; tokens without a target do not count.

    Args:
        outputs: One (B, N, classes) a head.
        targets: (B, heads, N).
    """
    total = torch.zeros(())
    for index, output in enumerate(outputs):
        target = targets[:, index].flatten().long()
        if bool((target != IGNORE).any()):
            total = total + functional.cross_entropy(output.flatten(0, 1), target, ignore_index=IGNORE)
    return total


@dataclass(frozen=True)
class TowerScores:
    """Accuracy by head over tokens that have a target (colour: over plates)."""

    by_head: dict[str, float]

    def __str__(self) -> str:
        return " ".join(f"{name} {value:.3f}" for name, value in self.by_head.items())


@torch.no_grad()
def score(model: NanoVL, heads: AuxiliaryHeads, pool: Pool, limit: int = 1000) -> TowerScores:
    """Measure the heads on the first `limit` views of a pool."""
    right, count = np.zeros(len(HEADS)), np.zeros(len(HEADS))
    for start in range(0, min(limit, len(pool.views)), 64):
        targets = torch.from_numpy(pool.targets[start : start + 64].astype(np.int64))
        outputs = heads(model.see(torch.from_numpy(np.array(pool.pixels[start : start + 64]))))
        for index, output in enumerate(outputs):
            target = targets[:, index]
            valid = target != (CLASSES[0] - 1 if index == 0 else IGNORE)
            valid &= target != IGNORE
            right[index] += float((output.argmax(-1)[valid] == target[valid]).sum())
            count[index] += float(valid.sum())
    return TowerScores({name: right[i] / max(1.0, count[i]) for i, name in enumerate(HEADS)})


def train_tower(
    model: NanoVL,
    heads: AuxiliaryHeads,
    pool: Pool,
    held_out: Pool,
    *,
    steps: int,
    batch: int,
    report: Report,
    seed: int = 0,
) -> TowerScores:
    """Train tower and heads together.

    Args:
        model: Its tower is trained in place.
        heads: Trained beside it.
        pool: Views to train on.
        held_out: Views to measure on.
        steps: Optimiser steps.
        batch: Views a step.
        report: Called with a line now and then.
        seed: Order of the views.

    Returns:
        Accuracy on held-out views.
    """
    order = np.random.default_rng(seed)
    optimizer = Optimizer([model.visual, heads], steps)
    queue = np.empty(0, np.int64)
    started, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        if len(queue) < batch:
            queue = np.concatenate([queue, order.permutation(len(pool.views))])
        chosen, queue = np.sort(queue[:batch]), queue[batch:]
        features = model.see(torch.from_numpy(pool.pixels[chosen]))
        loss = losses(heads(features), torch.from_numpy(pool.targets[chosen]))
        loss.backward()  # type: ignore[no-untyped-call]  # as torch has it
        optimizer.step()
        total += loss.item()
        if step % 100 == 0:
            minutes = (time.monotonic() - started) / 60
            report(f"step {step}/{steps} {minutes:.1f} min loss {total / 100:.3f} {score(model, heads, held_out, 256)}")
            total = 0.0
    return score(model, heads, held_out)
