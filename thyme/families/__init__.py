"""Model families: how a checkpoint of each family wants its prompt, its images and its positions.

Shared by the local engine and by the trainers' encoding, so that both feed a model the same ids. Importing this pulls
no torch; loading a family needs the extra ``local``. How to add one: docs/families.md.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from thyme.errors import ModelNotFoundError
from thyme.families.base import Family
from thyme.families.checkpoint import find_checkpoint, read_json
from thyme.families.spans import Control, Grid, Part, TokenSpan

__all__ = ["FAMILIES", "Control", "Family", "Grid", "Part", "TokenSpan", "load_family"]

FAMILIES = {
    "qwen2_5_vl": "thyme.families.qwen_vl",
    "qwen3_vl": "thyme.families.qwen_vl",
    "internvl": "thyme.families.internvl",
}
"""Checkpoint type (``model_type`` of config.json) to the module of its family: ``NAME`` has its ``load``, and
``NAME_tensors`` what `thyme.families.tensors` asks for. One of your own is a line more: `docs/extend/family.md`."""


class _Half(Protocol):
    """A family's module without tensors."""

    def load(self, folder: Path, *, min_pixels: int | None = None, max_pixels: int | None = None) -> Family:
        """Load the family of a checkpoint folder."""
        ...


def load_family(model: str | Path, *, min_pixels: int | None = None, max_pixels: int | None = None) -> Family:
    """Load tokenizer, chat template and image settings of a checkpoint; no weights.

    Args:
        model: Checkpoint folder, or hub id.
        min_pixels: Pixels to which smaller images are enlarged; None is the checkpoint's own.
        max_pixels: Pixels to which larger images are reduced; None is the checkpoint's own.

    Raises:
        ModelNotFoundError: No such checkpoint, or one of an unknown family.
        UsageError: Limits that the family cannot keep, or that contradict each other.
        MissingExtraError: transformers is not installed.
    """
    folder = find_checkpoint(model, weights=False)
    model_type = read_json(folder / "config.json").get("model_type", "")
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelNotFoundError(f"'{folder.name}' is a model of type '{model_type}'; supported types: {known}")
    half = cast(_Half, import_module(FAMILIES[model_type]))
    return half.load(folder, min_pixels=min_pixels, max_pixels=max_pixels)
