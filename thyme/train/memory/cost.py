"""What a fine-tuning run will take: operations counted from the model's sizes, hours from an assumed utilisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyme.config.sft import SFTSettings
from thyme.train.memory.estimate import trained_parameters
from thyme.train.memory.shapes import Shapes, Stack, shapes

PEAK_TFLOPS = {"rtx-4090": 165, "a100": 312, "l40s": 362, "h800": 989, "h100": 989, "h200": 989}
"""Dense bfloat16 products with float32 sums, 10^12 operations a second, by the makers' data sheets."""
UTILISATION = 0.35
"""Share of the peak that a step is assumed to reach; well-tuned training of such models is reported at 0.3 to 0.4."""
_ATTENTION_BACKWARD = 2.5
"""Backward pass of a fused attention kernel against its forward pass: five products to two."""


@dataclass(frozen=True, slots=True)
class Load:
    """A typical sample."""

    tokens: int
    """All of them, images included."""
    targets: int
    """Those that are trained on."""
    patches: int = 0
    """Of all its images."""
    images: int = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes."""

    operations: float
    """Floating-point operations; a multiplication and an addition are two."""

    def gpu_hours(self, device: str, *, utilisation: float = UTILISATION) -> float:
        """Hours times devices.

        Args:
            device: One of `PEAK_TFLOPS`.
            utilisation: Share of the peak that is reached.
        """
        return self.operations / (PEAK_TFLOPS[device] * 1e12 * utilisation) / 3600


def cost(config: Mapping[str, Any] | Path, settings: SFTSettings, load: Load, *, samples: float) -> Cost:
    """Count the operations of a run.

    Args:
        config: What the model's ``config.json`` says, or the folder that has it.
        settings: How it is trained.
        load: The typical sample.
        samples: Samples that go through the model in all: rows times epochs.
    """
    return Cost(samples * sample_operations(shapes(config), settings, load))


def sample_operations(model: Shapes, settings: SFTSettings, load: Load) -> float:
    """Operations of one sample, forward and backward.

    A parameter of a matrix takes 2 a token in the forward pass, 2 for the gradient of its input, 2 for its own where it
    is trained, and 2 where checkpointing runs the forward pass again: the 6 N and 8 N of full training.
    """
    checkpointed = settings.gradient_checkpointing
    full = settings.lora is None
    text: float = model.matrices * load.tokens * _passes(trained=full, checkpointed=checkpointed)
    if not full:
        text += 6 * trained_parameters(model, settings.model_copy(update={"freeze_vision": True})) * load.tokens
    text += _attention(model.text, load.tokens**2 / 2) * _attention_passes(checkpointed)
    # The fused head makes its tiles once more in the backward pass.
    head = model.head_parameters * load.targets * (8 if full else 6)
    return text + head + _vision(model, settings, load)


def _passes(*, trained: bool, checkpointed: bool) -> int:
    return 4 + (2 if trained else 0) + (2 if checkpointed else 0)


def _attention_passes(checkpointed: bool) -> float:
    return 1 + _ATTENTION_BACKWARD + (1 if checkpointed else 0)


def _attention(stack: Stack, pairs: float) -> float:
    """Forward pass of all layers over so many pairs of tokens: a product for scores, one for values."""
    return stack.layers * 4 * pairs * stack.attention


def _vision(model: Shapes, settings: SFTSettings, load: Load) -> float:
    """The tower: forward only where it is frozen, nothing where its features are kept."""
    if not load.patches or settings.cache == "features":
        return 0.0
    near = load.patches * (model.window or 0)
    far = load.patches**2 / max(1, load.images)
    windowed = model.vision.layers - model.full_layers
    attention = (windowed * near + model.full_layers * far) * 4 * model.vision.attention
    passes, attention_passes = 2, 1.0
    if not settings.freeze_vision:
        passes = _passes(trained=True, checkpointed=settings.gradient_checkpointing)
        attention_passes = _attention_passes(settings.gradient_checkpointing)
    merged = model.merger_parameters / model.patches_a_token
    products = (model.vision_parameters - model.merger_parameters + merged) * load.patches
    return products * passes + attention * attention_passes
