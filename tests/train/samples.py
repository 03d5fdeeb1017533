"""Trajectories and samples for the tests of this folder. Not a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from thyme.families import Family
from thyme.markup import observation_parts, observation_text
from thyme.types import (
    Execution,
    Fingerprints,
    Generated,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Sampling,
    SeenImage,
    Segment,
    StopReason,
    Trajectory,
)

SAMPLING = Sampling(text_temperature=0, code_temperature=0, max_rounds=4, max_round_tokens=100, max_tokens=400)


def picture(seed: int, width: int = 70, height: int = 60) -> ImageRecord:
    """Noise, so that every picture is unlike every other."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return ImageRecord.of(Image.fromarray(noise))


def generated(kind: Literal["text", "code"], text: str, family: Family | None) -> Generated:
    """A span by a model; with its ids where a family is given."""
    ids = tuple(family.encode_text(text)) if family else ()
    return Generated(kind=kind, text=text, token_ids=ids, temperature=0)


def observation(execution: Execution, family: Family | None) -> Observation:
    """What an engine would record of an execution."""
    ids = family.encode_parts(observation_parts(execution)).ids if family else ()
    sizes = tuple(image.size for image in execution.images)
    return Observation(execution=execution, text=observation_text(execution), token_ids=ids, seen_sizes=sizes)


def trajectory(
    rounds: Sequence[Execution],
    *,
    family: Family | None = None,
    images: Sequence[ImageRecord] = (),
    stop: StopReason = StopReason.ANSWER,
    name: str = "t",
) -> Trajectory:
    """Text and code before each execution, then the answer. With a family: ids and fingerprint as an engine records."""
    system, user = "Think with code.", "<image>" * len(images) + "What number is it?"
    ids = family.encode_parts(family.prompt_parts(system, user, images)).ids if family else ()
    seen = tuple(SeenImage(image=image, seen_width=image.width, seen_height=image.height) for image in images)
    segments: list[Segment] = []
    for i, execution in enumerate(rounds):
        segments.append(generated("text", f"{'<think>' if i == 0 else ''}look closer {i}: <code>", family))
        segments.append(generated("code", f"\n```python\n{execution.code}\n```\n</code>", family))
        segments.append(observation(execution, family))
    thinking = "" if rounds else "<think>it is small."
    segments.append(generated("text", f"{thinking}</think>\n<answer>{len(rounds)}</answer>", family))
    return Trajectory(
        id=name,
        problem=Problem(id=name, question="What number is it?", images=tuple(images)),
        prompt=Prompt(system=system, user=user, images=seen, token_ids=ids),
        segments=tuple(segments),
        stop=stop,
        fingerprints=Fingerprints(tokenizer=family.fingerprint if family else ""),
        sampling=SAMPLING,
    )


def crop(seed: int, *, images: int = 1, stdout: str = "") -> Execution:
    """An execution that gave images back."""
    code = f"crop = image.crop(({seed}, 2, 3, 4))"
    return Execution(code=code, stdout=stdout, images=tuple(picture(1000 + seed * 10 + i) for i in range(images)))
