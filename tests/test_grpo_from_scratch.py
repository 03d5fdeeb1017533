"""The example that holds the whole algorithm: its numbers against the engine's, a hand's and the package's trainer."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from thyme.config import EngineConfig, SandboxConfig
from thyme.config.grpo import GRPOSettings
from thyme.engines.transformers import TransformersEngine
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.nano.world import problem
from thyme.sandbox import open_sandbox
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.train.grpo.trainer import GRPO, World
from thyme.train.run.checkpoint import load_model
from thyme.types import Generated, Problem, Prompt, RolloutFailure, Sampling, Score, StopReason, Trajectory

pytestmark = pytest.mark.usefixtures("one_thread")

EXAMPLE = Path(__file__).parents[1] / "examples" / "grpo_from_scratch.py"
POLICIES = ("keep", "mask", "tempered")
SAMPLING = Sampling(text_temperature=1, code_temperature=0, max_rounds=4, max_round_tokens=100, max_tokens=400)


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grpo_from_scratch", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


example: Any = load_example()
FAMILY = load_family(checkpoint_path())


@pytest.fixture(scope="module")
def model() -> Any:
    made = load_model(checkpoint_path(), dtype=torch.float32, attention="sdpa").eval()
    made.model.visual.requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def start(model: Any) -> Any:
    """A reference that differs from the policy, as after some steps."""
    made = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return made


@pytest.fixture(scope="module")
def drawn(model: Any) -> dict[str, list[Trajectory]]:
    """By code policy: six trajectories with images in question and observation, with text only, and without code."""

    async def draw() -> dict[str, list[Trajectory]]:
        prompts = str(checkpoint_path() / "prompts")
        engine = TransformersEngine(model, FAMILY, EngineConfig(max_batch=12), prompts=prompts)
        asked = [problem("train", 3, 0, kind) for kind in ("zoom", "arithmetic", "easy")]
        async with open_sandbox(SandboxConfig()) as sandbox:
            found = {
                name: [
                    one
                    for each in asked
                    for one in await example.roll_out(each, engine, sandbox, example.sampling(name), range(2))
                ]
                for name in ("mask", "tempered")
            }
        await engine.aclose()
        return found | {"keep": found["mask"]}

    return asyncio.run(draw())


def answered(response: str, *, stop: StopReason = StopReason.ANSWER) -> Trajectory:
    failed = RolloutFailure(type="E", message="m", where="engine") if stop is StopReason.ERROR else None
    segment = Generated(kind="text", text=response, temperature=1.0)
    asked = Problem(id="p", question="?", answer="7A")
    prompt = Prompt(system="", user="?")
    return Trajectory(
        id="t", problem=asked, prompt=prompt, segments=(segment,), stop=stop, error=failed, sampling=SAMPLING
    )


@pytest.mark.parametrize(
    ("response", "paid"),
    [
        ("<think>I see red 7A.</think>\n<answer>7A</answer>", 2.0),
        ("<think>I see red 7K.</think>\n<answer>7A</answer>", 1.5),
        ("<think>I see red 47A.</think>\n<answer>7A</answer>", 1.5),
        ("<think>I see red 7K.</think>\n<answer>7K</answer>", 0.5),
        ("I see red 7A.</think>\n<answer>7A</answer>", 1.5),
        ("<think>I see red 7A.", 0.0),
        ("", 0.0),
    ],
)
def test_a_trajectory_is_paid_by_the_papers_formula(response: str, paid: float) -> None:
    assert example.reward(answered(response)) == paid


def test_a_failure_of_the_machinery_is_not_paid_at_all() -> None:
    assert example.reward(answered("", stop=StopReason.ERROR)) is None


def test_advantages_are_a_groups_standard_scores() -> None:
    std = math.sqrt(((1 - 4 / 3) ** 2 * 2 + (2 - 4 / 3) ** 2) / 2)
    expected = [(value - 4 / 3) / (std + 1e-4) for value in (1, 2, 1)]
    found = example.advantages([1.0, None, 2.0, 1.0])
    assert found[1] is None
    assert [found[0], *found[2:]] == pytest.approx(expected, rel=1e-5)
    assert example.advantages([0.5, 0.5]) == [0, 0]
    assert example.advantages([0.5, None]) == [None, None]


@pytest.mark.parametrize("policy", POLICIES)
def test_it_computes_the_log_probabilities_that_the_engine_drew_with(
    policy: str, model: Any, drawn: dict[str, list[Trajectory]]
) -> None:
    kinds = [segment.kind for trajectory in drawn[policy] for segment in trajectory.segments]
    assert {"text", "code", "observation"} <= set(kinds)
    for trajectory in drawn[policy]:
        tokens = example.tokens_of(trajectory, policy)
        with torch.no_grad():
            found = example.log_probabilities(model, tokens, FAMILY)
        segments = [s for s in trajectory.generated if policy != "mask" or s.kind == "text"]
        assert found.tolist() == pytest.approx([x for s in segments for x in s.logprobs or ()], abs=2e-4)
        assert tokens.ids[tokens.trained].tolist() == [i for s in segments for i in s.token_ids]


def by_hand(
    model: Any, reference: Any, rollouts: list[tuple[Trajectory, float]], policy: str, beta: float
) -> torch.Tensor:
    """J_GRPO with its sign turned round, from probabilities in 64 bits of whole rows of logits."""
    terms: list[torch.Tensor] = []
    for trajectory, advantage in rollouts:
        ids = [*trajectory.prompt.token_ids, *(i for s in trajectory.segments for i in s.token_ids)]
        rows = [whole_logits(which, ids, trajectory) for which in (model, reference)]
        at = len(trajectory.prompt.token_ids)
        for segment in trajectory.segments:
            before, written = at, list(segment.token_ids)
            at += len(written)
            if not isinstance(segment, Generated) or (policy == "mask" and segment.kind == "code"):
                continue
            tau = segment.temperature if segment.temperature > 0 else 1.0
            chances = (row[before - 1 : at - 1].div(tau).softmax(-1)[range(len(written)), written] for row in rows)
            new, old = chances
            ratio = old.detach() / new
            terms.append(-(new / new.detach()) * advantage + beta * (ratio - ratio.log() - 1))
    return torch.cat(terms).mean()


def whole_logits(model: Any, ids: list[int], trajectory: Trajectory) -> torch.Tensor:
    row = torch.tensor([ids])
    images = [seen.image for seen in trajectory.prompt.images]
    images += [image for observation in trajectory.observations for image in observation.execution.images]
    inputs: dict[str, Any] = {"mm_token_type_ids": (row == FAMILY.image_token_id).long()}
    if images:
        inputs["pixel_values"], inputs["image_grid_thw"] = example.pixels(FAMILY, images)
    logits: torch.Tensor = model(input_ids=row, **inputs).logits[0].double()
    return logits


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm."""
    assert one.keys() == other.keys()
    difference = sum(float((one[name] - other[name]).pow(2).sum()) for name in one)
    return math.sqrt(difference / sum(float(value.pow(2).sum()) for value in one.values()))


@pytest.mark.parametrize("beta", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
@pytest.mark.parametrize("policy", POLICIES)
def test_loss_and_gradient_are_those_of_the_formula(
    policy: str, beta: float, model: Any, start: Any, drawn: dict[str, list[Trajectory]]
) -> None:
    rollouts = list(zip(drawn[policy], [1.2, -0.7, 0.4, -0.4, 0.0, 2.0], strict=True))
    loss, divergence, count = example.backward(model, start, rollouts, FAMILY, policy, beta)
    found = gradients(model)
    expected = by_hand(model, start, rollouts, policy, beta)
    expected.backward()  # type: ignore[no-untyped-call]  # as torch has it
    assert loss == pytest.approx(float(expected.detach()), rel=1e-4)
    assert apart(gradients(model), found) < 1e-4
    assert divergence == 0 if beta == 0 else divergence > 1e-3
    kinds = {"text"} if policy == "mask" else {"text", "code"}
    assert count == sum(len(s.token_ids) for t in drawn[policy] for s in t.generated if s.kind in kinds)


@dataclass
class Replayed:
    """Problems and a roller that hands out trajectories that there are already, two to a group."""

    trajectories: list[Trajectory]
    rewards: list[float]
    fingerprint: str = "replayed"

    def __len__(self) -> int:
        return len(self.trajectories) // 2

    def __getitem__(self, index: int, /) -> Problem:
        return self.trajectories[2 * index].problem

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        made = [Member(t, Score(value=r)) for t, r in zip(self.trajectories, self.rewards, strict=True)]
        return [Group(one, tuple(made[2 * one.place : 2 * one.place + 2])) for one in asked]

    def close(self) -> None:
        """Nothing is open."""


class KeptGradients(TrainerCallback):
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("beta", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
@pytest.mark.parametrize("policy", POLICIES)
def test_loss_and_gradient_are_those_of_the_packages_trainer(
    policy: str, beta: float, model: Any, start: Any, drawn: dict[str, list[Trajectory]], tmp_path: Path
) -> None:
    rewards = [2.0, 0.5, 0.5, 1.5, 1.5, 1.5]  # two groups that teach, one that does not
    trajectories = [drawn[policy][at] for at in (0, 2, 4, 1, 3, 5)]  # of one problem they are often the same
    replayed = Replayed(trajectories, rewards)
    settings = GRPOSettings(
        max_steps=1, problems=3, group=2, batch_size=3, beta=beta, code_policy=policy, max_grad_norm=0, device="cpu"
    )
    trainer = GRPO(copy.deepcopy(model), World(replayed, replayed, FAMILY), settings, tmp_path)
    if beta:
        trainer.ref_model.load_state_dict(start.state_dict())
    trainer.add_callback(kept := KeptGradients())
    trainer.train()
    ((_, trained),) = trainer.trained
    worth = [advantage for at in (0, 2, 4) for advantage in example.advantages(rewards[at : at + 2])]
    rollouts = list(zip(trajectories, worth, strict=True))
    loss, divergence, count = example.backward(model, start, rollouts, FAMILY, policy, beta)
    assert apart(gradients(model), kept.found) < 1e-3  # rows are padded there, and summed in another order
    assert trained.loss == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert trained.tokens == count
    assert (trained.kl or 0.0) == pytest.approx(divergence, rel=1e-4)


def test_it_runs_and_says_what_it_earns() -> None:
    options = ["--steps", "1", "--problems", "2", "--group", "2"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *options], capture_output=True, text=True, timeout=120, check=True
    )
    assert "step 1: reward " in done.stdout
    assert "tool rate " in done.stdout
    assert "nan" not in done.stdout


def test_it_stays_one_readable_file() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    assert "trl" not in text.replace("ctrl", "")
    assert "thyme.train.grpo" not in text
