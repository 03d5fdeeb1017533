"""A model family of your own: Qwen2-VL, which the package does not know, as two modules and one line.

    python examples/extend/own_family.py CHECKPOINT    # a folder of a model of type qwen2_vl; no weights are read

This is the half without tensors; own_family_tensors.py beside it is the other. Qwen2-VL cuts images as its successors
do, so everything but its name is inherited; a family that differs overrides what differs. docs/extend/family.md.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from thyme.families import FAMILIES, load_family
from thyme.families.base import CoordinateSystem
from thyme.families.qwen_vl import QwenVLFamily
from thyme.families.qwen_vl import load as load_successor

MODEL_TYPE = "qwen2_vl"
"""``model_type`` of config.json."""

FAMILIES[MODEL_TYPE] = __name__ if __name__ != "__main__" else "own_family"


class Qwen2VLFamily(QwenVLFamily):
    """Tokenizer and image settings of one checkpoint. Frozen, as its base."""

    @property
    def coordinates(self) -> CoordinateSystem:
        """How these models name places in an image: thousandths of its sides (Qwen2-VL was trained so)."""
        return "per_mille"


def load(folder: Path, *, min_pixels: int | None = None, max_pixels: int | None = None) -> Qwen2VLFamily:
    """Load the family of a checkpoint folder; `thyme.families.load_family` calls it by the name in the registry."""
    successor = load_successor(folder, min_pixels=min_pixels, max_pixels=max_pixels)
    return Qwen2VLFamily(**{one.name: getattr(successor, one.name) for one in fields(successor)})


def main() -> None:
    """Say how a checkpoint sees a photograph."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="folder of a model of type qwen2_vl")
    family = load_family(parser.parse_args().checkpoint)
    width, height = family.seen_size(4000, 3000)
    tokens = family.image_tokens(family.grid(4000, 3000))
    print(f"{family.name}: a photograph of 4000 x 3000 px is seen at {width} x {height} px, {tokens} tokens")


if __name__ == "__main__":
    main()
