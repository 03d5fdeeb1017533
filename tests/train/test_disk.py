"""A run's folder that cannot be written, and a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from thyme.errors import ConfigError, TrainingError, UsageError
from thyme.train.arguments import CHECKPOINTS
from thyme.train.grpo.identity import RUN_FILE
from thyme.train.run.checkpoint import REPORT_FILE as SFT_REPORT
from thyme.train.run.disk import full_disk_named, make_folder


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    make_folder(tmp_path / "a/b", "thyme sft")
    make_folder(tmp_path / "a/b", "thyme sft")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/run' cannot be written \(.*\); name another with --out"):
        make_folder(tmp_path / "file/run", "thyme sft")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Quota"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors'
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),  # torch.save's
    ],
)
def test_a_full_disk_is_named_with_the_way_out(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(TrainingError, match=r"no space is left for 'run' .*--resume"),
        full_disk_named(tmp_path / "run"),
    ):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), RuntimeError("shapes"), ConfigError("x")])
def test_other_errors_stay_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, full_disk_named(tmp_path):
        raise error
    assert raised.value is error


def test_a_device_that_is_always_full_says_what_is_expected() -> None:
    with pytest.raises(TrainingError, match="no space"), full_disk_named(Path("run")):
        Path("/dev/full").write_text("x")


@pytest.mark.parametrize(
    ("left", "by", "other"),
    [
        (f"images/{CHECKPOINTS}/x", "thyme sft", "thyme grpo"),
        (SFT_REPORT, "thyme sft", "thyme grpo"),
        (RUN_FILE, "thyme grpo", "thyme sft"),
    ],
)
def test_a_folder_with_a_run_of_the_other_kind_is_refused(tmp_path: Path, left: str, by: str, other: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).touch()
    make_folder(tmp_path, by)
    with pytest.raises(UsageError, match=f"holds a run of {by}; name another folder with --out"):
        make_folder(tmp_path, other)
