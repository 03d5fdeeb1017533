"""A step of GRPO end to end: what gets a gradient, what is told and saved, and what if nothing can be learnt."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import ByHand, EngineRoller, NanoProblems, WrittenRoller, written
from rich.console import Console
from transformers import AutoModelForImageTextToText, TrainerCallback

from thyme.config.grpo import GRPOSettings
from thyme.config.training import LoraSettings
from thyme.errors import ConfigError, TrainingError, TrainingStoppedError
from thyme.families import Family, load_family
from thyme.nano import checkpoint_path
from thyme.prompts import PromptSet
from thyme.train.grpo.groups import Group, Member
from thyme.train.grpo.records import Trained
from thyme.train.grpo.train import train_grpo
from thyme.train.grpo.trainer import GRPO
from thyme.train.run.checkpoint import last_checkpoint
from thyme.types import Generated, Score, StopReason

# peft still asks transformers by the old name of activation checkpointing.
Told = list[tuple[int, Trained, list[Group], dict[str, float]]]


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def plan(**changes: Any) -> GRPOSettings:
    usual = {
        "problems": 2,
        "group": 4,
        "batch_size": 4,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup": 0.0,
        "beta": 0.0,
        "device": "cpu",
    }
    return GRPOSettings(**(usual | changes))


def train(model: Any, roller: Any, settings: GRPOSettings, out: Path, **options: Any) -> tuple[list[Any], Told]:
    told: Told = []
    options = {"problems": ByHand()} | options
    steps = train_grpo(
        options.pop("problems"),
        roller,
        model,
        settings,
        out,
        tell=lambda *args: told.append(args),
        console=Console(file=io.StringIO()),
        **options,
    )
    return steps, told


def paid(family: Family, reward: Callable[[int, int, int], float | None], **how: Any) -> WrittenRoller:
    """Written rollouts of zero to two rounds, paid by step, place and member."""

    def make(step: int, place: int, member: int) -> Member:
        name = f"{step}-{place}-{member}"
        made = written(family, name, member % 3, code=0.0, images=place, seed=4 * place + member, **how)
        return Member(made, Score(value=reward(step, place, member), note="" if reward(step, place, member) else "why"))

    return WrittenRoller(make)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(folder).state_dict())


def moved(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_steps_on_the_embedded_model_are_told_and_the_model_is_saved(tmp_path: Path) -> None:
    start = checkpoint_path("final")
    roller = EngineRoller(load_family(start), PromptSet.load(start / "prompts"))
    settings = plan(cache="features", learning_rate=1e-4, overlong="keep")
    steps, told = train(start, roller, settings, tmp_path, problems=NanoProblems())
    assert [step for step, _ in steps] == [step for step, *_ in told] == [1, 2]
    assert [trained for _, trained in steps] == [trained for _, trained, *_ in told]
    for _, trained, groups, seconds in told:
        assert [group.asked.place for group in groups] == [0, 1]
        assert trained.members == 8
        assert trained.tokens == sum(
            len(s.token_ids) for g in groups for m in g.members for s in m.trajectory.generated if s.kind == "text"
        )
        assert set(seconds) == {"rollout", "reference", "train", "total"}
        assert seconds["total"] >= seconds["rollout"] + seconds["train"]
        assert set(trained.gaps) == {"text", "greedy"}
        assert max(gap.largest for gap in trained.gaps.values()) < 1e-4
    before, after = weights(start), weights(tmp_path / "model")
    assert moved(before, after) > 0
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if "visual" not in name
    }
    assert PromptSet.load(tmp_path / "model" / "prompts").fingerprint == roller.prompts.fingerprint
    assert not (tmp_path / "checkpoints").exists()


class Reached(TrainerCallback):
    """Which of the model's last hidden states got a gradient, by the ids of the row up to the predicted token."""

    def __init__(self) -> None:
        self.states: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.gradients: dict[tuple[int, ...], float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        def keep(_: Any, args: Any, given: dict[str, Any], output: Any) -> None:
            if output.last_hidden_state.requires_grad:
                output.last_hidden_state.retain_grad()
                self.states.append((given["input_ids"], output.last_hidden_state))

        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.model.register_forward_hook(keep, with_kwargs=True)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for ids, hidden in self.states:
            assert hidden.grad is not None
            for row, gradient in zip(ids.tolist(), hidden.grad.abs().amax(-1).tolist(), strict=True):
                self.gradients |= {tuple(row[: i + 2]): size for i, size in enumerate(gradient[:-1])}
        self.states.clear()


@pytest.mark.parametrize(
    ("policy", "lora"), [("mask", None), ("keep", LoraSettings(rank=2))], ids=["mask", "lora-keep"]
)
def test_no_gradient_reaches_what_the_model_did_not_write(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, policy: Any, lora: LoraSettings | None
) -> None:
    """Exactly none: prompts, observations, padding, members that are masked or unscored, and under ``mask`` code."""
    roller = paid(family, lambda step, place, member: None if member == 3 else float(member))
    cut = roller.make

    def make(step: int, place: int, member: int) -> Member:
        made = cut(step, place, member)
        stop = StopReason.MAX_TOKENS if (place, member) == (0, 0) else StopReason.ANSWER
        return Member(made.trajectory.model_copy(update={"stop": stop}), made.score)

    roller.make = make
    probe = Reached()
    settings = plan(max_steps=1, code_policy=policy, lora=lora, scale="none")
    train(tiny_qwen2_5_vl, roller, settings, tmp_path, callbacks=[probe])
    reached = {prefix for prefix, size in probe.gradients.items() if size}
    expected, members = set(), 0
    for group in roller.steps[0]:
        for member in group.members:
            if member.trajectory.stop is StopReason.MAX_TOKENS or member.score.value in {None, 1.0}:  # 1 is the mean
                continue
            members += 1
            ids = list(member.trajectory.prompt.token_ids)
            for segment in member.trajectory.segments:
                counts = isinstance(segment, Generated) and (segment.kind == "text" or policy == "keep")
                for token in segment.token_ids:
                    ids.append(token)
                    if counts:
                        expected.add(tuple(ids))
    assert members == 3
    assert reached == expected


def test_rows_without_an_advantage_need_no_forward(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    """Where beta is 0; they stay in the normaliser. With beta they pull towards the reference, and are computed."""
    lengths: Counter[str] = Counter()

    class Counting(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            def count(_: Any, args: Any, given: dict[str, Any]) -> None:
                lengths["forwards"] += 1
                lengths["rows"] += len(given["input_ids"])

            model.model.register_forward_pre_hook(count, with_kwargs=True)

    tokens = []
    for beta, expected in ((0.0, 4), (0.1, 8)):
        lengths.clear()
        roller = paid(family, lambda step, place, member: float(member) if place else 0.5)
        settings = plan(max_steps=1, beta=beta, batch_size=2)
        ((_, trained),), _ = train(tiny_qwen2_5_vl, roller, settings, tmp_path / str(beta), callbacks=[Counting()])
        assert lengths == {"forwards": 4, "rows": expected}
        tokens.append((trained.tokens, trained.members))
    assert tokens[0] == tokens[1]
    assert tokens[0][1] == 8


def test_a_step_of_equal_rewards_has_a_gradient_of_exactly_nothing(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    steps, _ = train(tiny_qwen2_5_vl, paid(family, lambda *_: 0.5), plan(), tmp_path)
    assert [(trained.loss, trained.grad_norm, trained.gaps) for _, trained in steps] == [(0.0, 0.0, {})] * 2
    assert all(trained.tokens > 0 for _, trained in steps)
    assert moved(weights(tiny_qwen2_5_vl), weights(tmp_path / "model")) == 0


def test_a_step_without_scores_leaves_the_weights_alone(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    """In the middle of a run, where Adam's memory and the weight decay would move them: as if it were not there."""
    seen: list[torch.Tensor] = []

    class Looking(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))

    roller = paid(family, lambda step, place, member: None if step in {1, 2} else float(member))
    settings = plan(max_steps=4, weight_decay=0.1, patience=3, beta=0.1)
    steps, _ = train(tiny_qwen2_5_vl, roller, settings, tmp_path, callbacks=[Looking()])
    assert [bool(trained.tokens) for _, trained in steps] == [True, False, False, True]
    assert steps[1][1].members == 0
    assert steps[1][1].kl is None
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], seen[3])


def test_a_run_that_nobody_scores_ends_with_a_checkpoint_and_says_why(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    roller = paid(family, lambda step, place, member: float(member) if step == 0 else None)
    with pytest.raises(TrainingError, match=r"last 2 steps, up to step 3, .*why \(16 times\).*a checkpoint lies in"):
        train(tiny_qwen2_5_vl, roller, plan(max_steps=9, patience=2), tmp_path)
    found = last_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found.name == "checkpoint-3"
    assert not (tmp_path / "model").exists()
    steps, _ = train(
        tiny_qwen2_5_vl, paid(family, lambda *_: 1.0), plan(max_steps=9, patience=2), tmp_path, resume=True
    )
    assert [step for step, _ in steps] == list(range(1, 10))


def test_a_callback_may_end_a_run_which_is_then_not_whole(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    class Ending(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_save = control.should_training_stop = True

    with pytest.raises(TrainingStoppedError, match="after step 1 of 2"):
        train(tiny_qwen2_5_vl, paid(family, lambda s, p, m: float(m)), plan(), tmp_path, callbacks=[Ending()])
    assert (tmp_path / "checkpoints" / "checkpoint-1").is_dir()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_ends_the_run_before_the_weights_are_ruined(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    compute = GRPO._compute_loss

    def broken(self: GRPO, model: Any, inputs: Any) -> torch.Tensor:
        loss: torch.Tensor = compute(self, model, inputs)
        if what == "loss":
            return loss * float("nan")
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(GRPO, "_compute_loss", broken)
    with pytest.raises(
        TrainingError, match=rf"the {what} of step 1 is (nan|inf), in a batch of rollouts of problems p\d"
    ):
        train(tiny_qwen2_5_vl, paid(family, lambda s, p, m: float(m)), plan(), tmp_path)


def test_rollouts_of_another_model_are_named(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    roller = paid(load_family(checkpoint_path("final")), lambda s, p, m: float(m))
    with pytest.raises(TrainingError, match=r"a rollout of problem '0-0-0' cannot be trained on: .*tokenizer"):
        train(tiny_qwen2_5_vl, roller, plan(), tmp_path)


@pytest.mark.parametrize(
    ("processes", "changes", "message"),
    [
        (3, {}, "2 problems a step cannot be shared out among 3"),
        (2, {"batch_size": 8}, "let train.batch_size divide 4"),
    ],
)
def test_a_step_that_cannot_be_shared_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, processes: int, changes: dict[str, Any], message: str
) -> None:
    from thyme.train.grpo import arguments

    monkeypatch.setattr(arguments, "world_size", lambda: processes)
    with pytest.raises(ConfigError, match=message):
        arguments.forwards(plan(**changes))
