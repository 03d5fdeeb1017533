"""Published widths, heads, vocabulary and towers, random weights, cut in depth: a step at the paper's image size.

Minutes and gigabytes each; in CONTRIBUTING.md under "Longer suites".
"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import real_models
import samples
import torch
from peak_tracker import PeakTracker

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.families import load_family
from thyme.train.encode import encode
from thyme.train.memory.estimate import GIB, estimate
from thyme.train.sft import train_sft

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]

CUTS = {
    "qwen2.5-vl-7b": (2, 4, 1008),
    "qwen3-vl-8b": (2, 4, 1024),
    "qwen2.5-vl-7b, the paper's image": (2, 4, 1792),
}
"""Layers of the language model, of 28 and 36, and of the tower, of 32 and 27; side of the image, pixels."""
STEP = SFTSettings(
    max_steps=2,
    batch_size=1,
    learning_rate=2e-4,
    warmup=0.0,
    schedule="constant",
    lora=LoraSettings(rank=16),
    bf16=True,
    weights_dtype="bfloat16",
    gradient_checkpointing=True,
    device="cpu",
    log_steps=1,
)


@pytest.fixture(autouse=True)
def patches_as_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower's convolution sees one patch at a time, so it is a matrix product; torch has no fast kernel for it in
    bfloat16 on a CPU, and takes minutes."""

    def product(self: torch.nn.Conv3d, patches: torch.Tensor) -> torch.Tensor:
        assert patches.shape[2:] == self.kernel_size
        return torch.nn.functional.linear(patches.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None, None]

    monkeypatch.setattr(torch.nn.Conv3d, "forward", product)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


@pytest.fixture(scope="module")
def table() -> None:
    """Head of the table in docs/sft_memory.md."""
    heads = "model | parameters | tokens | patches | loss | tensors, GiB | estimated, GiB | process, GiB"
    print(f"\n| {heads} |\n|---|---:|---:|---:|---|---:|---:|---:|")  # noqa: T201


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("name", CUTS)
def test_adapters_learn_within_24_gb_and_the_checkpoint_is_what_was_trained(name: str, tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    layers, vision_layers, side = CUTS[name]
    model = real_models.build(base, name.partition(",")[0], layers=layers, vision_layers=vision_layers)
    family = load_family(base)
    image = samples.picture(0, side, side)
    sample = encode(samples.trajectory([samples.crop(1)], family=family, images=[image]), family)
    patches = sum(time * height * width for time, height, width in sample.grids)
    assert len(sample) > 1000
    foreseen = estimate(
        json.loads((base / "config.json").read_text()), STEP, tokens=len(sample), patches=patches, device="cpu"
    )
    gc.collect()
    with PeakTracker([*model.parameters(), *model.buffers()]) as tracker:
        report = train_sft([sample], model, STEP, out, base=base, family=family)
    losses = [point.loss for point in report.curve]
    found = (tracker.peak, foreseen.peak, report.peak_memory_bytes or 0)
    cells = [name, f"{foreseen.parameters:.3g}", len(sample), patches, f"{losses[0]:.2f} → {losses[-1]:.2f}"]
    print("\n|", " | ".join(map(str, [*cells, *(f"{size / GIB:.2f}" for size in found)])), "|")  # noqa: T201
    assert all(loss == loss and loss < 100 for loss in losses)
    assert losses[-1] < losses[0] - 0.05
    assert (report.peak_memory_bytes or 0) < 24e9
    assert foreseen.peak == pytest.approx(tracker.peak, rel=0.1)
    ids = torch.from_numpy(sample.ids[-60:]).long()[None]
    trained = logits(model, ids)
    del model
    gc.collect()
    assert torch.equal(trained, logits(loaded(out), ids))


def loaded(folder: Path) -> Any:
    """The checkpoint by plain transformers."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
