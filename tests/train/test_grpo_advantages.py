"""From rewards to advantages, against TRL's own arithmetic and by properties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import samples
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from trl.trainer.utils import nanstd

from thyme.config.grpo import GRPOSettings
from thyme.train.grpo.advantages import EPSILON, Standings, group_standings, standings, treatment
from thyme.train.grpo.groups import OVERLONG, Asked, Group, Member
from thyme.train.grpo.step import why_left_out
from thyme.types import Score, StopReason

REWARDS = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), st.floats(-3, 3, width=32))
TREATMENTS = st.sampled_from(["keep", "keep", "mask", "drop"])
MEMBERS = st.lists(st.tuples(REWARDS, TREATMENTS), min_size=0, max_size=9)


def judged(members: list[tuple[Any, Any]], scale: Any = "group") -> Standings:
    return standings([reward for reward, _ in members], [how for _, how in members], scale=scale)


@pytest.mark.parametrize("scale", ["group", "none"])
def test_the_papers_example(scale: str) -> None:
    """Rewards 2 (right and consistent), 1.5, .5 (only the form), 0: mean 1, unbiased deviation sqrt(2.5 / 3)."""
    made = judged([(2.0, "keep"), (1.5, "keep"), (0.5, "keep"), (0.0, "keep")], scale)
    unit = math.sqrt(2.5 / 3) + EPSILON if scale == "group" else 1
    assert [member.advantage for member in made.members] == pytest.approx(
        [1 / unit, 0.5 / unit, -0.5 / unit, -1 / unit]
    )
    assert made.verdict == "learnt"


@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9), st.sampled_from(["group", "none"]))
def test_advantages_are_those_of_trl(rewards: list[float], scale: Any) -> None:
    """TRL takes the unbiased deviation and adds 1e-4; ours are taken in double precision."""
    grouped = torch.tensor(rewards, dtype=torch.float64)[None]
    theirs = grouped - grouped.mean(1, keepdim=True)
    if scale == "group":
        theirs = theirs / (nanstd(grouped, dim=1)[:, None] + 1e-4)
    mine = [member.advantage for member in judged([(reward, "keep") for reward in rewards], scale).members]
    assert mine == pytest.approx(theirs[0].tolist(), abs=1e-5)  # TRL counts members in single precision


@given(MEMBERS, st.sampled_from(["group", "none"]))
def test_who_counts_where(members: list[tuple[Any, Any]], scale: Any) -> None:
    made = judged(members, scale)
    assert len(made.members) == len(members)
    compared = [reward for reward, how in members if reward is not None and how != "drop"]
    assert (made.verdict == "dropped") == (len(compared) < 2)
    for (reward, how), standing in zip(members, made.members, strict=True):
        assert standing.in_loss == (made.verdict != "dropped" and reward is not None and how == "keep")
        assert standing.in_loss or standing.advantage == 0
        if standing.in_loss:
            mean, deviation = np.mean(compared), np.std(compared, ddof=1)
            expected = (reward - mean) / (deviation + 1e-4 if scale == "group" else 1)
            assert standing.advantage == pytest.approx(expected, abs=1e-6)


@given(MEMBERS)
def test_equal_rewards_teach_exactly_nothing(members: list[tuple[Any, Any]]) -> None:
    """Not nearly nothing: the mean of 0.1, 0.1, 0.1 is not 0.1."""
    same: list[tuple[Any, Any]] = [(None if reward is None else 0.1, how) for reward, how in members]
    made = judged(same)
    assume(made.verdict != "dropped")
    assert made.verdict == "flat"
    assert all(member.advantage == 0 for member in made.members)


@given(MEMBERS, st.randoms())
def test_the_order_of_members_does_not_matter(members: list[tuple[Any, Any]], draws: Any) -> None:
    order = list(range(len(members)))
    draws.shuffle(order)
    one, other = judged(members), judged([members[i] for i in order])
    assert one.verdict == other.verdict
    assert [one.members[i].advantage for i in order] == pytest.approx([m.advantage for m in other.members], abs=1e-9)


@given(MEMBERS, REWARDS)
def test_a_member_that_is_left_out_changes_nothing_for_the_others(members: list[tuple[Any, Any]], reward: Any) -> None:
    without = judged(members)
    for left_out in ((reward, "drop"), (None, "keep"), (None, "mask")):
        made = judged([*members, left_out])
        assert made.verdict == without.verdict
        assert made.members[:-1] == without.members
        assert not made.members[-1].in_loss


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), min_size=2, max_size=8))
def test_advantages_of_a_group_sum_to_nothing(rewards: list[float]) -> None:
    made = judged([(reward, "keep") for reward in rewards])
    assert sum(member.advantage for member in made.members) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("stop", list(StopReason))
@pytest.mark.parametrize(("overlong", "overturn"), [("mask", "keep"), ("drop", "mask"), ("keep", "drop")])
def test_what_becomes_of_a_rollout_by_its_stop(stop: StopReason, overlong: Any, overturn: Any) -> None:
    settings = GRPOSettings(overlong=overlong, overturn=overturn)
    expected = overlong if stop in OVERLONG else overturn if stop is StopReason.MAX_ROUNDS else "keep"
    assert treatment(stop, settings) == expected


def test_a_masked_rollout_counts_in_the_mean_and_a_dropped_one_does_not() -> None:
    ends = [StopReason.ANSWER, StopReason.ANSWER, StopReason.MAX_TOKENS]
    members = tuple(
        Member(samples.trajectory([], stop=stop), Score(value=value))
        for stop, value in zip(ends, (1.0, 0.0, 2.0), strict=True)
    )
    group = Group(Asked(0, members[0].trajectory.problem), members)
    masked = group_standings(group, GRPOSettings(overlong="mask", scale="none"))
    assert [(m.advantage, m.in_loss) for m in masked.members] == [(0.0, True), (-1.0, True), (0.0, False)]
    dropped = group_standings(group, GRPOSettings(overlong="drop", scale="none"))
    assert [(m.advantage, m.in_loss) for m in dropped.members] == [(0.5, True), (-0.5, True), (0.0, False)]
    kept = group_standings(group, GRPOSettings(overlong="keep", scale="none"))
    assert [(m.advantage, m.in_loss) for m in kept.members] == [(0.0, True), (-1.0, True), (1.0, True)]


def test_why_rollouts_cannot_be_compared_is_said() -> None:
    """A reward does not help a rollout that is dropped for its length."""
    stops = [(StopReason.MAX_TOKENS, 0.0, ""), (StopReason.MAX_ROUNDS, 0.0, ""), (StopReason.ANSWER, None, "judge out")]
    members = tuple(
        Member(samples.trajectory([], stop=stop), Score(value=value, note=note))
        for stop, value, note in [*stops, (StopReason.ANSWER, 1.0, "")]
    )
    group = Group(Asked(0, members[0].trajectory.problem), members)
    dropping = GRPOSettings(overlong="drop", overturn="drop")
    assert why_left_out([group], dropping) == {
        "stopped by max_tokens, and train.overlong = 'drop'": 1,
        "stopped by max_rounds, and train.overturn = 'drop'": 1,
        "judge out": 1,
    }
    assert why_left_out([group], GRPOSettings()) == {"judge out": 1}
