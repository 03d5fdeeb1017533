"""Groups that teach nothing give their places to spare problems: bounded, and the same on any number of processes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
from grpo_rollers import RIGHT, WRONG, Questions, rewards, roller_over, scripted, trajectories

from thyme.config.grpo import GRPOSettings
from thyme.engines.base import Request
from thyme.errors import EngineError
from thyme.train.grpo.draws import Draws, share
from thyme.train.grpo.groups import Group
from thyme.train.grpo.resample import roll_step

COUNT, PLACES = 40, 6


def number(request: Request) -> int:
    found = re.search(r"What is number (\d+)\?", request.prompt.user)
    assert found is not None
    return int(found[1])


def every_third_teaches(request: Request) -> Sequence[Any]:
    """All members answer alike, except to every third question."""
    last = request.trajectory_id.partition("+")[0][-1]
    if number(request) % 3:
        return [RIGHT if number(request) % 2 else WRONG]
    return [RIGHT if last == "0" else WRONG]


def rolled(places: Sequence[int], step: int = 2, script: Any = every_third_teaches, **settings: Any) -> list[Group]:
    chosen = GRPOSettings(problems=PLACES, group=2, batch_size=1, **({"zero_variance": "resample"} | settings))
    with roller_over(scripted(script), retries=0) as roller:
        return roll_step(roller, None, Questions(COUNT), Draws(COUNT, PLACES, 3), chosen, step=step, places=places)


def test_places_are_filled_until_they_teach_or_the_rounds_are_over() -> None:
    draws = Draws(COUNT, PLACES, 3)
    kept = rolled(range(PLACES), zero_variance="keep")
    assert [group.asked.attempt for group in kept] == [0] * PLACES
    assert [group.asked.problem.id for group in kept] == [f"q{draws.index(2, place)}" for place in range(PLACES)]
    for rounds in (1, 2, 5):
        groups = rolled(range(PLACES), resample_rounds=rounds)
        assert [group.asked.place for group in groups] == list(range(PLACES))
        for group in groups:
            tries = [draws.index(2, group.asked.place, attempt) for attempt in range(rounds + 1)]
            wanted = next((attempt for attempt, index in enumerate(tries) if index % 3 == 0), rounds)
            assert group.asked.attempt == wanted
            assert group.asked.problem.id == f"q{tries[wanted]}"
            assert len(set(group.rewards)) == (1 if tries[wanted] % 3 else 2)
    attempts = [group.asked.attempt for group in groups]
    assert 0 in attempts
    assert max(attempts) >= 2


@pytest.mark.parametrize("processes", [2, 3])
def test_the_groups_are_the_same_on_any_number_of_processes(processes: int) -> None:
    alone = rolled(range(PLACES))
    parts = [rolled(share(PLACES, rank, processes)) for rank in range(processes)]
    together = list(chain.from_iterable(parts))
    named = [[(t.id, t.problem.id, t.seed, t.response) for t in trajectories(made)] for made in (alone, together)]
    assert named[0] == named[1]
    assert rewards(alone) == rewards(together)


def test_groups_without_scores_are_not_replaced() -> None:
    """While a judge or an engine is out, other problems would fare no better."""

    def fails(request: Request) -> Sequence[Any]:
        return [EngineError("out")] if request.trajectory_id[-1] == "1" else [RIGHT]

    groups = rolled(range(PLACES), script=fails)
    assert [group.asked.attempt for group in groups] == [0] * PLACES
    assert rewards(groups) == [(2.0, None)] * PLACES
