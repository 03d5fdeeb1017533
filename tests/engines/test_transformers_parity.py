"""Rollouts over the kept cache are one full forward: several rounds, several images, ragged batches, both families."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from engine_helpers import PLANS, Plan, Reference, engine_over, write
from PIL import Image

from thyme.types import Generated, ImageRecord

TOLERANCE = 1e-4


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.id)
async def test_logprobs_of_a_rollout_are_those_of_one_forward(tiny_checkpoint: Path, plan: Plan) -> None:
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint) as engine:
        written = await write(engine, plan)
    assert len(written.scored) > 10
    assert reference.gap(written) < TOLERANCE


async def test_the_check_notices_wrong_positions_and_wrong_images(tiny_checkpoint: Path) -> None:
    """Negative controls: the tiny models are not so flat that anything would pass."""
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint) as engine:
        written = await write(engine, PLANS[0])
    assert reference.gap(written, mrope=False) > 100 * TOLERANCE
    mirrored = [ImageRecord.of(record.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for record in written.images]
    assert reference.gap(written, images=[*written.images[:-1], mirrored[-1]]) > 100 * TOLERANCE
    tampered = [s.model_copy(update={"temperature": 2.0}) if isinstance(s, Generated) else s for s in written.segments]
    assert reference.gap(type(written)(written.prompt, tampered)) > 100 * TOLERANCE


async def test_ragged_batch_is_each_alone(tiny_checkpoint: Path) -> None:
    """Different prompts, images, rounds and temperatures at once: the same tokens, and the same log-probs."""
    async with engine_over(tiny_checkpoint) as engine:
        alone = [await write(engine, plan, seed=5) for plan in PLANS]
    async with engine_over(tiny_checkpoint) as engine:
        together = await asyncio.gather(*(write(engine, plan, seed=5) for plan in PLANS))
    for one, batched in zip(alone, together, strict=True):
        assert one.ids == batched.ids
        gaps = [abs(a[2] - b[2]) for a, b in zip(one.scored, batched.scored, strict=True)]
        assert max(gaps) < TOLERANCE


@pytest.mark.parametrize("settings", [{"prefill_tokens": 5}, {"max_batch": 2}, {"max_cached_tokens": 1}], ids=str)
async def test_limits_change_the_order_of_work_not_the_result(tiny_checkpoint: Path, settings: dict[str, int]) -> None:
    """Chunked reading (which cuts images), few places, and caches that are thrown away between rounds."""
    reference = Reference(tiny_checkpoint)
    async with engine_over(tiny_checkpoint, **settings) as engine:
        together = await asyncio.gather(*(write(engine, plan, seed=5) for plan in PLANS))
    assert max(reference.gap(written) for written in together) < TOLERANCE


async def test_nothing_is_fed_twice(tiny_checkpoint: Path) -> None:
    """Over all rounds every token is fed once, the last one of each trajectory never, and each image is seen once."""
    async with engine_over(tiny_checkpoint) as engine:
        together = await asyncio.gather(*(write(engine, plan) for plan in PLANS))
        assert engine.counters.fed_tokens == sum(len(written.ids) - 1 for written in together)
        assert engine.counters.images_seen == sum(len(written.images) for written in together)
