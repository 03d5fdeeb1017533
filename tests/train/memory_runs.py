"""Small runs of the real trainer with every tensor counted, for the test of the memory estimate and its table. Not a
test."""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import samples
import tiny_model
import torch
from peak_tracker import PeakTracker

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.families import load_family
from thyme.train.encode import encode_turns
from thyme.train.memory.estimate import estimate
from thyme.train.sft import train_sft

_ADAPTERS = {"lora": LoraSettings(), "weights_dtype": "bfloat16", "bf16": True}
STEPS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "all weights, checkpointed": {"gradient_checkpointing": True},
    "autocast": {"bf16": True},
    "autocast, checkpointed": {"bf16": True, "gradient_checkpointing": True},
    "adapters": _ADAPTERS,
    "adapters, checkpointed": {**_ADAPTERS, "gradient_checkpointing": True},
    "tower too": {"freeze_vision": False},
    "adapters and tower": {**_ADAPTERS, "freeze_vision": False},
    "accumulated": {"accumulation": 2},
    "full logits": {"loss": "full"},
}
"""What differs from training all of the language model in float32, a sample a step."""


@dataclass(frozen=True)
class Peaks:
    """Bytes."""

    measured: int
    estimated: int
    moment: str

    @property
    def error(self) -> float:
        """Of the estimate, as a share of what was measured."""
        return self.estimated / self.measured - 1


def tiny_config(family: str, **sizes: int) -> Any:
    """A tiny model whose widths are all unlike each other, so that no two terms can be confused."""
    config = tiny_model.build_config(family, tiny_model.build_tokenizer(), hidden=256, **sizes)
    config.text_config.intermediate_size = 704
    config.vision_config.hidden_size, config.vision_config.intermediate_size = 128, 320
    return config


def tiny(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The model, random, in training mode."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_config(config).to(dtype).train()


def peaks(way: str, base: Path, out: Path) -> Peaks:
    """Train two steps, count every tensor, and ask the estimate.

    Args:
        way: One of `STEPS`.
        base: Checkpoint whose tokenizer is used.
        out: Folder of the run.
    """
    config = tiny_config("qwen2_5_vl", layers=6)
    settings = SFTSettings(max_steps=2, batch_size=1, device="cpu", log_steps=1).model_copy(update=STEPS[way])
    model = tiny(config, torch.bfloat16 if settings.weights_dtype == "bfloat16" else torch.float32)
    family = load_family(base)
    sample = encode_turns([("read it", "ab " * 300)], [samples.picture(0, 168, 168)], family)
    patches = sum(time * height * width for time, height, width in sample.grids)
    gc.collect()
    with PeakTracker([*model.parameters(), *model.buffers()]) as tracker:
        train_sft([sample] * settings.accumulation, model, settings, out, base=base, family=family)
    content = json.loads(config.to_json_string())
    foreseen = estimate(content, settings, tokens=len(sample), patches=patches, device="cpu")
    return Peaks(tracker.peak, foreseen.peak, foreseen.moment)
