"""What the figures of a step need of its rollouts: small facts that processes tell each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thyme.config.grpo import GRPOSettings
from thyme.train.grpo.advantages import Standing, Verdict, group_standings
from thyme.train.grpo.groups import Group, Member
from thyme.train.grpo.unseen import read_not_seen
from thyme.types import StopReason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What figures need of one rollout."""

    stop: StopReason
    reward: float | None
    parts: Mapping[str, float | None]
    advantage: float | None
    """None where it is not in the loss."""
    text_tokens: int
    code_tokens: int
    blocks: int
    """Code blocks that ran."""
    failed: int
    """Those of them that ended with an error."""
    repaired: int
    """Those of them that the sandbox repaired."""
    rests_on_repair: bool
    """Whether one ran only after a repair."""
    images: int
    attempts: int
    repeats: bool
    """Whether an earlier member of the group wrote the same."""
    read: bool
    """See `thyme.train.grpo.unseen`."""
    engine_s: float
    sandbox_s: float

    @property
    def told(self) -> bool:
        """Whether the rollout says something about the model: the machinery did not fail."""
        return self.stop not in {StopReason.ERROR, StopReason.CANCELLED}

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None where nobody could tell."""
        result = self.parts.get("result")
        return None if result is None else result > 0


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """What figures need of the rollouts of one problem."""

    kind: str
    attempt: int
    """How often the place in the step was filled anew before."""
    verdict: Verdict
    """See `thyme.train.grpo.advantages`."""
    members: tuple[Outcome, ...]

    @property
    def rewards(self) -> list[float]:
        """Of the members that have one."""
        return [member.reward for member in self.members if member.reward is not None]


def outcomes(groups: Sequence[Group], settings: GRPOSettings) -> list[GroupOutcome]:
    """What figures need of a step's groups: no text, no picture.

    Args:
        groups: Of this process.
        settings: How advantages are made of rewards.
    """
    return [_group_outcome(group, settings) for group in groups]


def _group_outcome(group: Group, settings: GRPOSettings) -> GroupOutcome:
    found = group_standings(group, settings)
    written = [tuple(segment.text for segment in member.trajectory.generated) for member in group.members]
    members = tuple(
        _outcome(member, standing, repeats=written[index] in written[:index])
        for index, (member, standing) in enumerate(zip(group.members, found.members, strict=True))
    )
    return GroupOutcome(group.asked.problem.kind, group.asked.attempt, found.verdict, members)


def _outcome(member: Member, standing: Standing, *, repeats: bool) -> Outcome:
    trajectory, score = member.trajectory, member.score
    runs = [observation.execution for observation in trajectory.observations]
    tokens = Counter[str]()
    for segment in trajectory.generated:
        tokens[segment.kind] += len(segment.token_ids)
    return Outcome(
        stop=trajectory.stop,
        reward=score.value,
        parts=dict(score.parts),
        advantage=standing.advantage if standing.in_loss else None,
        text_tokens=tokens["text"],
        code_tokens=tokens["code"],
        blocks=len(runs),
        failed=sum(1 for run in runs if run.error is not None),
        repaired=sum(1 for run in runs if run.repairs),
        rests_on_repair=any(run.repairs and run.error is None for run in runs),
        images=sum(len(run.images) for run in runs),
        attempts=member.attempts,
        repeats=repeats,
        read=read_not_seen(trajectory),
        engine_s=trajectory.timings.engine_s,
        sandbox_s=trajectory.timings.sandbox_s,
    )
