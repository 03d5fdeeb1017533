"""Log-probabilities of single tokens at their own temperatures: against plain softmaxes, and in little memory."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from trl.kernels import chunked_logprob

from thyme.train.grpo import logprobs
from thyme.train.grpo.logprobs import TokenScores, add_token_scores

ROWS, LENGTH, WIDTH, VOCABULARY = 3, 12, 8, 50


class Model(nn.Module):
    """The least that has a language model and a head."""

    def __init__(self, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.base = nn.Embedding(vocabulary, WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)

    def base_model(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.base(input_ids))

    def get_output_embeddings(self) -> nn.Linear:
        return self.head

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.base(input_ids))
        return logits


def case() -> tuple[Model, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    wanted = torch.rand(ROWS, LENGTH - 1) < 0.6
    taus = torch.tensor([1.0, 0.3, 0.7])[torch.randint(3, wanted.shape)]
    return Model(), torch.randint(VOCABULARY, (ROWS, LENGTH)), wanted, taus


def test_each_token_is_scored_at_its_own_temperature() -> None:
    model, ids, wanted, taus = case()
    plain = copy.deepcopy(model)
    add_token_scores(model)
    scores: TokenScores = model(input_ids=ids, wanted=wanted, taus=taus)
    weights = torch.randn(wanted.shape)
    (scores.logprobs * weights).sum().backward()

    distributions = (plain(ids)[:, :-1] / taus[..., None]).log_softmax(-1)
    expected = distributions.gather(-1, ids[:, 1:, None])[..., 0].masked_fill(~wanted, 0)
    (expected * weights).sum().backward()
    entropies = -(distributions.exp() * distributions).sum(-1).masked_fill(~wanted, 0)
    torch.testing.assert_close(scores.logprobs, expected)
    torch.testing.assert_close(scores.entropies, entropies)
    assert not scores.entropies.requires_grad
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad)


def test_without_the_question_a_forward_is_what_it_was() -> None:
    model, ids, *_ = case()
    before = model(ids)
    add_token_scores(model)
    assert torch.equal(model(ids), before)


def test_a_batch_in_which_nothing_is_wanted_has_a_gradient_of_nothing() -> None:
    """Other processes wait for it."""
    model, ids, wanted, taus = case()
    add_token_scores(model)
    scores = model(input_ids=ids, wanted=torch.zeros_like(wanted), taus=taus)
    scores.logprobs.sum().backward()
    assert model.base.weight.grad is not None
    assert not model.base.weight.grad.any()


class Largest(TorchDispatchMode):
    """Watches the sizes of all tensors."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def test_logits_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward; tiles are made small here, by what TRL calls their sizes."""
    monkeypatch.setitem(logprobs._TILES, "cpu", 100)
    monkeypatch.setattr(chunked_logprob, "TOKEN_CHUNK_SIZE", 64)
    vocabulary, tokens = 1000, 300
    model = Model(vocabulary)
    add_token_scores(model)
    ids = torch.randint(vocabulary, (2, tokens // 2 + 1))
    wanted = torch.ones(2, tokens // 2, dtype=torch.bool)
    with Largest() as watch:
        scores = model(input_ids=ids, wanted=wanted, taus=torch.ones(wanted.shape))
        scores.logprobs.sum().backward()
    largest_weight = vocabulary * WIDTH
    assert watch.numbers == max(64 * 100, largest_weight)
