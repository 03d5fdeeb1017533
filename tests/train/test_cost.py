"""Operations as torch counts them on real models, and hours that follow from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny_model
import torch
from torch.utils.flop_counter import FlopCounterMode

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.train.memory.cost import PEAK_TFLOPS, Load, cost, sample_operations
from thyme.train.memory.layouts import layout
from thyme.train.memory.shapes import Shapes, shapes

TOKENS, SIDE = 300, 12


def counted(config: Any, settings: SFTSettings) -> int:
    """What torch counts in one step of a real model, attention by plain products over all pairs."""
    from transformers import AutoModelForImageTextToText
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager").train()
    model.model.visual.requires_grad_(not settings.freeze_vision)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()
    ids = torch.randint(10, 200, (1, TOKENS))
    ids[0, 5 : 5 + SIDE**2 // 4] = config.image_token_id
    pixels = torch.randn(SIDE**2, 3 * 2 * config.vision_config.patch_size**2)
    # The head's gradients are added up in place, by a product that the counter does not know.
    known = {torch.ops.aten.addmm_: lambda _sum, one, other, **_options: 2 * one[0] * one[1] * other[1]}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        out = model(
            input_ids=ids,
            labels=ids,
            pixel_values=pixels,
            image_grid_thw=torch.tensor([[1, SIDE, SIDE]]),
            mm_token_type_ids=(ids == config.image_token_id).long(),
            fused_lm_head=True,
        )
        (-out.log_probs.sum()).backward()
    return counter.get_total_flops()


def over_all_pairs(model: Shapes, settings: SFTSettings, load: Load) -> float:
    """What plain attention takes beyond a fused kernel: the other half of the pairs, less what that one makes twice."""
    again = 1 if settings.gradient_checkpointing else 0
    text = model.text.layers * 4 * load.tokens**2 * model.text.attention * ((3 + again) - (3.5 + again) / 2)
    if settings.freeze_vision:
        return text
    windowed = model.vision.layers - model.full_layers
    pairs = load.patches * (windowed * (model.window or 0) + model.full_layers * load.patches)
    return text - 0.5 * 4 * pairs * model.vision.attention


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_operations_are_those_that_torch_counts(family: str, freeze: bool, checkpointed: bool) -> None:
    """With checkpointing a little less: torch does not repeat the last product of a layer."""
    config = tiny_model.build_config(family, tiny_model.build_tokenizer(), layers=3, hidden=128)
    model = shapes(json.loads(config.to_json_string()))
    settings = SFTSettings(freeze_vision=freeze, gradient_checkpointing=checkpointed)
    load = Load(tokens=TOKENS, targets=TOKENS - 1, patches=SIDE**2)
    expected = sample_operations(model, settings, load) + over_all_pairs(model, settings, load)
    if checkpointed:
        expected -= 2 * model.text.layers * TOKENS * model.text.hidden * model.text.mlp
    assert counted(config, settings) == pytest.approx(expected, rel=0.03)


def test_full_training_is_six_operations_a_parameter_and_eight_with_checkpointing() -> None:
    model = shapes(layout("qwen2.5-vl-7b"))
    load = Load(tokens=1, targets=0)
    assert sample_operations(model, SFTSettings(), load) == pytest.approx(6 * model.matrices, rel=1e-4)
    checkpointed = SFTSettings(gradient_checkpointing=True)
    assert sample_operations(model, checkpointed, load) == pytest.approx(8 * model.matrices, rel=1e-4)
    adapters = SFTSettings(lora=LoraSettings())
    assert sample_operations(model, adapters, load) == pytest.approx(4 * model.matrices, rel=0.05)


def test_kept_features_spare_the_tower() -> None:
    model = shapes(layout("qwen2.5-vl-3b"))
    load = Load(tokens=5000, targets=400, patches=16384)
    kept = sample_operations(model, SFTSettings(cache="features"), load)
    frozen = sample_operations(model, SFTSettings(), load)
    trained = sample_operations(model, SFTSettings(freeze_vision=False), load)
    assert frozen - kept > 2 * 0.9 * model.vision_parameters * load.patches
    assert trained - kept == pytest.approx(3 * (frozen - kept), rel=0.1)


def test_hours() -> None:
    made = cost(layout("qwen2.5-vl-7b"), SFTSettings(), Load(tokens=1000, targets=100), samples=1000)
    hours = made.gpu_hours("h800", utilisation=0.5)
    assert hours == pytest.approx(made.operations / (0.5 * 989e12) / 3600)
    assert made.gpu_hours("rtx-4090") > made.gpu_hours("a100") > made.gpu_hours("h200")
    assert set(PEAK_TFLOPS) >= {"rtx-4090", "a100", "h800", "h100", "h200"}
