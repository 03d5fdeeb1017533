"""The folder of a run: made first, its files whole or not at all, and what it means when its disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thyme.errors import ThymeError, TrainingError, UsageError

_FULL = ("No space left on device", "Disk quota exceeded", "file write failed")
"""What the writers of weights say, which have no error numbers: safetensors, and torch's of optimisers."""


_LEFT_BY = {"thyme sft": ("sft_report.json", "*/checkpoints"), "thyme grpo": ("grpo_run.json",)}
"""What tells whose run a folder holds."""


def make_folder(out: Path, command: str) -> None:
    """Make the folder of a run.

    Args:
        out: Where.
        command: Whose run it will hold.

    Raises:
        UsageError: It cannot be made, or written, or holds a run of another command, whose report would be lost.
    """
    for other, patterns in _LEFT_BY.items():
        if other != command and any(next(out.glob(pattern), None) for pattern in patterns):
            raise UsageError(f"'{out.name}' holds a run of {other}; name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".thyme"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"the folder '{out}' cannot be written ({error.strerror}); name another with --out") from error


def write_atomically(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


@contextmanager
def full_disk_named(out: Path) -> Iterator[None]:
    """Say plainly that a disk is full.

    Raises:
        TrainingError: It is.
    """
    try:
        yield
    except ThymeError:
        raise
    except Exception as error:  # the libraries' own: OSError, RuntimeError, SafetensorError
        if not _is_full(error):
            raise
        raise TrainingError(
            f"no space is left for '{out.name}' (a resumable checkpoint takes about three times the weights); make "
            "room and go on with --resume, or name another folder with --out"
        ) from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(said in str(error) for said in _FULL)
