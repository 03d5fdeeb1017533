"""A run of GRPO that is killed, or asked to end, and resumed equals one that never was, to the bit."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_world import ByHand, EngineRoller, NanoProblems, WrittenRoller, drawn, written
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback

from thyme.config.grpo import GRPOSettings
from thyme.config.training import LoraSettings
from thyme.errors import ConfigError, TrainingStoppedError
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.prompts import PromptSet
from thyme.train.grpo.draws import member_seed
from thyme.train.grpo.groups import Member
from thyme.train.grpo.records import Trained
from thyme.train.grpo.train import train_grpo
from thyme.train.grpo.trainer import GRPO
from thyme.train.run.checkpoint import RUN_FILE
from thyme.types import Score

pytestmark = [
    # Later Pythons warn of forks beside threads; the child runs on threads of its own and is killed.
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]

Steps = list[tuple[int, Trained]]


def plan(**changes: Any) -> GRPOSettings:
    """Four steps of two forwards; a checkpoint after steps 2 and 4."""
    usual = {
        "problems": 2,
        "group": 3,
        "batch_size": 3,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "device": "cpu",
        "save_steps": 2,
        "beta": 0.1,
    }
    return GRPOSettings(**(usual | changes))


def by_hand(folder: Path, settings: GRPOSettings, out: Path, **options: Any) -> Steps:
    """A run on rollouts that are functions of step, place and member."""
    family = load_family(folder)

    def make(step: int, place: int, member: int) -> Member:
        seed = member_seed(0, step, place, 0, member)
        made = written(family, str(seed), member % 2, images=place, seed=seed % 1000)
        return Member(made, Score(value=drawn(made, random.Random(seed))))

    quiet = Console(file=io.StringIO())
    return train_grpo(ByHand(), WrittenRoller(make), folder, settings, out, console=quiet, **options)


def drawing(folder: Path, settings: GRPOSettings, out: Path, **options: Any) -> Steps:
    """A run whose rollouts come from the weights."""
    roller = EngineRoller(load_family(folder), PromptSet.load(folder / "prompts"))
    return train_grpo(NanoProblems(), roller, folder, settings, out, console=Console(file=io.StringIO()), **options)


def killing(at: int) -> None:
    """End the process in the forward pass number `at`, from 1, as the kernel ends one."""
    calls, compute = 0, GRPO.compute_loss

    def counted(self: GRPO, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, *args, **kwargs)

    GRPO.compute_loss = counted  # type: ignore[method-assign]  # in the child only


def killed(work: Callable[[], Any], at: int) -> int:
    """The exit code of a fork that does the work and is killed on the way."""

    def dies() -> None:
        torch.set_num_threads(1)  # makes torch's pool anew, once: threads that load weights would race for it in a fork
        killing(at)
        work()

    child = multiprocessing.get_context("fork").Process(target=dies)
    child.start()
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


def without_gaps(steps: Steps) -> Steps:
    return [(step, trained.model_copy(update={"gaps": {}})) for step, trained in steps]


def assert_equal(out: Path, steps: Steps, other: Path, others: Steps) -> None:
    assert steps == others
    mine, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (out, other))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


CASES: dict[str, dict[str, Any]] = {
    "full-kl": {},
    "muon-features": {"optimizer": "muon", "cache": "features", "beta": 0.0},
    "lora-kl": {"lora": LoraSettings(rank=4)},
}


_STRAIGHT: dict[str, tuple[Steps, Path]] = {}


def straight_through(folder: Path, settings: GRPOSettings, made: pytest.TempPathFactory) -> tuple[Steps, Path]:
    """An uninterrupted run and its folder; one for all tests that need it."""
    name = settings.model_dump_json()
    if name not in _STRAIGHT:
        out = made.mktemp("straight")
        _STRAIGHT[name] = by_hand(folder, settings, out), out
    return _STRAIGHT[name]


@pytest.mark.parametrize(
    "case",
    [pytest.param("full-kl", marks=pytest.mark.slow), "lora-kl", pytest.param("muon-features", marks=pytest.mark.slow)],
)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    tiny_qwen2_5_vl: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, case: str
) -> None:
    """Killed in step 3, resumed from step 2. The reference stays the start of the run: with one of the resumed weights
    the divergence would begin at 0 again."""
    settings = plan(**CASES[case])
    straight, whole = straight_through(tiny_qwen2_5_vl, settings, tmp_path_factory)
    assert [step for step, _ in straight] == [1, 2, 3, 4]
    assert killed(lambda: by_hand(tiny_qwen2_5_vl, settings, tmp_path / "resumed"), at=6) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "resumed" / "checkpoints").iterdir()] == ["checkpoint-2"]
    resumed = by_hand(tiny_qwen2_5_vl, settings, tmp_path / "resumed", resume=True)
    assert_equal(whole, straight, tmp_path / "resumed", resumed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", list(CASES))
def test_so_does_one_whose_rollouts_come_from_the_weights(tmp_path: Path, case: str) -> None:
    """Its gaps only nearly: the engine's rows meet as time has it, which shows in the last digits that it records."""
    start = checkpoint_path("final")
    settings = plan(**(CASES[case] | {"group": 4, "batch_size": 4, "learning_rate": 1e-4}))
    straight = drawing(start, settings, tmp_path / "straight")
    assert killed(lambda: drawing(start, settings, tmp_path / "resumed"), at=6) == -signal.SIGKILL
    resumed = drawing(start, settings, tmp_path / "resumed", resume=True)
    for (_, mine), (_, theirs) in zip(resumed, straight, strict=True):
        for name, gap in mine.gaps.items():
            assert gap.tokens == theirs.gaps[name].tokens
            assert gap.largest == pytest.approx(theirs.gaps[name].largest, abs=1e-4)
    assert_equal(tmp_path / "straight", without_gaps(straight), tmp_path / "resumed", without_gaps(resumed))


class Asking(TrainerCallback):
    """Asks the process to end, in the middle of a step."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_asked_to_end_leaves_a_checkpoint_to_go_on_from(
    tiny_qwen2_5_vl: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = plan(**CASES["lora-kl"])
    straight, whole = straight_through(tiny_qwen2_5_vl, settings, tmp_path_factory)
    with pytest.raises(TrainingStoppedError, match="after step 3 of 4"):
        by_hand(tiny_qwen2_5_vl, settings, tmp_path / "asked", callbacks=[Asking()])
    resumed = by_hand(tiny_qwen2_5_vl, settings, tmp_path / "asked", resume=True)
    assert_equal(whole, straight, tmp_path / "asked", resumed)
    with pytest.raises(ConfigError, match="has checkpoints of an earlier run"):
        by_hand(tiny_qwen2_5_vl, settings, tmp_path / "asked")
    with pytest.raises(ConfigError, match=r"other settings \(beta\)"):
        by_hand(tiny_qwen2_5_vl, plan(**CASES["lora-kl"], beta=0.2), tmp_path / "asked", resume=True)
    assert str(tmp_path) not in (tmp_path / "asked" / "checkpoints" / "checkpoint-4" / RUN_FILE).read_text()
