"""The ablation of GRPO-ATS on the embedded model: temperatures and policies of code, gates of consistency, repairs.

A run builds its starts, then trains every arm from each with every seed, and asks all of them the same fresh problems.
Each of these is a job that leaves a result, and a run that was interrupted goes on with the jobs that have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from thyme.errors import UsageError
from thyme.nano.grpo_ablation.arms import ARMS, STARTS, GRPOAblationSettings, StartName, arms_of
from thyme.nano.grpo_ablation.findings import Findings
from thyme.nano.grpo_ablation.jobs import BUILD, Job, do, read_arm, read_start, take_start
from thyme.nano.grpo_ablation.report import weakness
from thyme.nano.grpo_ablation.stats import MEASURES, value_of
from thyme.nano.jobs import check_seeds, do_all, is_done, keep_settings

SETTINGS = "ablation_grpo_settings.json"
"""What a run was begun with, in its folder."""


def run(
    work: Path,
    how: GRPOAblationSettings,
    *,
    seeds: Sequence[int],
    starts: Sequence[StartName] = tuple(STARTS),
    arms: Sequence[str] = (),
    given: Sequence[Path] = (),
    workers: int = 1,
    console: Console | None = None,
) -> Findings:
    """Do every job that has no result yet.

    Args:
        work: Folder of the run.
        how: How much of everything; a folder keeps to the settings it was begun with.
        seeds: Positive, one or several.
        starts: Names in `STARTS`.
        arms: Names in `ARMS`, from every start; none: the groups that `STARTS` names.
        given: Folders of starts that another run made (``RUN/weak/build``), which are copied; the others are made.
        workers: Jobs that run at a time, each in a process of its own.
        console: Where progress is shown; None is standard error.

    Returns:
        What all results in the folder say that were asked for.

    Raises:
        UsageError: There is no such arm or start, a seed is not positive or comes twice.
        ConfigError: The folder holds a run with other settings, or a given folder no such start.
    """
    _check(starts, arms)
    check_seeds(seeds)
    work.mkdir(parents=True, exist_ok=True)
    keep_settings(work / SETTINGS, {"settings": how.model_dump()})
    for folder in given:
        take_start(folder, work)
    jobs = _jobs(work, how, seeds, starts, arms)
    todo = [job for job in jobs if not is_done(job.folder)]
    if todo:
        do_all(
            todo,
            do,
            workers=workers,
            console=console or Console(stderr=True),
            total=len(jobs),
            doing="built, trained and asked",
            told=_told,
        )
    built = [job for job in jobs if job.arm == BUILD]
    return Findings.of(
        [read_start(job.folder) for job in built],
        [read_arm(job.folder) for job in jobs if job.arm != BUILD],
        how,
    )


def _check(starts: Sequence[str], arms: Sequence[str]) -> None:
    for names, known, what in ((starts, STARTS, "start"), (arms, ARMS, "arm")):
        if unknown := sorted(set(names) - set(known)):
            raise UsageError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    if not starts:
        raise UsageError(f"no start is named; there are {', '.join(STARTS)}")


def _jobs(
    work: Path, how: GRPOAblationSettings, seeds: Sequence[int], starts: Sequence[StartName], arms: Sequence[str]
) -> list[Job]:
    """Starts first, then seed by seed, so that what is there of an unfinished run is whole seeds."""
    return [
        *(Job(start, BUILD, 0, work, how) for start in starts),
        *(Job(start, arm, seed, work, how) for seed in seeds for start in starts for arm in arms_of(start, arms)),
    ]


def _told(job: Job) -> str:
    """How a job came out, in a few words."""
    if job.arm == BUILD:
        return weakness(Findings.of([read_start(job.folder)], [], job.how).starts[job.start])
    arm = read_arm(job.folder)
    shown = ("tool rate", "executable rate", "accuracy")
    values = {name: value_of(MEASURES[name](arm, job.how.window)) for name in shown}
    return ", ".join(f"{name} {100 * value:.0f} %" for name, value in values.items() if value is not None)
