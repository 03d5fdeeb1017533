"""The arms of an evaluation: the same problems asked under changed conditions, to tell what tool use is worth.

An arm is data: changes of the rollout's and the sandbox's settings, whose weights are asked, and what happens to what
the sandbox gave. The rollout itself knows nothing of arms. docs/arms.md says what each is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thyme.config import RolloutConfig, SandboxConfig
from thyme.eval.arms_change import Case, ChangedSandbox, Start
from thyme.eval.arms_crops import CROP_ONLY, PLACEBO, crop_only, placebo
from thyme.eval.arms_faithful import COVERAGE, faithfulness
from thyme.eval.counterfactual import BLANKED, SWAPPED, WITHHELD, blanked, swapped, withheld
from thyme.eval.items import NO_TOOLS, RETRY, TOOLS, ItemResult
from thyme.markup import extract_answer
from thyme.sandbox.base import Sandbox
from thyme.types import Execution, Problem, Score, Trajectory

REPAIRS_OFF = "repairs_off"
"""Arm: code runs exactly as it was written."""
UNTRAINED = "untrained"
"""Arm: other weights, asked with the prompts of the model that is measured."""


@dataclass(frozen=True)
class Arm:
    """One condition. Prompts are those of the measured model in every arm, `UNTRAINED` among them."""

    name: str
    title: str
    """For tables."""
    about: str
    """What is different, in a sentence."""
    rollout: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `RolloutConfig` that differ."""
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SandboxConfig` that differ; where there are any, a sandbox of its own has to be opened."""
    start: Start | None = None
    """Begins the changes of one session's results; None leaves them as they are."""
    untrained: bool = False
    """Whether the other model is asked."""
    retry: bool = False
    """Whether it is asked again where code failed or no answer came."""
    needs_donor: bool = False
    """Whether each rollout needs what another problem's code gave; see `thyme.eval.counterfactual.DonorPool`."""
    counterfactual: bool = False
    """Whether it asks what the answer depends on, not how good it is: answers are held against those of `TOOLS`."""

    @property
    def same_without_code(self) -> bool:
        """Whether a greedy rollout that ran no code is the same here as in `TOOLS`, and need not be made again."""
        return not (self.rollout or self.untrained or self.retry)

    def rollout_config(self, config: RolloutConfig) -> RolloutConfig:
        """The settings of this arm's rollouts."""
        return config.model_copy(update=dict(self.rollout)) if self.rollout else config

    def sandbox_config(self, config: SandboxConfig) -> SandboxConfig:
        """The settings of this arm's sandbox."""
        return config.model_copy(update=dict(self.sandbox)) if self.sandbox else config

    def sandbox_for(self, sandbox: Sandbox, problem: Problem, donor: Sequence[Execution] = ()) -> Sandbox:
        """The sandbox of one rollout.

        Args:
            sandbox: Open, with the settings of `sandbox_config`. It stays the caller's to close.
            problem: What is asked.
            donor: What another problem's code gave (`thyme.eval.counterfactual.evidence`), pixels loaded, where
                `needs_donor`. Without it, a rollout that would need it ends as failed, and is not scored.
        """
        if self.start is None:
            return sandbox
        return ChangedSandbox(sandbox, Case(problem, tuple(donor)), self.start)


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(TOOLS, "with code", "The model as it is."),
        Arm(NO_TOOLS, "without code", "The same prompt, <code> blocked.", rollout={"tools": False}),
        Arm(
            CROP_ONLY,
            "crops only",
            "Code runs, and nothing but crops of the problem's images comes back: no text, no other image.",
            start=crop_only,
        ),
        Arm(
            PLACEBO,
            "random crops",
            "Each crop is replaced by one of the same size at a random place, scaled in the same way.",
            start=placebo,
        ),
        Arm(
            REPAIRS_OFF,
            "without repairs",
            "Code runs exactly as it was written.",
            sandbox={"repairs": (), "compat": "none"},
        ),
        Arm(UNTRAINED, "untrained", "Other weights, asked with the same prompts.", untrained=True),
        Arm(
            WITHHELD,
            "output withheld",
            "No text and no image comes back from code.",
            start=withheld,
            counterfactual=True,
        ),
        Arm(
            SWAPPED,
            "output swapped",
            "What came back to another problem comes back.",
            start=swapped,
            needs_donor=True,
            counterfactual=True,
        ),
        Arm(BLANKED, "images blanked", "Each image comes back in even grey.", start=blanked, counterfactual=True),
        Arm(RETRY, "with retries", "Asked again where code failed or no answer came.", retry=True),
    )
}
"""By name, in the order of reports."""

CHANGES = frozenset(arm.name for arm in ARMS.values() if arm.start is not None)
"""Arms that note on an execution what they changed about it."""


def item_of(
    trajectory: Trajectory,
    problem: Problem,
    score: Score,
    arm: str,
    *,
    benchmark: str,
    judged: bool = False,
    earlier: Sequence[Trajectory] = (),
    bound: float = COVERAGE,
) -> ItemResult:
    """The record of one problem under one arm.

    Args:
        trajectory: The rollout whose answer counts; with its pixels, where faithfulness is wanted.
        problem: As its benchmark tells it; a stored trajectory may hold an older reference.
        score: Of its answer.
        arm: Name in `ARMS`.
        benchmark: Name of the benchmark.
        judged: Whether a judge had the last word.
        earlier: Attempts before it (`RETRY`): their tokens, blocks and seconds count, their answers do not.
        bound: Share of the target that a crop must show to count as covering it.
    """
    attempts = (*earlier, trajectory)
    blocks = [observation.execution for attempt in attempts for observation in attempt.observations]
    return ItemResult(
        benchmark=benchmark,
        arm=arm,
        problem=problem.id,
        kind=problem.kind,
        meta=problem.meta,
        reference=problem.answer,
        prediction=extract_answer(trajectory.response),
        score=score.value,
        parts=score.parts,
        note=score.note,
        judged=judged,
        trajectory=trajectory.id,
        stop=trajectory.stop,
        attempts=len(attempts),
        blocks=len(blocks),
        ran=sum(block.error is None for block in blocks),
        repaired=sum(any(repair.name not in CHANGES for repair in block.repairs) for block in blocks),
        changed=sum(any(repair.name in CHANGES for repair in block.repairs) for block in blocks),
        prompt_tokens=sum(attempt.usage.prompt_tokens for attempt in attempts),
        generated_tokens=sum(attempt.usage.generated_tokens for attempt in attempts),
        observation_tokens=sum(attempt.usage.observation_tokens for attempt in attempts),
        seconds=sum(attempt.timings.total_s for attempt in attempts),
        image_sizes=tuple(image.size for image in problem.images),
        seen_sizes=tuple((seen.seen_width, seen.seen_height) for seen in trajectory.prompt.images),
        faithfulness=faithfulness(trajectory, problem, bound=bound),
    )
