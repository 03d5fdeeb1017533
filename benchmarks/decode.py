"""How fast the local engine decodes: steps and tokens a second at batch 1, 8 and 16, whatever else the machine does.

    python benchmarks/decode.py [--model FOLDER] [--threads 1] [--tokens 200] [--batch 1 8 16]

Without --model it makes a random Qwen2.5-VL of 4 layers and about 5 M parameters. Rows start together on prompts of
about 150 tokens with one image; the time of their prompts is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from thyme.config.engine import EngineConfig
from thyme.engines.base import Request
from thyme.engines.transformers import TransformersEngine
from thyme.types import ImageRecord

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def made_up(folder: Path) -> Path:
    import tiny_model

    return tiny_model.build_checkpoint(folder, layers=4, hidden=320)


async def measure(engine: TransformersEngine, batch: int, tokens: int) -> tuple[float, float]:
    """Milliseconds a step, and tokens a second."""
    pixels = np.random.default_rng(0).integers(0, 256, (168, 168, 3), dtype=np.uint8)
    prompt = engine.prompt("word " * 30, "<image> What is it? ", [ImageRecord.of(Image.fromarray(pixels))])
    started = asyncio.Barrier(batch)
    times: list[float] = []

    async def row(index: int) -> None:
        name = f"{batch}/{index}"
        stream = engine.stream(Request(name, prompt, temperature=1.0, max_tokens=tokens, seed=index))
        await anext(stream)
        await started.wait()
        times.append(time.perf_counter())
        async for _ in stream:
            pass
        times.append(time.perf_counter())
        await engine.release(name)

    before = engine.counters.steps
    await asyncio.gather(*(row(index) for index in range(batch)))
    steps = engine.counters.steps - before
    seconds = max(times) - min(times)
    return seconds / steps * 1e3, batch * tokens / seconds


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or made_up(Path(folder) / "made-up")
        engine = TransformersEngine.load(model, EngineConfig(threads=arguments.threads, max_batch=max(arguments.batch)))
    # Every row writes all its tokens: nothing ends a turn here.
    engine._scheduler._end_ids = frozenset()
    parameters = sum(p.numel() for p in engine._scheduler._model.model.parameters())
    print(f"{engine.info.name}: {parameters / 1e6:.1f} M parameters, {arguments.threads} thread(s)")
    await measure(engine, 1, 20)
    for batch in arguments.batch:
        step, rate = await measure(engine, batch, arguments.tokens)
        print(f"batch {batch:3d}: {step:6.2f} ms a step, {1e3 / step:6.0f} steps/s, {rate:7.0f} tokens/s")
    await engine.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 16])
    asyncio.run(main(parser.parse_args()))
