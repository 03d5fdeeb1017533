"""The optimisers: who gets what, and that Muon and AdamW together are each themselves."""

from __future__ import annotations

import torch
from torch import nn

from thyme.config.sft import SFTSettings
from thyme.train.optim import Together, build_optimizer


def small_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "embed_tokens": nn.Embedding(7, 8),
            "first": nn.Linear(8, 8),
            "norm": nn.LayerNorm(8),
            "lm_head": nn.Linear(8, 7),
        }
    )
    model["norm"].weight.requires_grad_(False)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        parameter.grad = noise if parameter.requires_grad else None
    optimizer.step()


def names(model: nn.Module, group: dict[str, list[nn.Parameter]]) -> set[str]:
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def test_muon_gets_hidden_matrices_and_adamw_the_rest() -> None:
    model = small_model()
    settings = SFTSettings(optimizer="muon", weight_decay=0.1, learning_rate=1e-3, muon_learning_rate=0.02)
    optimizer = build_optimizer(model, settings)
    assert [(names(model, g), g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ({"first.weight"}, 0.02, 0.1),
        ({"embed_tokens.weight", "lm_head.weight"}, 1e-3, 0.1),
        ({"first.bias", "norm.bias", "lm_head.bias"}, 1e-3, 0.0),
    ]


def test_adamw_alone_gets_everything_that_is_trained() -> None:
    model = small_model()
    optimizer = build_optimizer(model, SFTSettings())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert set().union(*(names(model, group) for group in optimizer.param_groups)) == {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def test_muon_alone_gets_hidden_matrices_where_there_is_nothing_else() -> None:
    """As adapters are."""
    model = nn.Linear(8, 8, bias=False)
    optimizer = build_optimizer(model, SFTSettings(optimizer="muon"))
    assert isinstance(optimizer, torch.optim.Muon)
    assert names(model, optimizer.param_groups[0]) == {"weight"}


def test_together_steps_like_its_parts_apart_under_one_schedule() -> None:
    joint, apart = small_model(), small_model()
    settings = SFTSettings(optimizer="muon", learning_rate=1e-2)
    optimizer = build_optimizer(joint, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 / (k + 1))
    matrix = [apart["first"].weight]
    others = [p for n, p in apart.named_parameters() if p.requires_grad and n != "first.weight"]
    muon = torch.optim.Muon(matrix, lr=settings.muon_learning_rate, weight_decay=0.0)
    adamw = torch.optim.AdamW(others, lr=1e-2, betas=settings.betas, weight_decay=0.0)
    for k in range(3):
        step(joint, optimizer, k)
        schedule.step()
        for part, rate in ((muon, settings.muon_learning_rate), (adamw, 1e-2)):
            part.param_groups[0]["lr"] = rate / (k + 1)
            step(apart, part, k)
    for one, other in zip(joint.parameters(), apart.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_together_goes_on_from_its_saved_state() -> None:
    straight, resumed = small_model(), small_model()
    settings = SFTSettings(optimizer="muon", learning_rate=1e-2)
    first, second = build_optimizer(straight, settings), build_optimizer(resumed, settings)
    for k in range(4):
        step(straight, first, k)
    for k in range(2):
        step(resumed, second, k)
    third = build_optimizer(resumed, settings)
    third.load_state_dict(second.state_dict())
    for k in range(2, 4):
        step(resumed, third, k)
    assert isinstance(third, Together)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
