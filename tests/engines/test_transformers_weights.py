"""New weights in a wrapped model: what the old ones made is used no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_helpers import Reference, Written, engine_over, picture, span
from transformers import AutoModelForImageTextToText

from thyme.engines.base import Request
from thyme.engines.transformers import TransformersEngine
from thyme.errors import EngineError
from thyme.families import load_family


def request(engine: TransformersEngine, name: str, *, tokens: int = 5) -> Request:
    return Request(name, engine.prompt("word " * 100, f"<image>{name}", [picture(0)]), max_tokens=tokens)


async def test_nothing_of_old_weights_is_used_after_a_change(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """Neither for a trajectory that goes on nor for one that only begins like it; not what the old tower saw either."""
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval()
    engine = TransformersEngine(model, load_family(tiny_checkpoint), fingerprint="old")
    asked = request(engine, "t")
    await span(engine, asked)
    with torch.no_grad():
        for part in (model.model.language_model.layers, model.model.visual.merger):
            for weight in part.parameters():
                weight.mul_(1.5)
    model.save_pretrained(tmp_path / "changed")
    await engine.weights_changed("new")
    assert engine.info.fingerprints.model == "new"
    written = [Written(asked.prompt, [(await span(engine, asked))[0]])]
    alike = replace(request(engine, "u"), temperature=1.0)
    written.append(Written(alike.prompt, [(await span(engine, alike))[0]]))
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await engine.weights_changed()
    for file in tiny_checkpoint.iterdir():
        if not (tmp_path / "changed" / file.name).exists():
            (tmp_path / "changed" / file.name).write_bytes(file.read_bytes())
    reference = Reference(tmp_path / "changed")
    assert max(map(reference.gap, written)) < 1e-4


@pytest.mark.usefixtures("no_end")
async def test_weights_do_not_change_under_a_span(tiny_qwen2_5_vl: Path) -> None:
    async with engine_over(tiny_qwen2_5_vl) as engine:
        old = engine.info
        stream = engine.stream(request(engine, "t", tokens=500))
        await anext(stream)
        with pytest.raises(EngineError, match=r"being written \(1\)"):
            await engine.weights_changed("new")
        assert engine.info == old
        await stream.aclose()
        await engine.weights_changed()
        assert engine.info.fingerprints.model == ""
