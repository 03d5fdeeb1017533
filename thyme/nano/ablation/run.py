"""Table 5 of the paper in miniature: what the masks and the annealing of the fine-tuning do to the embedded model.

Every arm of every seed is one job: train from the shipped base (or on from another arm), measure the loss on held-out
demonstrations, ask fresh problems with the package's own runner. A job leaves its result as a file, and a run that was
interrupted goes on with the jobs that have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from thyme.errors import UsageError
from thyme.nano.ablation.arms import ARMS, AblationSettings
from thyme.nano.ablation.jobs import ArmResult, Job, do, job_folder, read_result
from thyme.nano.ablation.rows import Shown, digest, held_out, replay_pool, shown_anew, shown_from
from thyme.nano.asked import prompts
from thyme.nano.jobs import check_seeds, do_all, is_done, keep_settings

SETTINGS = "ablation.json"
"""What a run was begun with, in its folder."""


def run(
    work: Path,
    how: AblationSettings,
    *,
    seeds: Sequence[int],
    arms: Sequence[str],
    demonstrations: Path | None = None,
    workers: int = 1,
    console: Console | None = None,
) -> list[ArmResult]:
    """Do every job that has no result yet.

    Args:
        work: Folder of the run.
        how: How much of everything; a folder keeps to the settings it was begun with.
        seeds: Positive, one or several.
        arms: Names in `ARMS`; the arm that one of them starts from is added.
        demonstrations: A file to take the seeds' demonstrations from; None has them made, which takes longer.
        workers: Jobs that run at a time, each in a process of its own.
        console: Where progress is shown; None is standard error.

    Returns:
        All results that were asked for, by seed and in the order of `ARMS`.

    Raises:
        UsageError: An arm is unknown, a seed is not positive or comes twice, or the file is too short.
        ConfigError: The folder holds a run with other settings.
    """
    chosen = _with_their_starts(arms)
    check_seeds(seeds)
    work.mkdir(parents=True, exist_ok=True)
    given = None if demonstrations is None else digest(demonstrations)
    keep_settings(work / SETTINGS, {"settings": how.model_dump(), "demonstrations_sha256": given})
    console = console or Console(stderr=True)
    shown = {seed: _shown(work, how, seed, demonstrations, console) for seed in seeds}
    todo = [  # arm by arm, so that what is there of an unfinished run is whole arms
        Job(arm, seed, work, how, shown[seed])
        for arm in chosen
        for seed in seeds
        if not is_done(job_folder(work, seed, arm))
    ]
    if todo:
        replay_pool(work, how.views)
        held_out(work, how.held_out, prompts())
        do_all(
            todo,
            do,
            workers=workers,
            console=console,
            total=len(seeds) * len(chosen),
            doing="trained and asked",
            told=lambda job: _in_words(read_result(job.folder)),
        )
    return [read_result(job_folder(work, seed, arm)) for seed in seeds for arm in chosen]


def _with_their_starts(arms: Iterable[str]) -> list[str]:
    wanted = set(arms)
    if unknown := sorted(wanted - set(ARMS)) or ([] if wanted else ["nothing"]):
        raise UsageError(f"no such arm: {', '.join(unknown)}; there are {', '.join(ARMS)}")
    wanted |= {start for name in wanted if (start := ARMS[name].after) is not None}
    return [name for name in ARMS if name in wanted]


def _shown(work: Path, how: AblationSettings, seed: int, given: Path | None, console: Console) -> Shown:
    if given is not None:
        return shown_from(given, seed, how.demonstrations)
    return shown_anew(work, seed, how.demonstrations, prompts(), lambda line: console.print(f"seed {seed}: {line}"))


def _in_words(result: ArmResult) -> str:
    shares = {
        kind: np.mean([outcome.right for outcome in result.outcomes if outcome.kind == kind])
        for kind in dict.fromkeys(outcome.kind for outcome in result.outcomes)
    }
    return ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in shares.items())


def by_arm(results: Sequence[ArmResult]) -> Mapping[str, dict[int, ArmResult]]:
    """Results by arm and seed, arms in their order."""
    found: dict[str, dict[int, ArmResult]] = {name: {} for name in ARMS}
    for result in results:
        found[result.arm][result.seed] = result
    return {name: seeds for name, seeds in found.items() if seeds}
