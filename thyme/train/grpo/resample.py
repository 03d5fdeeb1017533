"""The groups of a step: problems are drawn, rolled out, and replaced where their rollouts all earn the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from thyme.config.grpo import GRPOSettings
from thyme.errors import TrainingError
from thyme.train.distributed import gather
from thyme.train.grpo.advantages import group_standings
from thyme.train.grpo.draws import Draws
from thyme.train.grpo.groups import Group, Problems, Roller


def roll_step(
    roller: Roller,
    model: Any,
    problems: Problems,
    draws: Draws,
    settings: GRPOSettings,
    *,
    step: int,
    places: Sequence[int],
) -> list[Group]:
    """Roll out one step's problems of this process; all processes call this together.

    With ``zero_variance = "resample"`` the places of groups whose members all earn the same are filled by spare
    problems, up to ``resample_rounds`` times (dynamic sampling of DAPO, arXiv 2503.14476, with a bound). A group that
    lacks scores is not replaced: while a judge is out, others would fare no better. Each process fills its own places,
    from a stream that only the place decides about, so the groups are the same on any number of processes. All of them
    make as many rounds, because weights that are spread can only be gathered by all together.

    Args:
        roller: Rolls out.
        model: In training.
        problems: All of them.
        draws: Which of them are asked.
        settings: Of the run.
        step: Optimiser steps done before.
        places: Those of this process.

    Returns:
        Groups in the order of the places; `Asked.attempt` says how often each was replaced.
    """

    def roll(filled: Sequence[int], attempt: int) -> list[Group]:
        asked = draws.asked(problems, step, filled, attempt)
        return roller.roll(model, asked, step=step, group=settings.group)

    made = _all_or_none(lambda: roll(places, 0))
    rounds = settings.resample_rounds if settings.zero_variance == "resample" else 0
    for attempt in range(1, rounds + 1):
        flat = [index for index, group in enumerate(made) if group_standings(group, settings).verdict == "flat"]
        if not any(gather(bool(flat))):
            break
        filled = [made[index].asked.place for index in flat]
        for index, group in zip(flat, _all_or_none(partial(roll, filled, attempt)), strict=True):
            made[index] = group
    return made


def _all_or_none(roll: Callable[[], list[Group]]) -> list[Group]:
    """Roll out; what one process fails at ends all of them, which would wait for it else.

    Raises:
        Exception: What this process failed at.
        TrainingError: What another one did.
    """
    made: list[Group] = []
    failed: Exception | None = None
    try:
        made = roll()
    except Exception as error:
        failed = error
    told = gather("" if failed is None else f"{type(failed).__name__}: {failed}")
    if failed is not None:
        raise failed
    for number, trouble in enumerate(told):
        if trouble:
            raise TrainingError(f"process {number} could not roll out ({trouble})")
    return made
