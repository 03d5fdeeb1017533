"""Engine and trainer see one trajectory alike: the same ids, the same images, the same log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import samples
import torch
from transformers import AutoModelForImageTextToText

from thyme.config.engine import EngineConfig
from thyme.engines.base import Request
from thyme.engines.transformers import TransformersEngine
from thyme.families import load_family
from thyme.train.batches.collate import collate
from thyme.train.batches.vision import FreshPixels
from thyme.train.encode import MaskPolicy, encode, turn_end_id
from thyme.types import Fingerprints, Generated, Problem, Segment, StopReason, Trajectory


async def sampled(engine: TransformersEngine) -> Trajectory:
    """Text, code, an observation with images, twice; then text. Random weights write no tags: spans end by length."""
    images = (samples.picture(0, 200, 120), samples.picture(1, 64, 90))
    prompt = engine.prompt("Think with code.", "<image>Is it left of <image>?", images)
    segments: list[Segment] = []

    async def generate(kind: Literal["text", "code"], temperature: float) -> None:
        request = Request("t", prompt, tuple(segments), temperature=temperature, max_tokens=9, seed=len(segments))
        chunks = [chunk async for chunk in engine.stream(request)]
        segments.append(
            Generated(
                kind=kind,
                text="".join(chunk.text for chunk in chunks),
                token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
                logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
                temperature=temperature,
            )
        )

    for i in range(2):
        await generate("text", 1.0)
        await generate("code", 0.0)
        segments.append(engine.observation(samples.crop(i, images=i + 1, stdout="7 < 8 </code>")))
    await generate("text", 1.0)
    return Trajectory(
        id="t",
        problem=Problem(id="t", question="?", images=images),
        prompt=prompt,
        segments=tuple(segments),
        stop=StopReason.ANSWER,
        fingerprints=Fingerprints(tokenizer=engine.info.fingerprints.tokenizer),
        sampling=samples.SAMPLING,
    )


@pytest.fixture
async def trajectory(tiny_checkpoint: Path) -> Trajectory:
    engine = TransformersEngine.load(tiny_checkpoint, EngineConfig(device="cpu", dtype="float32", threads=1))
    try:
        return await sampled(engine)
    finally:
        await engine.aclose()


def test_the_recorded_ids_are_taken_as_they_are(tiny_checkpoint: Path, trajectory: Trajectory) -> None:
    family = load_family(tiny_checkpoint)
    recorded = [*trajectory.prompt.token_ids, *(i for s in trajectory.segments for i in s.token_ids)]
    assert encode(trajectory, family).ids.tolist() == [*recorded, turn_end_id(family)]


def test_the_trainers_forward_gives_the_log_probs_that_were_recorded(
    tiny_checkpoint: Path, trajectory: Trajectory
) -> None:
    family = load_family(tiny_checkpoint)
    sample = encode(trajectory, family, MaskPolicy.ALL)
    batch = collate([sample], FreshPixels(family), family)
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint).eval()
    with torch.no_grad():
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits[0]
    logprobs = torch.log_softmax(logits[:-1].double(), -1).gather(1, batch["input_ids"][0, 1:, None])[:, 0]
    trained = logprobs[torch.from_numpy(sample.loss_mask[1:])]
    recorded = torch.tensor([value for s in trajectory.generated for value in s.logprobs or ()], dtype=torch.float64)
    assert len(recorded) == len(trained) - 1  # the end of the turn was not sampled here
    assert (trained[:-1] - recorded).abs().max() < 1e-4
    assert recorded.std() > 0.1
