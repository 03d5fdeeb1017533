"""A fine-tuned checkpoint of published widths, cut in depth, served by a real vLLM: it computes what was trained."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import torch
from engine_helpers import PLANS, Reference, write

from thyme.config import EngineConfig
from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.config.vllm import VllmConfig
from thyme.engines.vllm import VllmEngine
from thyme.families import load_family

sys.path.append(str(Path(__file__).parent.parent / "train"))  # real_models: random models of published widths

CONFIG = EngineConfig(
    backend="vllm",
    max_context=4096,
    max_pixels=200_000,  # vLLM makes room for images of the largest size; those here are smaller than this
    vllm=VllmConfig(kv_cache_gib=0.5, block_size=32, max_images=4, enforce_eager=True),
)
STEP = SFTSettings(
    max_steps=2,
    batch_size=1,
    learning_rate=1e-3,
    warmup=0.0,
    schedule="constant",
    lora=LoraSettings(rank=8),
    device="cpu",
    bf16=True,
    weights_dtype="bfloat16",
    save_dtype="float32",
    gradient_checkpointing=True,
    log_steps=1,
)


@pytest.fixture(scope="module", params=["qwen2.5-vl-3b", "qwen3-vl-4b"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers of the language model and four of the tower, after two steps on its own text."""
    import real_models

    from thyme.train.encode import encode_turns
    from thyme.train.sft import train_sft

    folder = tmp_path_factory.mktemp("trained")
    base, out = folder / "base", folder / "out"
    model = real_models.build(base, request.param, layers=3, vision_layers=4)
    family = load_family(base)
    sample = encode_turns([("What number is it?", "It is 47.")], [PLANS[0].images[0]], family)
    report = train_sft([sample], model, STEP, out, base=base, family=family)
    assert report.curve[-1].loss < report.curve[0].loss
    return out


def test_vllm_computes_what_transformers_computes(trained: Path) -> None:
    """Two rounds with images in them: vLLM's log-probs against one plain forward pass in float32."""
    engine = VllmEngine.load(trained, CONFIG)
    try:
        written = asyncio.run(write(engine, PLANS[0]))
    finally:
        asyncio.run(engine.aclose())
    family = load_family(trained)
    sampled = [i for i in range(len(family.token_bytes)) if i not in family.never_sampled]  # the rest is never drawn
    logits = Reference(trained).logits(written.ids, written.images).double()
    for at, temperature, found in written.scored:
        row = logits[at - 1] / (temperature or 1.0)
        assert found == pytest.approx(torch.log_softmax(row, -1)[written.ids[at]].item(), abs=2e-3)
        if temperature == 0:
            assert row[sampled].max() - row[written.ids[at]] < 1e-3
