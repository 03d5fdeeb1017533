"""What a step of one process is made of: its groups, judged, and the rows that the loss is computed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thyme.config.grpo import GRPOSettings
from thyme.errors import EncodeError, TrainingError
from thyme.families import Family
from thyme.train.grpo.advantages import Standings, group_standings, treatment
from thyme.train.grpo.batch import Rollout, Row, encode_rollout
from thyme.train.grpo.groups import OVERLONG, Group, Member

_NOTES = 3
"""Reasons that a message names."""


@dataclass(frozen=True)
class Share:
    """One process's share of a step."""

    rows: tuple[Row, ...]
    """Rollouts that need a forward: those in the loss, without those whose gradient is 0."""
    tokens: int
    """Of all its rollouts in the loss: its share of the normaliser."""
    members: int
    """Rollouts in the loss."""
    compared: int
    """Groups with two scored rollouts or more."""


def share_of(groups: Sequence[Group], family: Family, settings: GRPOSettings) -> Share:
    """Judge groups and read their rollouts.

    Raises:
        TrainingError: A rollout was not recorded as this model's.
        UsageError: Greedy code under the policy ``tempered``.
    """
    found = [(group, group_standings(group, settings)) for group in groups]
    rows = [row for group, made in found for row in _rows(group, made, family, settings)]
    return Share(
        rows=tuple(row for row in rows if row.advantage != 0 or settings.beta > 0),
        tokens=sum(int(row.rollout.loss_mask.sum()) for row in rows),
        members=len(rows),
        compared=sum(made.verdict != "dropped" for _, made in found),
    )


def _rows(group: Group, made: Standings, family: Family, settings: GRPOSettings) -> Iterator[Row]:
    """The members that are in the loss and have a token there."""
    for member, standing in zip(group.members, made.members, strict=True):
        rollout = _read(member, family, settings) if standing.in_loss else None
        if rollout is not None and rollout.loss_mask.any():
            yield Row(rollout, standing.advantage, group.asked.problem.id)


def _read(member: Member, family: Family, settings: GRPOSettings) -> Rollout | None:
    try:
        return encode_rollout(member.trajectory, family, settings.code_policy)
    except EncodeError as error:
        name = member.trajectory.problem.id
        raise TrainingError(f"a rollout of problem '{name}' cannot be trained on: {error}") from error


def why_left_out(groups: Sequence[Group], settings: GRPOSettings) -> Counter[str]:
    """Reasons why rollouts could not be compared, counted."""
    reasons = (_reason(member, settings) for group in groups for member in group.members)
    return Counter(reason for reason in reasons if reason is not None)


def _reason(member: Member, settings: GRPOSettings) -> str | None:
    """None where it could be."""
    trajectory, error = member.trajectory, member.trajectory.error
    if member.score.value is None:
        return member.score.note or (f"{error.where}: {error.message}" if error else "no reason is recorded")
    if treatment(trajectory.stop, settings) == "drop":
        which = "overlong" if trajectory.stop in OVERLONG else "overturn"
        return f"stopped by {trajectory.stop}, and train.{which} = 'drop'"
    return None


def in_words(reasons: Counter[str]) -> str:
    """The most frequent of them."""
    return (
        "; ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(_NOTES))
        or "nothing was rolled out"
    )
