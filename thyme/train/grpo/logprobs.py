"""Log-probabilities of generated tokens under logits / tau, without the logits of anything else in memory.

Shapes: B rows, L tokens, N generated tokens, H width of the language model, V size of the vocabulary.
"""

from __future__ import annotations

import types
from typing import Any, NamedTuple

import torch

from thyme.errors import MissingExtraError

try:
    from torch.distributed.tensor import DTensor
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import maybe_gather_lm_head_ctx
except ImportError as error:
    raise MissingExtraError("training by GRPO", "train") from error

_TILES = {"cpu": 2048, "cuda": 32768}
"""Entries of the vocabulary whose logits are in memory at once, for four thousand tokens, by the kind of device. TRL's
kernel for GPUs holds one such tile, and its operations for CPUs hold about eight."""


class TokenScores(NamedTuple):
    """What the model says of the tokens of a batch; both (B, L - 1) and float32, 0 where nothing was asked.

    A tuple, for FSDP and DDP look into a forward's output to find its tensors.
    """

    logprobs: torch.Tensor
    """log p of the token under logits / tau; carries the gradient."""
    entropies: torch.Tensor
    """Of the distribution it was drawn from, nats; no gradient."""


def add_token_scores(model: Any) -> None:
    """Give a model's forward a second meaning: ``model(**inputs, wanted=..., taus=...)`` returns `TokenScores`.

    It goes through the model's own forward, so that whatever is wrapped around the model (DDP, FSDP, DeepSpeed, peft)
    does its part. Without ``wanted`` nothing changes. The head is read, not called, and must be plainly linear.

    Args:
        model: A transformers model with a language head; before anything is wrapped around it.
    """
    original = model.forward

    def forward(
        self: Any, *args: Any, wanted: torch.Tensor | None = None, taus: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        if wanted is None or taus is None:
            return original(*args, **kwargs)
        # peft passes on what it takes for arguments of every model, without values.
        given = {name: value for name, value in kwargs.items() if value is not None}
        hidden = self.base_model(*args, **given, use_cache=False).last_hidden_state
        return _scores(hidden, self.get_output_embeddings(), kwargs["input_ids"], wanted, taus)

    model.forward = types.MethodType(forward, model)


def _scores(
    hidden: torch.Tensor, head: Any, ids: torch.Tensor, wanted: torch.Tensor, taus: torch.Tensor
) -> TokenScores:
    """Score the wanted tokens.

    Args:
        hidden: (B, L, H), the language model's last.
        head: Its linear head.
        ids: (B, L).
        wanted: (B, L - 1), True where token t + 1 is to be scored.
        taus: (B, L - 1).
    """
    chosen, tau = hidden[:, :-1][wanted], taus[wanted][:, None]
    if (tau != 1).any():
        # logits / tau = head(hidden / tau): each token at its own tau in one pass, and no logits are kept.
        chosen = (chosen.float() / tau).to(hidden.dtype)
    weight: Any = head.weight.full_tensor() if isinstance(head.weight, DTensor) else head.weight
    tile = _TILES.get(hidden.device.type, _TILES["cuda"])
    with maybe_gather_lm_head_ctx(weight):
        score: Any = ChunkedLogProbFunction.apply  # untyped there
        found = score(chosen, weight, None, ids[:, 1:][wanted], 1.0, tile, None, 1.0, ("entropy",))
    blank = torch.zeros(wanted.shape, dtype=torch.float32, device=hidden.device)
    # Connected to the model also where nothing is wanted, so that every process has a gradient to share.
    return TokenScores(blank.masked_scatter(wanted, found[0]), blank.masked_scatter(wanted, found[1].detach()))
