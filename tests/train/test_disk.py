"""A run's folder that cannot be written, and a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from thyme.errors import ConfigError, TrainingError, UsageError
from thyme.train.run.disk import full_disk_named, make_folder


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/run' cannot be written \(.*\); name another with --out"):
        make_folder(tmp_path / "file/run")


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
