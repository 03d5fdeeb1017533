"""What a step was, added up over its micro-batches and over the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from thyme.train.grpo.batch import CODE, TEXT
from thyme.train.grpo.logprobs import TokenScores
from thyme.train.grpo.records import Gap

KINDS = {"text": TEXT, "code": CODE}


@dataclass
class Distance:
    """How far sampler and trainer are apart on tokens of one sort."""

    tokens: int = 0
    absolute: float = 0.0
    """Sum of |difference|."""
    largest: float = 0.0
    k3: float = 0.0
    """Sum of p / q - 1 - log(p / q), the trainer's p and the sampler's q: its mean estimates KL(sampler || trainer)."""

    def add(self, other: Distance) -> None:
        """Take another one's tokens in."""
        self.tokens += other.tokens
        self.absolute += other.absolute
        self.largest = max(self.largest, other.largest)
        self.k3 += other.k3

    def gap(self, *, drawn: bool) -> Gap:
        """The means; there is at least one token."""
        kl = self.k3 / self.tokens if drawn else None
        return Gap(tokens=self.tokens, mean=self.absolute / self.tokens, largest=self.largest, kl=kl)


@dataclass
class Tally:
    """Sums over tokens."""

    loss: float = 0.0
    kl: float = 0.0
    """k3 to the reference, over the tokens in the loss."""
    entropies: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By kind: sum and number."""
    distances: dict[str, Distance] = field(default_factory=dict)
    """By sort: ``text``, ``code``, ``greedy``."""

    def add(self, inputs: Mapping[str, Any], scores: TokenScores, loss: torch.Tensor) -> None:
        """Take a micro-batch in.

        Args:
            inputs: As `thyme.train.grpo.batch.collate_rows` makes them, with the reference's log-probabilities.
            scores: The trainer's.
            loss: Its share of the loss.
        """
        self.loss += float(loss.detach())
        logprobs = scores.logprobs.detach()
        if "ref_per_token_logps" in inputs:
            mask = inputs["tool_mask"].bool()
            self.kl += float(k3(inputs["ref_per_token_logps"][mask] - logprobs[mask]).double().sum())
        kinds, greedy = inputs["kinds"], inputs["greedy"]
        for name, kind in KINDS.items():
            chosen = scores.entropies[kinds == kind]
            self._add_entropy(name, float(chosen.double().sum()), chosen.numel())
            self._add_distance(name, distance(logprobs, inputs["sampled"], (kinds == kind) & ~greedy))
        self._add_distance("greedy", distance(logprobs, inputs["sampled"], greedy))

    def _add_entropy(self, name: str, total: float, count: int) -> None:
        if count:
            before = self.entropies.get(name, (0.0, 0))
            self.entropies[name] = (before[0] + total, before[1] + count)

    def _add_distance(self, name: str, more: Distance) -> None:
        if more.tokens:
            self.distances.setdefault(name, Distance()).add(more)

    def mean_entropies(self) -> dict[str, float]:
        """By kind, nats."""
        return {name: total / count for name, (total, count) in self.entropies.items()}

    def gaps(self) -> dict[str, Gap]:
        """By sort."""
        return {name: found.gap(drawn=name != "greedy") for name, found in self.distances.items()}


def together(tallies: Sequence[Tally]) -> Tally:
    """Those of all processes in one; the loss, which each has scaled by their number, is the mean."""
    made = Tally()
    for one in tallies:
        made.loss += one.loss
        made.kl += one.kl
        for name, sums in one.entropies.items():
            made._add_entropy(name, *sums)
        for name, found in one.distances.items():
            made._add_distance(name, found)
    made.loss /= len(tallies)
    return made


def k3(log_ratio: torch.Tensor) -> torch.Tensor:
    """The estimator k3, never below 0: over samples of q the mean of r - 1 - log r, with r = p / q, is KL(q || p).

    Args:
        log_ratio: log r, of any shape.
    """
    return torch.expm1(log_ratio) - log_ratio


def distance(trainer: torch.Tensor, sampler: torch.Tensor, chosen: torch.Tensor) -> Distance:
    """Compare log-probabilities of the chosen tokens; those that the sampler does not know are left out.

    Args:
        trainer: (B, T).
        sampler: (B, T), not a number where unknown.
        chosen: (B, T), boolean.
    """
    chosen = chosen & ~sampler.isnan()
    difference = (trainer[chosen] - sampler[chosen]).double()
    if not difference.numel():
        return Distance()
    absolute = difference.abs()
    sums = torch.stack([absolute.sum(), absolute.max(), k3(difference).sum()]).tolist()
    return Distance(difference.numel(), sums[0], sums[1], sums[2])
