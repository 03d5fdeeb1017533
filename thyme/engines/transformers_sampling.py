"""The next token of each row, under its own temperature, with its own random numbers.

Shapes: R rows, V size of the vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import torch

from thyme.engines.span_text import SpanText


class Sampler(Protocol):
    """What a row brings to the choice of its next token."""

    @property
    def temperature(self) -> float:
        """tau; 0 is greedy."""
        ...

    @property
    def draws(self) -> random.Random:
        """The row's own random numbers: one for each token, so that no row depends on another."""
        ...

    @property
    def text(self) -> SpanText:
        """Knows which tokens are blocked next."""
        ...


def choose(logits: torch.Tensor, rows: Sequence[Sampler], never: torch.Tensor) -> tuple[list[int], list[float]]:
    """Choose one token a row.

    Args:
        logits: Of shape (R, V).
        rows: R of them.
        never: Ids that are not to be chosen.

    Returns:
        The tokens, and their log-probabilities under logits / tau of the row, with tau = 0 counted as 1, over the whole
        vocabulary: those that a trainer computes from the same ids.
    """
    taus = [row.temperature or 1.0 for row in rows]
    scores = logits.float()
    if any(tau != 1.0 for tau in taus):
        scores = scores / torch.tensor(taus, device=logits.device)[:, None]
    logprobs = scores.log_softmax(-1)
    allowed = logprobs.index_fill(1, never, -torch.inf)
    picks = allowed.argmax(-1)
    warm = [index for index, row in enumerate(rows) if row.temperature > 0]
    if warm:
        picks[warm] = _draw(allowed[warm], [rows[index].draws.random() for index in warm])
    tokens = picks.tolist()
    for index, row in enumerate(rows):
        while row.text.completes_blocked(tokens[index]):
            allowed[index, tokens[index]] = -torch.inf
            one = allowed[index : index + 1]
            pick = _draw(one, [row.draws.random()]) if row.temperature > 0 else one.argmax(-1)
            tokens[index] = picks[index] = int(pick)
    return tokens, logprobs.gather(1, picks[:, None])[:, 0].tolist()


def _draw(logprobs: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    """Draw by inverting the distribution function.

    Args:
        logprobs: Of shape (R, V), not necessarily normalised.
        uniforms: R numbers in [0, 1).
    """
    # Relative to the best: what is left after masking may be too unlikely for its probabilities to be told from 0.
    heights = (logprobs - logprobs.amax(-1, keepdim=True)).double().exp().cumsum(-1)
    marks = torch.tensor(uniforms, dtype=torch.float64, device=logprobs.device) * heights[:, -1]
    return torch.searchsorted(heights, marks[:, None], right=True)[:, 0]
