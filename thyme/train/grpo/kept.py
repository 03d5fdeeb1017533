"""Rollouts of some steps, kept for the report and for whoever wants to read them: ``trajectories/step-000010.jsonl``.

Each is an ordinary trajectory file (``thyme view`` shows it); what a member earned, and its advantage, stand in its
``meta``. A page is made from a few of them: the first rollout of the first group of a kind, not one that was picked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from thyme.config.grpo import GRPOSettings
from thyme.store import load_images, read_trajectories, write_trajectories
from thyme.train.distributed import rank, world_size
from thyme.train.grpo.advantages import Standing, group_standings
from thyme.train.grpo.groups import Group, Member
from thyme.types import Score, Trajectory

T = TypeVar("T")

FOLDER = "trajectories"
"""In the folder of a run."""
META = "grpo"
"""Key in a kept trajectory's ``meta``."""
GROUPS = 8
"""Groups of a step that are kept by one process: the first of each kind, then others."""
_FILES = 12
"""Files that are read for a page; of more, these many evenly spaced ones, the first and the last among them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A rollout of a step."""

    step: int
    trajectory: Trajectory
    score: Score
    advantage: float | None
    """None where it was not in the loss."""
    rewards: tuple[float | None, ...]
    """Of its whole group; its own is the one at `place`."""
    place: int


def keep(out: Path, step: int, groups: Sequence[Group], settings: GRPOSettings) -> Path | None:
    """Write some of a step's groups; each process writes its own.

    Args:
        out: Folder of the run.
        step: From 1.
        groups: This process's.
        settings: How advantages are made of rewards.

    Returns:
        The file; None where there was nothing to keep.
    """
    chosen = _chosen(groups)
    if not chosen:
        return None
    name = f"step-{step:06d}-{rank()}.jsonl" if world_size() > 1 else f"step-{step:06d}.jsonl"
    path = out / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_trajectories(path, (one for group in chosen for one in _marked(step, group, settings)))
    return path


def _chosen(groups: Sequence[Group]) -> list[Group]:
    firsts = {group.asked.problem.kind: group for group in reversed(groups)}
    wanted = {id(group) for group in firsts.values()}
    order = [group for group in groups if id(group) in wanted] + [g for g in groups if id(g) not in wanted]
    return order[:GROUPS]


def _marked(step: int, group: Group, settings: GRPOSettings) -> Iterator[Trajectory]:
    found = group_standings(group, settings).members
    for place, (member, standing) in enumerate(zip(group.members, found, strict=True)):
        yield _marked_member(member, standing, step, group, place)


def _marked_member(member: Member, standing: Standing, step: int, group: Group, place: int) -> Trajectory:
    mark = {
        "step": step,
        "score": member.score.model_dump(),
        "advantage": standing.advantage if standing.in_loss else None,
        "rewards": list(group.rewards),
        "place": place,
    }
    trajectory = member.trajectory
    return trajectory.model_copy(update={"meta": {**trajectory.meta, META: mark}})


def over_time(out: Path, *, columns: int = 4) -> list[Kept]:
    """Rollouts for a page: of each kind of problem one from each of some steps, early to late, pictures loaded.

    Args:
        out: Folder of the run.
        columns: Steps of each kind.
    """
    found: dict[str, dict[int, tuple[Path, Trajectory]]] = {}
    for path in _some(sorted((out / FOLDER).glob("step-*.jsonl")), _FILES):
        for trajectory in read_trajectories(path, images=False, skip_damaged=True):
            mark = trajectory.meta.get(META)
            if mark is not None and mark["place"] == 0:
                found.setdefault(trajectory.problem.kind, {}).setdefault(mark["step"], (path, trajectory))
    return [
        _kept(load_images(*steps[step])) for _, steps in sorted(found.items()) for step in _some(sorted(steps), columns)
    ]


def _kept(trajectory: Trajectory) -> Kept:
    mark: dict[str, Any] = trajectory.meta[META]
    return Kept(
        step=mark["step"],
        trajectory=trajectory,
        score=Score.model_validate(mark["score"]),
        advantage=mark["advantage"],
        rewards=tuple(mark["rewards"]),
        place=mark["place"],
    )


def _some(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
