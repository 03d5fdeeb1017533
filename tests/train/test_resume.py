"""Runs that are killed for good, asked to end, or cut while they write: resumed, each equals one that never was."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from transformers import AutoModelForImageTextToText, TrainerCallback

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.errors import ConfigError, TrainingStoppedError
from thyme.families import Family, load_family
from thyme.nano import checkpoint_path
from thyme.train.data.rows import RandomParts
from thyme.train.data.samples import Stream
from thyme.train.data.stream import StreamedSamples, StreamSource
from thyme.train.encode import Encoded, MaskPolicy, encode
from thyme.train.run.checkpoint import RUN_FILE, last_checkpoint, remove_old_checkpoints
from thyme.train.run.records import StageReport
from thyme.train.sft import CHECKPOINTS, train_sft
from thyme.train.sft.trainer import Trainer

pytestmark = [
    # Later Pythons warn of forks beside threads; the child runs on one thread and is killed.
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def trajectories(family: Family) -> list[Any]:
    return [
        samples.trajectory(
            [samples.crop(i + j) for j in range(i % 3)],
            family=family,
            images=[samples.picture(i)] if i % 2 else [],
            name=str(i),
        )
        for i in range(8)
    ]


def listed(family: Family) -> list[Encoded]:
    return [encode(trajectory, family) for trajectory in trajectories(family)]


def streamed(family: Family) -> StreamedSamples:
    parts: Any = RandomParts(trajectories(family))  # type: ignore[arg-type]  # a list of rows is rows by place
    source = StreamSource("drawn", "trajectories", parts, MaskPolicy.ALL)
    return StreamedSamples([source], family, max_tokens=4000, buffer=4)


def plan(**changes: Any) -> SFTSettings:
    """Two epochs of four steps; a checkpoint after steps 3 and 6, a point of the curve after every second one."""
    usual = {"epochs": 2, "batch_size": 2, "learning_rate": 2e-3, "log_steps": 2, "device": "cpu", "save_steps": 3}
    return SFTSettings(**(usual | changes))


def killing(at: int) -> Callable[[Trainer], None]:
    """End the process in the forward pass number `at`, from 1, as the kernel ends one."""
    calls = 0
    compute = Trainer.compute_loss

    def counted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, *args, **kwargs)

    return lambda cls: setattr(cls, "compute_loss", counted)


def in_a_process_of_its_own(work: Callable[[], Any]) -> int:
    """The exit code of a fork that does the work."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(folder).state_dict())


def assert_equal_runs(straight: Path, resumed: Path) -> None:
    one, other = (StageReport.model_validate_json((out / "sft_report.json").read_text()) for out in (straight, resumed))
    assert [point.step for point in other.curve] == [point.step for point in one.curve]
    for mine, theirs in zip(other.curve, one.curve, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert mine.learning_rate == theirs.learning_rate
        assert mine.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3)
    assert [point.step for point in other.validation] == [point.step for point in one.validation]
    before, after = weights(straight), weights(resumed)
    assert before.keys() == after.keys()
    assert max((before[name] - after[name]).abs().max().item() for name in before) < 1e-6


CASES: dict[str, tuple[dict[str, Any], int]] = {
    # settings, and the forward pass in which the run is killed: in the second epoch, between checkpoints
    "accumulating": ({"accumulation": 2, "epochs": 4}, 10),
    "muon-features": ({"optimizer": "muon", "cache": "features"}, 6),
    "lora-dropout": ({"lora": LoraSettings(rank=4, dropout=0.3), "max_grad_norm": 0.1}, 8),
    "lora-muon": ({"lora": LoraSettings(rank=4), "optimizer": "muon", "workers": 1}, 6),
    "lora-and-tower": ({"lora": LoraSettings(rank=4), "freeze_vision": False}, 6),
    "packed": ({"packing": True, "packed_tokens": 400, "batch_size": 1, "lora": LoraSettings(rank=4, dropout=0.3)}, 6),
}


