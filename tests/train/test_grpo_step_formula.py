"""The loss and its gradient against the paper's formula, in plain torch: no TRL, nothing of the trainer."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import ByHand, WrittenRoller, written
from rich.console import Console
from transformers import AutoModelForImageTextToText, TrainerCallback

from thyme.config.grpo import GRPOSettings
from thyme.config.training import LoraSettings
from thyme.families import Family, load_family
from thyme.families.qwen_vl_tensors import pixels
from thyme.train.grpo.groups import OVERLONG, Group, Member
from thyme.train.grpo.records import Trained
from thyme.train.grpo.train import train_grpo
from thyme.types import Generated, Score, StopReason, Trajectory

# peft still asks transformers by the old name of activation checkpointing.


@dataclass(frozen=True)
class Token:
    place: int
    """In the ids."""
    kind: str
    tau: float
    logprob: float


def read(trajectory: Trajectory) -> tuple[list[int], list[Token], list[Any]]:
    """Ids, what the model wrote, and the images of a trajectory."""
    ids, tokens = list(trajectory.prompt.token_ids), list[Token]()
    images = [seen.image for seen in trajectory.prompt.images]
    for segment in trajectory.segments:
        if isinstance(segment, Generated):
            assert segment.logprobs is not None
            tokens += [
                Token(len(ids) + i, segment.kind, segment.temperature, value)
                for i, value in enumerate(segment.logprobs)
            ]
        else:
            images += segment.execution.images
        ids += segment.token_ids
    return ids, tokens, images


def logits(model: Any, family: Family, ids: list[int], images: list[Any]) -> torch.Tensor:
    """(L, V) of one unpadded sequence."""
    row = torch.tensor([ids])
    shown: dict[str, Any] = {}
    if images:
        rows, grids = pixels(family, images)
        shown = {"pixel_values": rows, "image_grid_thw": grids}
    found: torch.Tensor = model(input_ids=row, mm_token_type_ids=(row == family.image_token_id).long(), **shown).logits
    return found[0]


def logprobs(model: Any, family: Family, trajectory: Trajectory) -> tuple[list[Token], torch.Tensor]:
    ids, tokens, images = read(trajectory)
    scores = logits(model, family, ids, images).double()
    each = [(scores[t.place - 1] / (t.tau or 1.0)).log_softmax(-1)[ids[t.place]] for t in tokens]
    return tokens, torch.stack(each)


def advantage(group: Group, member: Member, settings: GRPOSettings) -> float | None:
    """None: not in the loss."""
    how = {"overlong": OVERLONG, "overturn": {StopReason.MAX_ROUNDS}}

    def treated(one: Member) -> str:
        return next((getattr(settings, name) for name, stops in how.items() if one.trajectory.stop in stops), "keep")

    rewards = [m.score.value for m in group.members if m.score.value is not None and treated(m) != "drop"]
    if len(rewards) < 2 or member.score.value is None or treated(member) != "keep":
        return None
    unit = statistics.stdev(rewards) + 1e-4 if settings.scale == "group" else 1
    return (member.score.value - statistics.fmean(rewards)) / unit


def formula(
    model: Any, reference: Any, groups: Sequence[Group], family: Family, settings: GRPOSettings
) -> torch.Tensor:
    """-J: the sum over the tokens of all trajectories of A - beta k3, by their number; observations are no tokens."""
    terms, count = [], 0
    for group in groups:
        for member in group.members:
            if (a := advantage(group, member, settings)) is None:
                continue
            tokens, policy = logprobs(model, family, member.trajectory)
            in_loss = torch.tensor([t.kind == "text" or settings.code_policy != "mask" for t in tokens])
            gain = a * torch.exp(policy - policy.detach())
            if settings.sampler_correction == "truncated":
                drawn = torch.tensor([t.tau > 0 for t in tokens])
                weights = torch.exp(policy.detach() - torch.tensor([t.logprob for t in tokens]))
                gain = gain * torch.where(drawn, weights.clamp(max=settings.sampler_cap), 1.0)
            if settings.beta:
                with torch.no_grad(), reference() as start:
                    difference = logprobs(start, family, member.trajectory)[1] - policy.detach()
                ratio = difference + policy.detach() - policy
                gain = gain - settings.beta * (torch.exp(ratio) - ratio - 1)
            terms.append(gain[in_loss].sum())
            count += int(in_loss.sum())
    return -torch.stack(terms).sum() / count


@dataclass
class Probe(TrainerCallback):
    """Before each optimiser step: the gradient as the trainer made it, and as the formula has it, at these weights."""

    roller: WrittenRoller
    family: Family
    settings: GRPOSettings
    start: Any
    losses: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    """Largest distance of a gradient, as a share of the largest gradient."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        theirs = {name: p.grad for name, p in trained.items()}
        for parameter in trained.values():
            parameter.grad = None

        @contextmanager
        def start() -> Iterator[Any]:
            with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
                yield model if hasattr(model, "disable_adapter") else self.start

        training = model.training
        model.eval()
        loss = formula(model, start, self.roller.steps[-1], self.family, self.settings)
        loss.backward()
        model.train(training)
        self.losses.append(loss.item())
        mine = {name: _or_nothing(p.grad) for name, p in trained.items()}
        apart = max(float((_or_nothing(theirs[name]) - gradient).abs().max()) for name, gradient in mine.items())
        self.off.append(apart / max(float(gradient.abs().max()) for gradient in mine.values()))
        for name, parameter in trained.items():
            parameter.grad = theirs[name]


