"""The embedded model and its world: `checkpoint_path` finds the weights, `thyme nano` trains and measures them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from thyme.errors import ModelNotFoundError

Checkpoint = Literal["final", "base", "undecided", "direct"]

CHECKPOINTS = Path(__file__).parent / "checkpoint"
"""Folder of the shipped weights."""


def checkpoint_path(which: Checkpoint = "final") -> Path:
    """Folder of a shipped checkpoint.

    Args:
        which: ``final`` thinks with code; ``base`` only sees, and is where its training started; ``undecided`` can
            use code and does so by the toss of a coin, a start for reinforcement; ``direct`` is the baseline that was
            trained to answer at once.

    Raises:
        ModelNotFoundError: The weights are not in this installation.
    """
    folder = CHECKPOINTS / which
    if not (folder / "model.safetensors").is_file():
        raise ModelNotFoundError(f"the embedded model's '{which}' weights are missing from this installation")
    return folder
