"""The memory of a step: parameters to the last one, what layers keep to the byte, the peak to a few per cent."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import memory_runs
import pytest
import torch
from memory_runs import tiny, tiny_config
from peak_tracker import PeakTracker

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.errors import ConfigError, ModelNotFoundError
from thyme.train.arguments import lora_config
from thyme.train.memory.estimate import GIB, estimate, trained_parameters
from thyme.train.memory.layers import Regime, adapter_middles, names_of, text_layer, vision_layer
from thyme.train.memory.layouts import LAYOUTS, layout, shortened
from thyme.train.memory.shapes import shapes
from thyme.train.memory.table import tables

PUBLISHED = {
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen3-vl-4b": 4_437_815_808,
    "qwen3-vl-8b": 8_767_123_696,
}
"""Parameters that the hub counts in the published weights."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "sft_memory.md"
LENGTH = 576


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_have_the_published_number_of_parameters(name: str) -> None:
    assert shapes(layout(name)).parameters == PUBLISHED[name]


def test_an_unknown_layout_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"there is no layout 'qwen9'; there are qwen2\.5-vl-3b"):
        layout("qwen9")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_shortened_layout_differs_in_depth_alone(name: str) -> None:
    whole, short = shapes(layout(name)), shapes(shortened(layout(name), layers=4, vision_layers=8))
    assert (short.text.layers, short.vision.layers) == (4, 8)
    assert short.linears == whole.linears
    assert (short.vocabulary, short.window, short.tied) == (whole.vocabulary, whole.window, whole.tied)
    assert short.matrices * whole.text.layers == whole.matrices * 4
    if whole.window is not None:
        assert short.full_layers == 1  # of 8, as 4 are of 32


def test_what_is_no_vision_language_model() -> None:
    with pytest.raises(ModelNotFoundError, match="no model that transformers knows"):
        shapes({"model_type": "nonesuch"})
    with pytest.raises(ModelNotFoundError, match="no vision tower"):
        shapes({"model_type": "qwen2"})


def test_other_families_are_counted_too(tiny_internvl: Path) -> None:
    """InternVL names its parts otherwise, and its tower gives patches in two dimensions."""
    from transformers import AutoModelForImageTextToText

    sizes = shapes(tiny_internvl)
    model = AutoModelForImageTextToText.from_pretrained(tiny_internvl)
    assert sizes.parameters == sum(p.numel() for p in model.parameters())
    language = sum(p.numel() for p in model.model.language_model.parameters())
    assert sizes.text_parameters == language + model.lm_head.weight.numel()
    projector = sum(p.numel() for p in model.model.multi_modal_projector.parameters())
    assert sizes.merger_parameters == projector
    assert sizes.patches_a_token == 4


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, targets=("q_proj", "down_proj"))])
@pytest.mark.parametrize("freeze", [True, False])
def test_trained_parameters_are_those_that_get_a_gradient(family: str, lora: LoraSettings | None, freeze: bool) -> None:
    from peft import get_peft_model

    config, settings = tiny_config(family), SFTSettings(lora=lora, freeze_vision=freeze)
    model = tiny(config)
    model.model.visual.requires_grad_(not freeze)
    if lora is not None:
        model = get_peft_model(model, lora_config(model, settings))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_parameters(shapes(json.loads(config.to_json_string())), settings) == trained


# --- what a layer keeps -----------------------------------------------------------------------------------------------

DTYPES = [
    (torch.float32, False),
    (torch.float32, True),
    (torch.bfloat16, False),
    (torch.bfloat16, True),
]


