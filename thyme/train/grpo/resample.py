"""The groups of a step: problems are drawn, rolled out, and replaced where their rollouts all earn the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thyme.config.grpo import GRPOSettings
from thyme.train.distributed import gather
from thyme.train.grpo.draws import Draws
from thyme.train.grpo.groups import Group, Problems, Roller


def varied(group: Group) -> bool:
    """Whether two members have different rewards, so that the group says what is better."""
    return len({reward for reward in group.rewards if reward is not None}) > 1


def barren(group: Group) -> bool:
    """Whether two members or more were scored, and all alike. One that lacks scores is another matter: not retried."""
    scored = [reward for reward in group.rewards if reward is not None]
    return len(scored) > 1 and not varied(group)


def roll_step(
    roller: Roller,
    model: Any,
    problems: Problems,
    draws: Draws,
    settings: GRPOSettings,
    *,
    step: int,
    places: Sequence[int],
    replace: Callable[[Group], bool] = barren,
) -> tuple[list[Group], dict[str, int]]:
    """Roll out one step's problems of this process; all processes call this together.

    With ``zero_variance = "resample"`` the places of groups without variance are filled by spare problems, up to
    ``resample_rounds`` times (dynamic sampling of DAPO, arXiv 2503.14476, with a bound). Each process fills its own
    places, from a stream that only the place decides about, so the groups are the same on any number of processes. The
    rounds are as many in all of them, because weights that are spread can only be gathered by all together.

    Args:
        roller: Rolls out.
        model: In training.
        problems: All of them.
        draws: Which of them are asked.
        settings: Of the run.
        step: Optimiser steps done before.
        places: Those of this process.
        replace: Which groups give their places up.

    Returns:
        Groups in the order of the places, and how many groups without variance are left (``zero_variance``) and were
        replaced (``resampled``).
    """
    made = roller.roll(model, draws.asked(problems, step, places), step=step, group=settings.group)
    replaced = 0
    for attempt in range(1, settings.resample_rounds + 1 if settings.zero_variance == "resample" else 1):
        empty = [index for index, group in enumerate(made) if replace(group)]
        if not any(gather(bool(empty))):
            break
        asked = draws.asked(problems, step, [made[index].asked.place for index in empty], attempt)
        for index, group in zip(empty, roller.roll(model, asked, step=step, group=settings.group), strict=True):
            made[index] = group
        replaced += len(empty)
    return made, {"zero_variance": sum(map(barren, made)), "resampled": replaced}
