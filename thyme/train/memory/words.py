"""Estimates of memory in words, and the configuration that they are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thyme.errors import ModelNotFoundError
from thyme.families.checkpoint import find_checkpoint, read_json
from thyme.train.memory.estimate import GIB, MemoryEstimate
from thyme.train.memory.layouts import LAYOUTS, layout

_CARDS = (24, 80)
"""GB of the GPUs that an estimate is held against."""


def known_config(model: str | Path) -> dict[str, Any] | None:
    """The model's configuration: that of its folder, or the known one of a published model; None where neither is."""
    name = str(model).rpartition("/")[2].lower().removesuffix("-instruct")
    if name in LAYOUTS and not Path(model).expanduser().is_dir():
        return layout(name)
    try:
        return read_json(find_checkpoint(model, weights=False) / "config.json")
    except ModelNotFoundError:
        return None


def memory_words(name: str, tokens: int, found: MemoryEstimate, device: str) -> str:
    """An estimate in a line.

    Args:
        name: Which sample it is for.
        tokens: Of that sample.
        found: The estimate.
        device: ``cpu`` or ``cuda``.
    """
    fits = ", ".join(f"{'fits' if found.fits(card * 10**9) else 'does not fit'} {card} GB" for card in _CARDS)
    held = "" if device == "cpu" else f"; one process alone {fits}"
    return (
        f"memory, estimated, {name} ({tokens} tokens a sample): {size_words(found.peak)} at the moment "
        f"'{found.moment}' (weights {size_words(found.weights)}, gradients {size_words(found.gradients)}, optimiser "
        f"{size_words(found.optimizer)}, activations {size_words(found.activations)}){held}"
    )


def size_words(count: float) -> str:
    """Bytes in words."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