def kept_bytes(model: Any, layer: Any, inputs: tuple[Any, ...], given: dict[str, Any], *, autocast: bool) -> int:
    """Bytes of all storages that autograd holds for a layer's backward pass; parameters, their casts, and what is
    shared by all layers (rotary tables) left out."""
    shared = [given["position_embeddings"]]
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    widths = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape)[::-1] for p in model.parameters()}
    shared_size = {tensor.numel() for pair in shared for tensor in pair}
    seen: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        mine = tuple(tensor.shape) not in widths and tensor.numel() not in shared_size
        if mine and storage._cdata not in parameters:
            seen[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with cast, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(*inputs, **given)
    return sum(seen.values())


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("lora", [None, LoraSettings()])
@pytest.mark.parametrize(("dtype", "autocast"), DTYPES)
def test_a_language_layer_keeps_what_the_formula_says(
    family: str, lora: LoraSettings | None, dtype: torch.dtype, autocast: bool
) -> None:
    from peft import get_peft_model

    config = tiny_config(family)
    model = tiny(config, dtype)
    inner = model
    if lora is not None:
        model = get_peft_model(model, lora_config(model, SFTSettings(lora=lora)))
    language = inner.model.language_model
    sizes = shapes(json.loads(config.to_json_string()))
    hidden = torch.randn(1, LENGTH, 256, dtype=dtype, requires_grad=True) * 1
    rotary = language.rotary_emb(hidden, torch.arange(LENGTH)[None, None].expand(3, 1, LENGTH))
    given = {"position_embeddings": rotary, "attention_mask": None}
    kept = kept_bytes(model, language.layers[0], (hidden,), given, autocast=autocast)
    stream = 4 if dtype == torch.float32 else 2
    adapters = names_of(lora.targets, sizes.linears) if lora is not None else None
    regime = Regime(stream, 2 if autocast else stream, autocast, adapters)
    expected = text_layer(sizes.text, regime, masked=False) + adapter_middles(lora.rank if lora else 0, regime)
    assert kept == pytest.approx(expected * LENGTH, rel=0.005)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(("dtype", "autocast"), DTYPES)
def test_a_layer_of_the_tower_keeps_what_the_formula_says(family: str, dtype: torch.dtype, autocast: bool) -> None:
    config = tiny_config(family)
    model = tiny(config, dtype)
    sizes = shapes(json.loads(config.to_json_string()))
    hidden = torch.randn(LENGTH, 128, dtype=dtype, requires_grad=True) * 1
    table = torch.randn(LENGTH, 64)
    given = {"cu_seqlens": torch.arange(0, LENGTH + 1, 64, dtype=torch.int32), "position_embeddings": (table, table)}
    kept = kept_bytes(model, model.model.visual.blocks[0], (hidden,), given, autocast=autocast)
    stream = 4 if dtype == torch.float32 else 2
    expected = vision_layer(sizes.vision, Regime(stream, 2 if autocast else stream, autocast))
    assert kept == pytest.approx(expected * LENGTH, rel=0.005)


# --- the peak ---------------------------------------------------------------------------------------------------------


WAYS = [
    "all weights",
    "autocast, checkpointed",
    "adapters, checkpointed",
    "adapters and tower",
    "accumulated",
    "full logits",
]
"""Of those that benchmarks/sft_memory.py measures; each has a term that the others lack."""


@pytest.mark.parametrize("way", WAYS)
def test_the_peak_is_that_of_the_tensors_of_a_real_run(way: str, tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    """Every tensor counted over two steps of the real trainer."""
    assert memory_runs.peaks(way, tiny_qwen2_5_vl, tmp_path).error == pytest.approx(0, abs=0.05)


def test_the_tracker_counts_storages_once_and_forgets_them() -> None:
    known = torch.zeros(1000)
    with PeakTracker([known]) as tracker:
        made = torch.ones(500)
        view = made.view(50, 10)[3:]
        copy = view.clone()
        assert tracker.now == 4 * (1000 + 500 + 470)
        del copy, made
        assert tracker.now == 4 * 1500  # the view holds the storage
        del view
    assert tracker.now == 4000
    assert tracker.peak == 4 * 1970


# --- more than one device ---------------------------------------------------------------------------------------------


def seven_b(world: int, sharding: Any, **changes: Any) -> Any:
    settings = SFTSettings(batch_size=1, gradient_checkpointing=True, **changes)
    return estimate(layout("qwen2.5-vl-7b"), settings, tokens=8192, patches=16384, world_size=world, sharding=sharding)


def test_what_is_shared_out() -> None:
    """ZeRO (Rajbhandari et al. 2020, section 3): with stage 2, 2 bytes of weights stay; 4 + 8 of states are shared."""
    total, trained = 8_292_166_656, 8_292_166_656 - 676_550_144
    two, three = seven_b(8, "zero2"), seven_b(8, "zero3")
    assert (two.weights, three.weights) == (2 * total, 2 * total // 8)
    assert two.optimizer == three.optimizer == 12 * trained // 8
    alone, data_parallel, fsdp = seven_b(1, "none"), seven_b(8, "none"), seven_b(8, "fsdp2")
    assert alone.weights == 4 * total
    assert alone.optimizer == 8 * trained
    assert data_parallel.peak > alone.peak > two.peak > three.peak
    assert (fsdp.weights, fsdp.optimizer) == (4 * total // 8, 8 * trained // 8)
    assert seven_b(16, "zero3").peak < three.peak


def test_settings_move_the_peak_the_way_they_should() -> None:
    plain = seven_b(1, "none")
    assert seven_b(1, "none", lora=LoraSettings(), weights_dtype="bfloat16").peak < plain.peak / 3
    assert seven_b(1, "none", freeze_vision=False).optimizer > plain.optimizer
    assert seven_b(1, "none", optimizer="muon").optimizer < plain.optimizer
    assert seven_b(1, "none", accumulation=4).peak >= plain.peak
    full = seven_b(1, "none", loss="full")
    assert full.head - plain.head > 8 * 8192 * 152_064
    padded = estimate(layout("qwen2.5-vl-7b"), SFTSettings(batch_size=2), tokens=8192)
    single = estimate(layout("qwen2.5-vl-7b"), SFTSettings(batch_size=1), tokens=8192)
    assert padded.activations > single.activations


def test_fits_leaves_a_reserve() -> None:
    one = seven_b(1, "none")
    assert one.peak == one.moments[one.moment]
    assert one.fits(2 * one.peak)
    assert not one.fits(one.peak)
    assert not one.fits(80 * GIB)


def test_the_document_shows_what_the_code_says() -> None:
    assert tables() in DOCUMENT.read_text(encoding="utf-8")
