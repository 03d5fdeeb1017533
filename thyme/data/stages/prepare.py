"""First stage: make the problem ready for its scenario, under neutral names."""

from __future__ import annotations

import asyncio
import random

from thyme.data.drafts import Draft, Rejection
from thyme.data.factory import png
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.base import Refusal, lacks
from thyme.data.stages.base import Context
from thyme.types import Problem

STAGE = "prepare"


async def prepare(draft: Draft, context: Context) -> Draft | Rejection:
    """Prepare a draft's problem; what is drawn for it is a function of the draft's seed and scenario.

    Args:
        draft: As it was drawn: ``origin`` with its pixels.
        context: Not looked at.

    Returns:
        The draft with `Draft.problem` and `Draft.hints`; or a rejection: ``lacks_FACT``, or what the scenario says.
    """
    if not SCENARIOS[draft.scenario].makes_pictures:
        return prepared(draft)
    return await asyncio.to_thread(_encoded, draft)  # pictures of many megapixels are turned here


def prepared(draft: Draft) -> Draft | Rejection:
    """`prepare`, outside of any event loop."""
    scenario = SCENARIOS[draft.scenario]
    if missing := lacks(draft.origin, scenario.needs):
        return Rejection.of(draft, STAGE, f"lacks_{missing[0]}", f"{scenario.title} needs {', '.join(missing)}")
    made = scenario.prepare(draft.origin, random.Random(f"thyme.data/{draft.seed}/{scenario.name}"))
    if isinstance(made, Refusal):
        return Rejection.of(draft, STAGE, made.reason, made.note)
    problem = _neutral(made.problem, draft.id, draft.origin.kind or scenario.name)
    return draft.model_copy(update={"problem": problem, "hints": dict(made.hints)})


def _encoded(draft: Draft) -> Draft | Rejection:
    """`prepared`, its pictures encoded: once for the sandbox, which reads files, and for the build's folder."""
    record = prepared(draft)
    if isinstance(record, Rejection):
        return record
    images = tuple(
        image.with_encoded(png.encode(image)) if image.encoded is None and png.can_encode(image) else image
        for image in record.problem.images
    )
    return record.model_copy(update={"problem": record.problem.model_copy(update={"images": images})})


def _neutral(problem: Problem, name: str, kind: str) -> Problem:
    """The problem under names that say nothing: those of files may hold angles or answers."""
    images = tuple(
        image.model_copy(update={"name": f"image_{number}"}) for number, image in enumerate(problem.images, start=1)
    )
    return problem.model_copy(update={"id": name, "images": images, "kind": kind})
