"""What is looked at again before a record leaves the factory; each check gives what it finds wrong, or None."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from thyme.data.factory.held_out import Gate
from thyme.markup import IMAGE, extract_code, observation_text, violations
from thyme.sandbox.base import Sandbox
from thyme.types import Execution, Generated, Observation, Trajectory

TAGS: Final = "tags"
IMAGE_COUNT: Final = "image_count"
IMAGE_DAMAGED: Final = "image_damaged"
BENCHMARK: Final = "benchmark"
REPLAY: Final = "replay"
NOT_REVIEWED: Final = "not_reviewed"
REVIEW: Final = "review"
UNFINISHED: Final = "unfinished"

MEANINGS: Final = {
    TAGS: "a block that is not closed, nested, or without what came of it",
    IMAGE_COUNT: "prompt and response do not name every picture once",
    IMAGE_DAMAGED: "a picture is missing, cannot be decoded, or shows something else",
    BENCHMARK: "a picture is one of a benchmark's, or nearly one",
    REPLAY: "the stored code does not give what is stored",
    NOT_REVIEWED: "nobody has reviewed it",
    REVIEW: "people rejected it",
    UNFINISHED: "it has no trajectory",
}
"""Why records are left out, and what that means."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record is left out."""

    reason: str
    """One of `MEANINGS`."""
    note: str = ""
    """A sentence about this one."""


def check(trajectory: Trajectory, gate: Gate) -> Fault | None:
    """Grammar, number of pictures, and that none of the asked ones is held out.

    Args:
        trajectory: With the pixels of its pictures.
        gate: Knows the pictures of benchmarks.
    """
    if found := violations(trajectory.response):
        return Fault(TAGS, str(found[0]))
    asked = len(trajectory.prompt.images)
    made = sum(len(observation.execution.images) for observation in trajectory.observations)
    named = trajectory.prompt.user.count(IMAGE), trajectory.response.count(IMAGE)
    if named != (asked, made):
        return Fault(
            IMAGE_COUNT, f"prompt and response name {named[0]} and {named[1]} pictures, there are {asked} and {made}"
        )
    if any(observation.text != observation_text(observation.execution) for observation in trajectory.observations):
        return Fault(REPLAY, "an observation says something else than its code gave")
    refused = gate.refuses(seen.image for seen in trajectory.prompt.images)
    return None if refused is None else Fault(BENCHMARK, refused)


def is_drawn(id: str, share: float) -> bool:
    """Whether a record is among those that are replayed: a share of them, the same ones each time."""
    digest = hashlib.blake2b(id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


async def replay(trajectory: Trajectory, sandbox: Sandbox) -> Fault | None:
    """Run the code as it stands in the text, in a fresh session with the same pictures and seed.

    Printed text, errors, and each picture to its last pixel must be what is stored.

    Raises:
        SandboxError: The sandbox failed, not the code.
    """
    blocks = code_and_results(trajectory)
    if not blocks:
        return None
    async with sandbox.session(trajectory.problem.images, trajectory.seed) as session:
        for number, (code, before) in enumerate(blocks, start=1):
            told = difference(before, await session.run(code))
            if told:
                return Fault(REPLAY, f"code block {number}: {told}")
    return None


def code_and_results(trajectory: Trajectory) -> list[tuple[str, Execution]]:
    """Each code block as it is trained on, and what is stored as its result."""
    return [
        (extract_code(one.text), other.execution)
        for one, other in pairwise(trajectory.segments)
        if isinstance(one, Generated) and isinstance(other, Observation)
    ]


def difference(before: Execution, after: Execution) -> str:
    """How two runs of one block differ in what a model sees of them; empty if they do not."""
    if before.error != after.error:
        errors = [run.error.type if run.error else "none" for run in (before, after)]
        return f"its error was {errors[0]}, and is {errors[1]} now"
    if before.stdout != after.stdout:
        return f"it printed {before.stdout[:80]!r}, and prints {after.stdout[:80]!r} now"
    if [image.id for image in before.images] != [image.id for image in after.images]:
        sizes = [", ".join(f"{i.width} x {i.height}" for i in run.images) or "none" for run in (before, after)]
        other = " with other pixels" if sizes[0] == sizes[1] else ""
        return f"its pictures were {sizes[0]}, and are {sizes[1]}{other} now"
    return ""
