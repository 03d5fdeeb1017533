"""vLLM in process: starting, ending, breaking; other checkpoints than the shipped ones. One engine after another."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import tiny_model
import torch
from engine_helpers import PLANS, Reference, collect, picture, span, write
from safetensors.torch import load_file

from thyme.config import EngineConfig
from thyme.config.vllm import VllmConfig
from thyme.engines import open_engine
from thyme.engines.base import Request
from thyme.engines.transformers_load import model_fingerprint
from thyme.engines.vllm import VllmEngine
from thyme.errors import ContextFullError, EngineError, ModelNotFoundError, UsageError
from thyme.nano import checkpoint_path

FINAL = checkpoint_path("final")
SMALL = VllmConfig(kv_cache_gib=0.25)


@asynccontextmanager
async def vllm_over(folder: Path, own: VllmConfig = SMALL, **settings: object) -> AsyncIterator[VllmEngine]:
    config = EngineConfig.model_validate({"backend": "vllm", "vllm": own, **settings})
    engine = open_engine(str(folder), config)
    assert isinstance(engine, VllmEngine)
    try:
        yield engine
    finally:
        await engine.aclose()


def wanted(engine: VllmEngine, **changes: object) -> Request:
    prompt = engine.prompt("Look.", "<image> What is it?", [picture(0, 150, 100)])
    return replace(Request("t", prompt, max_tokens=20, seed=3), **changes)  # type: ignore[arg-type]  # any field


async def test_closing_ends_what_runs_and_another_engine_can_follow() -> None:
    before, threads = dict(os.environ), torch.get_num_threads()
    answers = []
    for _ in range(2):
        async with vllm_over(FINAL) as engine:
            answers.append((await span(engine, wanted(engine)))[0].token_ids)
            stream = engine.stream(wanted(engine, temperature=2.0, max_tokens=3000))
            await anext(stream)
            waiting = asyncio.create_task(engine.update_weights(FINAL))  # for the stream, which nobody reads
            await asyncio.sleep(0.1)
        with pytest.raises(EngineError, match="the engine was closed"):
            async for _chunk in stream:
                pass
        with pytest.raises(EngineError, match="the engine was closed"):
            await waiting
        with pytest.raises(EngineError, match="the engine was closed"):
            await collect(engine, wanted(engine))
        await engine.aclose()
    assert answers[0] == answers[1]
    assert not [thread for thread in threading.enumerate() if thread.name == "thyme-vllm"]
    torch.set_num_threads(threads + 1)  # vLLM leaves the switch where it was
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    changed = {name for name in os.environ.keys() | before if os.environ.get(name) != before.get(name)}
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in changed


async def test_missing_tensors_are_an_error_and_the_engine_is_of_no_use_then() -> None:
    tensors = load_file(FINAL / "model.safetensors")
    async with vllm_over(FINAL) as engine:
        held = asyncio.create_task(engine.update_weights(islice(tensors.items(), 60)))
        with pytest.raises(EngineError, match=r"hold \d+ numbers and the model has \d+; give all of them"):
            await held
        with pytest.raises(EngineError, match="neither old nor new"):
            await collect(engine, wanted(engine))


async def test_limits_of_context_and_pixels_hold() -> None:
    """Other pixel limits than the checkpoint's: other image tokens, and vLLM and we agree about them."""
    async with vllm_over(FINAL, max_context=150, min_pixels=1024, max_pixels=4096) as engine:
        assert engine.info.capabilities.max_context == 150
        assert engine.seen_size(400, 300) == engine.family.seen_size(400, 300) != (400, 300)
        asked = wanted(engine)
        assert 0 < asked.prompt.token_ids.count(engine.family.image_token_id) <= 16
        reference = Reference(FINAL)
        limits = {"shortest_edge": 1024, "longest_edge": 4096}
        reference.processor = type(reference.processor).from_pretrained(FINAL, size=limits)
        plan = replace(PLANS[2], temperatures=(1.0,), observations=())
        assert reference.gap(await write(engine, plan)) < 2e-4
        with pytest.raises(ContextFullError, match="150"):
            engine.prompt("word " * 200, "x", [])
        chunks = await collect(engine, wanted(engine, temperature=2.0, max_tokens=1000))
        assert chunks[-1].stop in {"context", "end"}
        assert len(asked.prompt.token_ids) + len(chunks) <= 150


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
async def test_both_families_with_a_head_of_their_own_and_other_weights(tmp_path: Path, family: str) -> None:
    """Untied output layer, tags of several tokens, Qwen3-VL's deepstack; and the same after new weights."""
    one, other = (tiny_model.build_checkpoint(tmp_path / str(seed), family, hidden=128, seed=seed) for seed in (0, 1))
    async with vllm_over(one) as engine:
        for folder in (one, other, one):
            if folder != one or engine.info.fingerprints.model != model_fingerprint(one):
                await engine.update_weights(folder)
            reference = Reference(folder)
            written = await asyncio.gather(*(write(engine, plan) for plan in PLANS))
            for plan, text in zip(PLANS, written, strict=True):
                assert reference.gap(text) < 1e-3, plan.id


async def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'cuda' was asked for, and this vLLM is made for CPUs"):
        open_engine(str(FINAL), EngineConfig(backend="vllm", device="cuda"))
    for path in FINAL.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelNotFoundError, match="cannot be read"):
        open_engine(str(tmp_path), EngineConfig(backend="vllm"))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="has no weights"):
        open_engine(str(tmp_path), EngineConfig(backend="vllm"))
    with pytest.raises(ModelNotFoundError, match=r"vLLM cannot load 'final'.*emory"):
        open_engine(str(FINAL), EngineConfig(backend="vllm", vllm=VllmConfig(kv_cache_gib=4096)))
    async with vllm_over(FINAL) as engine:  # and a failed start leaves room for another
        assert (await span(engine, wanted(engine, max_tokens=1)))[0].token_ids
