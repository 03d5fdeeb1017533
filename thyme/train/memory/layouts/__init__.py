"""Configurations of published models, without their weights: what memory and cost are reckoned from.

Each file is the ``config.json`` of the model of that name on the hub; the parameters they add up to are the published
totals, to the last one (tests/train/test_memory.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from thyme.errors import ConfigError

LAYOUTS = ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-4b", "qwen3-vl-8b")
"""Names that `layout` knows: Qwen/Qwen2.5-VL-3B-Instruct and so on."""


def layout(name: str) -> dict[str, Any]:
    """The configuration of a published model, as its ``config.json`` has it.

    Args:
        name: One of `LAYOUTS`.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"there is no layout '{name}'; there are {', '.join(LAYOUTS)}")
    content: dict[str, Any] = json.loads((files(__package__) / f"{name}.json").read_text(encoding="utf-8"))
    return content


def shortened(config: Mapping[str, Any], *, layers: int, vision_layers: int) -> dict[str, Any]:
    """A configuration cut in depth; widths, heads, vocabulary and all else stay.

    In the tower, layers that attend over the whole image stay as frequent as they are; as many as before, where there
    are so many, give their features to the language model's first layers.

    Args:
        config: A published configuration.
        layers: Layers of the language model.
        vision_layers: Layers of the tower.
    """
    made = json.loads(json.dumps(config))
    made.get("text_config", made)["num_hidden_layers"] = layers
    vision = made["vision_config"]
    depth, vision["depth"] = vision["depth"], vision_layers
    if "fullatt_block_indexes" in vision:
        kept = [index for index in vision["fullatt_block_indexes"] if index < vision_layers]
        vision["fullatt_block_indexes"] = kept or [vision_layers - 1]
    if "deepstack_visual_indexes" in vision:
        deep = vision["deepstack_visual_indexes"]
        vision["deepstack_visual_indexes"] = sorted({max(0, (i + 1) * vision_layers // depth - 1) for i in deep})
    return dict(made)
