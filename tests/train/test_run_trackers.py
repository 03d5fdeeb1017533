"""Trackers: what they are given is what their own readers give back, and nothing of the machine is among it."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thyme.config.training import TrackingSettings
from thyme.errors import MissingExtraError, UsageError
from thyme.train.run import tracking
from thyme.train.run.records import EvaluationPoint
from thyme.train.run.tracking import TrackingCallback, check_trackers, evaluated, open_trackers


class State:
    """Of the trainer."""

    global_step = 3


POINT = EvaluationPoint(
    stage="images",
    step=4,
    seconds=1.0,
    kinds={"zoom": {"accuracy": 0.25, "tool_rate": None, "executable_rate": 1.0, "n": 4}},
)
LOGS = {"loss": 1.5, "learning_rate": 1e-4, "grad_norm": 2.0, "epoch": 0.5, "num_tokens": 99.0}


def track(name: str, out: Path, **settings: Any) -> None:
    """A step of the second stage, a validation, an evaluation, and the summary at the end of training."""
    out.mkdir(exist_ok=True)
    chosen = TrackingSettings(trackers=(name,), **settings)  # type: ignore[arg-type]  # a name, as TOML gives it
    trackers = open_trackers(chosen, out, {"model": "tiny", "stages": {"images": {"mask": "all"}}})
    callback = TrackingCallback(trackers, offset=10)
    callback.on_log(None, State, None, logs=LOGS)
    callback.on_log(None, State, None, logs={"eval_loss": 0.75})
    callback.on_log(None, State, None, logs={"train_runtime": 1.0, "loss": 7.0})
    callback.send(evaluated(POINT), POINT.step)
    for tracker in trackers:
        tracker.close()


def holding(folder: Path) -> list[str]:
    """Files in which a path of this machine stands."""
    needles = [str(place).encode() for place in (folder, Path.home(), Path.cwd())]
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(str(f.relative_to(folder)) for f in files if any(needle in f.read_bytes() for needle in needles))


def test_rates_without_cases_are_not_sent() -> None:
    assert evaluated(POINT) == {"evaluation/zoom/accuracy": 0.25, "evaluation/zoom/executable_rate": 1.0}


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track("tensorboard", tmp_path / "run")
    events = accumulator.EventAccumulator(str(tmp_path / "run/tracking/tensorboard"))
    events.Reload()
    found = {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found == {
        "train/loss": [(13, 1.5)],
        "train/learning_rate": [(13, 1e-4)],
        "train/grad_norm": [(13, 2.0)],
        "train/epoch": [(13, 0.5)],
        "validation/loss": [(13, 0.75)],
        "evaluation/zoom/accuracy": [(14, 0.25)],
        "evaluation/zoom/executable_rate": [(14, 1.0)],
    }
    assert holding(tmp_path) == []


def test_a_resumed_run_goes_on_where_its_checkpoint_was(tmp_path: Path) -> None:
    """What the killed part logged beyond its last checkpoint is not shown twice."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = TrackingSettings(trackers=("tensorboard",))
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        (tracker,) = open_trackers(settings, tmp_path, {}, first_step=first + 1 if first else 0)
        for step in steps:
            tracker.log({"train/loss": float(first + step)}, step)
        tracker.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tracking/tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 5.0), (4, 6.0)]


def test_wandb_keeps_an_offline_run_without_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    track("wandb", tmp_path / "run", project="p", run="r")
    (file,) = (tmp_path / "run/tracking").rglob("*.wandb")
    logged: dict[str, str] = {}
    for data in written(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        logged |= {(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item}
    assert float(logged["train/loss"]) == 1.5
    assert float(logged["evaluation/zoom/accuracy"]) == 0.25
    assert holding(tmp_path) == []


def written(log: bytes) -> Iterator[bytes]:
    """Records of a small log in LevelDB's format, behind the seven bytes that wandb puts in front of it."""
    place = 7
    while place + 7 <= len(log):
        size, kind = struct.unpack("<HB", log[place + 4 : place + 7])
        assert kind == 1, "a record in several blocks; the log is larger than expected"
        yield log[place + 7 : place + 7 + size]
        place += 7 + size


def test_trackio_keeps_a_run_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="trackio is not installed")
    track("trackio", tmp_path / "run", project="p", run="r")
    runs = trackio.Api().runs("p")
    assert [run.name for run in runs] == ["r"]
    assert (tmp_path / "trackio/p.db").is_file()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_the_extra(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        if module == name:
            raise ImportError(module)
        return importlib.import_module(module)

    monkeypatch.setattr(tracking, "import_module", missing)
    way_out = "pip install trackio" if name == "trackio" else "needs the extra 'track'"
    with pytest.raises((MissingExtraError, UsageError), match=f"tracker {name} .*{way_out}"):
        check_trackers([name])


def test_without_a_tracker_nothing_is_made(tmp_path: Path) -> None:
    assert open_trackers(TrackingSettings(), tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []
