"""Model families: how a checkpoint of each family wants its prompt, its images and its positions.

Shared by the local engine and by the trainers' encoding, so that both feed a model the same ids. Importing this pulls
no torch; loading a family needs the extra ``local``.
"""

from __future__ import annotations

from pathlib import Path

from thyme.families.checkpoint import find_checkpoint
from thyme.families.qwen_vl import QwenVLFamily, load_qwen_vl
from thyme.families.spans import Control, Grid, Part, TokenSpan

__all__ = ["Control", "Family", "Grid", "Part", "TokenSpan", "load_family"]

Family = QwenVLFamily
"""The one family class so far; its registry of checkpoint types is `thyme.families.qwen_vl.MODEL_TYPES`."""


def load_family(model: str | Path, *, min_pixels: int | None = None, max_pixels: int | None = None) -> Family:
    """Load tokenizer, chat template and image settings of a checkpoint; no weights.

    Args:
        model: Checkpoint folder, or hub id.
        min_pixels: Pixels to which smaller images are enlarged; None is the checkpoint's own.
        max_pixels: Pixels to which larger images are reduced; None is the checkpoint's own.

    Raises:
        ModelNotFoundError: No such checkpoint, or one of an unknown family.
        MissingExtraError: transformers is not installed.
    """
    return load_qwen_vl(find_checkpoint(model, weights=False), min_pixels=min_pixels, max_pixels=max_pixels)
