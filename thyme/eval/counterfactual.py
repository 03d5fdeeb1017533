"""What the model would have answered had it seen something else: observations held back, exchanged, or blanked.

At temperature 0 the rollout up to the first observation is that of the arm with tools; then only the evidence differs:
what was printed, and what was drawn. An error is no evidence, it stays. An answer that does not change did not come
from the observation.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from PIL import Image

from thyme.errors import SandboxError
from thyme.eval.arms_change import Case, Change, noted
from thyme.types import Execution, ImageRecord, Problem, Trajectory

WITHHELD = "withheld"
"""Arm: no text and no image comes back."""
SWAPPED = "swapped"
"""Arm: what came back to another problem comes back."""
BLANKED = "blanked"
"""Arm: each image comes back grey, at its size."""

GREY = 128
"""Level of a blanked image, of 255."""


def withheld(case: Case, seed: int) -> Change:
    """Hold back text and images; a model that reads it is told that there was no output."""

    def change(execution: Execution) -> Execution:
        if not execution.stdout and not execution.images:
            return execution
        notes = noted(execution, WITHHELD, "held back what came out", len(execution.images) or 1)
        return execution.model_copy(update={"stdout": "", "images": (), "truncated": False, "repairs": notes})

    return change


def blanked(case: Case, seed: int) -> Change:
    """Show each image in even grey; what was printed stays."""

    def change(execution: Execution) -> Execution:
        if not execution.images:
            return execution
        images = tuple(_blank(image) for image in execution.images)
        return execution.model_copy(
            update={"images": images, "repairs": noted(execution, BLANKED, "blanked", len(images))}
        )

    return change


def _blank(image: ImageRecord) -> ImageRecord:
    return ImageRecord.of(Image.new("RGB", image.size, (GREY, GREY, GREY)), name=image.name)


def swapped(case: Case, seed: int) -> Change:
    """Show what another problem's code gave, round by round, from its start again where it had fewer rounds.

    Blocks that failed, or gave nothing, stay as they are and take no part.
    """
    rounds = 0

    def change(execution: Execution) -> Execution:
        nonlocal rounds
        if not is_evidence(execution):
            return execution
        if not case.donor:
            raise SandboxError(f"no other problem has an observation that problem {case.problem.id} could be shown")
        other = case.donor[rounds % len(case.donor)]
        rounds += 1
        shown = {"stdout": other.stdout, "images": other.images, "truncated": other.truncated}
        return execution.model_copy(update=shown | {"repairs": noted(execution, SWAPPED, "exchanged what came out")})

    return change


def is_evidence(execution: Execution) -> bool:
    """Whether a block ended without an error and gave text or images."""
    return execution.error is None and bool(execution.stdout or execution.images)


def evidence(trajectory: Trajectory) -> tuple[Execution, ...]:
    """The executions of a trajectory that another problem may be shown."""
    return tuple(o.execution for o in trajectory.observations if is_evidence(o.execution))


@dataclass(frozen=True, slots=True, order=True)
class Donor:
    """A trajectory that has something to lend, without its pixels."""

    problem: str
    trajectory: str
    """Id of the record."""
    images: frozenset[str] = field(compare=False)
    """Ids of the problem's images."""
    question: str = field(compare=False)
    draws: bool = field(compare=False)
    """Whether it lends an image."""


@dataclass(slots=True)
class DonorPool:
    """The trajectories of the arm with tools, to choose from. The choice does not depend on the order of adding."""

    donors: list[Donor] = field(default_factory=list)
    """By problem."""

    @classmethod
    def of(cls, trajectories: Iterable[Trajectory]) -> DonorPool:
        """A pool of all of these that have something to lend; no pixels are kept."""
        pool = cls()
        for trajectory in trajectories:
            pool.add(trajectory)
        return pool

    def add(self, trajectory: Trajectory) -> None:
        """Take a trajectory in, if it has something to lend."""
        lent = evidence(trajectory)
        if lent:
            problem = trajectory.problem
            images = frozenset(image.id for image in problem.images)
            draws = any(execution.images for execution in lent)
            insort(self.donors, Donor(problem.id, trajectory.id, images, problem.question, draws))

    def choose(self, problem: Problem, *, draws: bool = True, seed: int = 0) -> Donor | None:
        """Another problem's trajectory: about other images, and lending images where `draws`, if there is one.

        Args:
            problem: The one that is to be shown it.
            draws: Whether its own code drew something.
            seed: Of the run.

        Returns:
            The donor; None where there is no other problem.
        """
        count = len(self.donors)
        images = {image.id for image in problem.images}
        digest = hashlib.blake2b(f"{seed}/{problem.id}".encode(), digest_size=8).digest()
        start = int.from_bytes(digest, "big") % max(1, count)
        fallback: Donor | None = None
        for step in range(count):
            donor = self.donors[(start + step) % count]
            if donor.problem == problem.id or donor.images & images:
                continue
            if not images and donor.question == problem.question:
                continue
            if donor.draws == draws:
                return donor
            fallback = fallback or donor
        return fallback
