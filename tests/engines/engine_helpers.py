"""Shared by the tests of the local engine: trajectories written by hand, and an independent reference for log-probs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from thyme.config.engine import EngineConfig
from thyme.engines.base import Chunk, Request
from thyme.engines.transformers import TransformersEngine
from thyme.types import Execution, Generated, ImageRecord, Observation, Prompt, Segment


def picture(seed: int, width: int = 120, height: int = 90) -> ImageRecord:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return ImageRecord.of(Image.fromarray(values))


@asynccontextmanager
async def engine_over(folder: Path, **settings: Any) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine.load(folder, EngineConfig(**({"threads": 1} | settings)))
    try:
        yield engine
    finally:
        await engine.aclose()


@dataclass(frozen=True)
class Plan:
    """One trajectory to write: a prompt, and what the sandbox gives back after each round."""

    id: str
    question: str
    images: tuple[ImageRecord, ...]
    observations: tuple[Execution, ...] = ()
    temperatures: tuple[float, ...] = (1.0, 0.0, 0.7)
    tokens: int = 12


PLANS = (
    Plan(
        "two rounds",
        "<image>\nWhat number is it?",
        (picture(0, 200, 120),),
        (Execution(code="", images=(picture(1, 70, 150),)), Execution(code="", stdout="7", images=(picture(2),))),
    ),
    Plan(
        "two images at once",
        "Is <image> left of <image>?",
        (picture(3, 64, 90), picture(4, 100, 200)),
        (Execution(code="", stdout="crop", images=(picture(5, 56, 84), picture(6, 100, 60))),),
        (0.5, 1.3),
        17,
    ),
    Plan(
        "printed text only", "<image> so?", (picture(7, 60, 60),), (Execution(code="", stdout="12 34"),), (0.0, 1.0), 23
    ),
    Plan("no image at all", "How many?", (), (Execution(code="", images=(picture(8),)),), (1.0, 1.0), 9),
)


@dataclass
class Written:
    """A trajectory as the engine wrote it."""

    prompt: Prompt
    segments: list[Segment] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [*self.prompt.token_ids, *(token for segment in self.segments for token in segment.token_ids)]

    @property
    def images(self) -> list[ImageRecord]:
        shown = [seen.image for seen in self.prompt.images]
        return shown + [i for s in self.segments if isinstance(s, Observation) for i in s.execution.images]

    @property
    def scored(self) -> list[tuple[int, float, float]]:
        """Place in the ids, temperature and log-prob of each generated token."""
        found, at = [], len(self.prompt.token_ids)
        for segment in self.segments:
            if isinstance(segment, Generated):
                assert segment.logprobs is not None
                found += [(at + i, segment.temperature, value) for i, value in enumerate(segment.logprobs)]
            at += len(segment.token_ids)
        return found


async def collect(engine: TransformersEngine, request: Request) -> list[Chunk]:
    return [chunk async for chunk in engine.stream(request)]


async def span(engine: TransformersEngine, request: Request) -> tuple[Generated, Chunk]:
    """One span, and its last chunk."""
    chunks = await collect(engine, request)
    assert [chunk.stop is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    generated = Generated(
        kind="text",
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
        logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
        temperature=request.temperature,
    )
    return generated, chunks[-1]


async def write(engine: TransformersEngine, plan: Plan, *, seed: int = 0, ids: str | None = None) -> Written:
    """Generate a trajectory round by round."""
    written = Written(engine.prompt("Look closely.", plan.question, plan.images))
    for number, temperature in enumerate(plan.temperatures):
        request = Request(
            ids or plan.id,
            written.prompt,
            tuple(written.segments),
            temperature,
            max_tokens=plan.tokens + number,
            seed=seed + number,
        )
        written.segments.append((await span(engine, request))[0])
        if number < len(plan.observations):
            written.segments.append(engine.observation(plan.observations[number]))
    return written


class Reference:
    """The same checkpoint, run by transformers alone: one plain forward over the whole sequence."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)

    @torch.no_grad()
    def logits(self, ids: Sequence[int], images: Sequence[ImageRecord], *, mrope: bool = True) -> torch.Tensor:
        """Of shape (L, V)."""
        tokens = torch.tensor([list(ids)])
        inputs: dict[str, Any] = {}
        if images:
            made = self.processor(images=[record.image for record in images], return_tensors="pt")
            inputs = {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}
            inputs["mm_token_type_ids"] = (tokens == self.model.config.image_token_id).long()
        if not mrope:
            inputs["position_ids"] = torch.arange(len(ids)).expand(3, 1, -1)
        self.model.model.rope_deltas = None
        logits: torch.Tensor = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **inputs).logits[0]
        return logits

    def gap(self, written: Written, *, images: Sequence[ImageRecord] | None = None, mrope: bool = True) -> float:
        """Largest difference in log-prob between the engine and one forward, over all generated tokens."""
        logits = self.logits(written.ids, written.images if images is None else images, mrope=mrope)
        gaps = []
        for place, temperature, logprob in written.scored:
            expected = torch.log_softmax(logits[place - 1] / (temperature or 1.0), -1)[written.ids[place]]
            gaps.append(abs(float(expected) - logprob))
        return max(gaps)