def _or_nothing(gradient: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros(()) if gradient is None else gradient


STOPS = [StopReason.ANSWER, StopReason.MAX_TOKENS, StopReason.ANSWER, StopReason.MAX_ROUNDS]
REWARDS: list[list[float | None]] = [
    [2.0, 0.5, 0.0, 1.5],
    [0.5, 0.5, 0.5, 0.5],  # wrong, and well formed: under multiplicative gating consistency cannot tell them apart
    [None, 2.0, None, None],  # dropped
    [None, 1.0, 0.5, 1.0],
]


def mixed(family: Family, code: float) -> WrittenRoller:
    """Zero to two rounds, with and without images; scored, unscored, cut, zero-variance and dropped groups."""

    def make(step: int, place: int, member: int) -> Member:
        made = written(
            family,
            f"{step}-{place}-{member}",
            (place + member) % 3,
            code=code,
            images=(place + member) % 2,
            stop=STOPS[(place + member) % 4],
            seed=step + 4 * place + member,
        )
        return Member(made, Score(value=REWARDS[(place + step) % 4][member]))

    return WrittenRoller(make)


def train(folder: Path, out: Path, code: float = 0.3, **changes: Any) -> tuple[list[Trained], Probe]:
    usual = {
        "problems": 4,
        "group": 4,
        "batch_size": 4,
        "max_steps": 2,
        "learning_rate": 3e-3,
        "schedule": "constant",
        "warmup": 0.0,
        "max_grad_norm": 0.0,
        "device": "cpu",
        "beta": 0.0,
    }
    settings = GRPOSettings(**(usual | changes))
    family = load_family(folder)
    roller = mixed(family, code)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    start = AutoModelForImageTextToText.from_pretrained(folder).eval()
    probe = Probe(roller, family, settings, start)
    quiet = Console(file=io.StringIO())
    steps = train_grpo(
        ByHand(), roller, model, settings, out, base=folder, family=family, callbacks=[probe], console=quiet
    )
    return [trained for _, trained in steps], probe


CASES: dict[str, dict[str, Any]] = {
    "keep": {"code_policy": "keep", "code": 0.0},
    "mask": {"code_policy": "mask", "code": 0.0},
    "tempered": {"code_policy": "tempered", "code": 0.3},
    "kl": {"code_policy": "keep", "code": 0.0, "beta": 0.1, "scale": "none"},
    "kl-tempered-in-threes": {"code_policy": "tempered", "beta": 0.04, "overlong": "drop", "group": 3, "batch_size": 3},
    "lora-kl": {"beta": 0.1, "lora": LoraSettings(rank=4), "overturn": "mask", "code": 0.0},
    "lora-checkpointing": {"lora": LoraSettings(rank=4), "gradient_checkpointing": True, "beta": 0.1},
    "tower": {"freeze_vision": False, "overlong": "keep", "beta": 0.1},
    "weighed": {"code_policy": "keep", "code": 0.0, "sampler_correction": "truncated", "sampler_cap": 1.5},
    "features": {"cache": "features", "batch_size": 8, "beta": 0.1},
    "one-row-a-forward": {"batch_size": 1, "beta": 0.1},
    "padded": {"pad_to_multiple": 8, "batch_size": 16, "overlong": "keep"},
}


QUICK = {"keep", "tempered", "lora-kl", "weighed"}


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_the_step_is_the_papers_formula(tiny_qwen2_5_vl: Path, tmp_path: Path, case: str) -> None:
    """At the start and after a step, where the policy is no longer the reference; however the step is cut."""
    trained, probe = train(tiny_qwen2_5_vl, tmp_path, **CASES[case])
    assert [step.loss for step in trained] == pytest.approx(probe.losses, rel=2e-6, abs=2e-6)
    assert max(probe.off) < 1e-4
    if CASES[case].get("beta"):
        assert trained[0].kl == pytest.approx(0, abs=1e-9)
        assert trained[1].kl is not None
        assert trained[1].kl > 1e-5
    else:
        assert trained[0].kl is None