FEW = {"accumulating", "lora-muon", "packed"}
"""What `make test` resumes; the others are for the longer suite."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in FEW else [pytest.mark.slow]) for case in CASES]
)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, case: str
) -> None:
    changes, at = CASES[case]
    settings = plan(**changes)

    def train(name: str, **options: Any) -> Any:
        return train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / name, **options)

    def killed() -> None:
        killing(at)(Trainer)  # type: ignore[arg-type]  # in the child only
        train("resumed")

    train("straight")
    assert in_a_process_of_its_own(killed) == -signal.SIGKILL
    assert not (tmp_path / "resumed" / "config.json").exists()
    checkpoint = last_checkpoint(tmp_path / "resumed" / CHECKPOINTS)
    assert checkpoint is not None
    train("resumed", resume=True)
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")


@pytest.mark.parametrize(
    "packing", [pytest.param(False, id="padded", marks=pytest.mark.slow), pytest.param(True, id="packed")]
)
def test_a_killed_stream_goes_on_where_it_was(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, packing: bool
) -> None:
    """With a validation in between, dropout, and workers that had read ahead."""
    lora = LoraSettings(rank=4, dropout=0.3)
    changes = {"packing": True, "packed_tokens": 400, "batch_size": 1} if packing else {"workers": 1}
    settings = plan(max_steps=8, lora=lora, eval_steps=4, **changes)
    validation = listed(family)[:2]

    def train(name: str, **options: Any) -> Any:
        found: Stream = streamed(family)
        return train_sft(found, tiny_qwen2_5_vl, settings, tmp_path / name, validation=validation, **options)

    def killed() -> None:
        killing(9)(Trainer)  # type: ignore[arg-type]  # in the child only
        train("resumed")

    train("straight")
    assert in_a_process_of_its_own(killed) == -signal.SIGKILL
    train("resumed", resume=True)
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_leaves_a_checkpoint_and_says_how_to_go_on(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, asked: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = plan(save_steps=100)
    train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / "straight")

    class Ask(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 4:
                os.kill(os.getpid(), asked)

    before = signal.getsignal(asked)
    with pytest.raises(TrainingStoppedError, match=r"after step 5 of 8.*resume"):
        train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / "resumed", callbacks=[Ask()])
    assert signal.getsignal(asked) == before
    assert ("Ctrl-C again ends at once" in capfd.readouterr().err) == (asked == signal.SIGINT)
    assert not (tmp_path / "resumed" / "config.json").exists()
    report = train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / "resumed", resume=True)
    assert [point.step for point in report.curve] == [1, 2, 4, 5, 6, 8]
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "resumed")
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 1e-6


def test_a_head_that_is_the_embedding_goes_on_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is saved once; the library would take it for missing."""
    base, said = checkpoint_path("base"), []
    settings, rows = plan(max_steps=2, save_steps=1), listed(load_family(base))
    monkeypatch.setattr("transformers.trainer.logger.warning", said.append)
    train_sft(rows, base, settings, tmp_path / "straight")

    class Ask(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match="after step 1 of 2"):
        train_sft(rows, base, settings, tmp_path / "resumed", callbacks=[Ask()])
    train_sft(rows, base, settings, tmp_path / "resumed", resume=True)
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")
    assert not [line for line in said if "missing keys" in line]


def test_a_second_interrupt_ends_at_once(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    class Impatient(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_sft(listed(family), tiny_qwen2_5_vl, plan(), tmp_path / "run", callbacks=[Impatient()])
    assert signal.getsignal(signal.SIGINT) == before


def test_a_half_written_checkpoint_is_ignored_and_cleared_away(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    """Killed while the second checkpoint is written: the first is still there, and enough."""
    settings = plan(keep_checkpoints=1)

    def killed() -> None:
        save = Trainer._save_rng_state

        def cut(self: Trainer, folder: str) -> None:
            if self.state.global_step == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            save(self, folder)

        Trainer._save_rng_state = cut  # type: ignore[method-assign]  # in the child only
        train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / "resumed")

    assert in_a_process_of_its_own(killed) == -signal.SIGKILL
    folder = tmp_path / "resumed" / CHECKPOINTS
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-3", "checkpoint-6"]
    assert last_checkpoint(folder) == folder / "checkpoint-3"
    train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / "resumed", resume=True)
    assert [path.name for path in folder.iterdir()] == ["checkpoint-8"]
    train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path / "straight")
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")


@pytest.mark.parametrize("changes", [{}, {"max_steps": 6}, {"epochs": 1.5}], ids=["epochs", "steps", "half an epoch"])
def test_a_run_that_is_done_and_resumed_has_nothing_left_to_do(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Also where it ends inside an epoch, the rest of which transformers would begin."""
    settings = plan(schedule="constant", warmup=0.0, **changes)
    done = train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path)
    before = weights(tmp_path)
    again = train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path, resume=True)
    assert (again.curve, again.steps) == (done.curve, done.steps)
    assert again.seconds == 0
    after = weights(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_removing_checkpoints_keeps_the_last_whole_ones(tmp_path: Path) -> None:
    for step, whole in ((2, True), (10, True), (9, True), (11, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}" / RUN_FILE).write_text("{}")
    remove_old_checkpoints(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_a_new_run_does_not_mix_with_the_checkpoints_of_an_old_one(
    tiny_qwen2_5_vl: Path, tiny_qwen3_vl: Path, family: Family, tmp_path: Path
) -> None:
    settings = plan(max_steps=1, save_steps=1)
    train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path)
    with pytest.raises(ConfigError, match="has checkpoints of an earlier run, the last one checkpoint-1; resume"):
        train_sft(listed(family), tiny_qwen2_5_vl, settings, tmp_path)
    others: list[tuple[Path, list[Encoded], SFTSettings, str]] = [
        (tiny_qwen2_5_vl, listed(family)[1:], settings, "other samples;"),
        (tiny_qwen3_vl, listed(family), settings, "another model to start from;"),
        (tiny_qwen2_5_vl, listed(family), settings.model_copy(update={"seed": 1}), r"other settings \(seed\);"),
    ]
    for model, chosen, changed, words in others:
        with pytest.raises(ConfigError, match=words):
            train_sft(chosen, model, changed, tmp_path, resume=True)
    run = json.loads((tmp_path / CHECKPOINTS / "checkpoint-1" / RUN_FILE).read_text())
    assert run["processes"] == 1
