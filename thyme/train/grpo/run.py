"""A run of GRPO from its recipe: problems, rollouts, rewards, steps, monitors, evaluation around them, one report.

Recipe, data, folder and judge are looked at before any weights are loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.rewards import RewardSettings
from thyme.errors import ConfigError, StoreError, ThymeError, TrainingStoppedError
from thyme.families import Family, load_family
from thyme.families.checkpoint import find_checkpoint
from thyme.prompts import PromptSet
from thyme.rewards.own import load_own
from thyme.train.arguments import CHECKPOINTS, on_cpu
from thyme.train.distributed import agreed, barrier, connect, is_main, world_size
from thyme.train.evaluate import (
    Evaluator,
    Moment,
    ProblemReader,
    ask_saved,
    asking,
    open_evaluator,
    stored_points,
)
from thyme.train.grpo.arguments import forwards
from thyme.train.grpo.assembly import make_roller
from thyme.train.grpo.card import write_card
from thyme.train.grpo.draws import Draws
from thyme.train.grpo.groups import Group
from thyme.train.grpo.identity import REPORT_FILE, check_folder, write_identity
from thyme.train.grpo.journal import STEPS_FILE, EndAtAlarm, Journal, read_steps
from thyme.train.grpo.kept import over_time
from thyme.train.grpo.preview import write_group_page
from thyme.train.grpo.problems import MixedProblems, Reader, open_problems
from thyme.train.grpo.records import GRPORunReport, StepRecord, Trained
from thyme.train.grpo.report import LivePage, go_on_without, write_grpo_report
from thyme.train.grpo.roller import GroupRoller
from thyme.train.grpo.train import MODEL, train_grpo
from thyme.train.grpo.trainer import Tell
from thyme.train.run.checkpoint import last_checkpoint, steps_done
from thyme.train.run.disk import full_disk_named, make_folder, write_atomically
from thyme.train.run.recipe import (
    copy_prompts,
    device_name,
    own_prompts,
    public_name,
    public_recipe,
    tell_evaluation,
    versions,
)
from thyme.train.run.tracking import Tracker, check_trackers, open_trackers

STAGE = "grpo"
"""What evaluations of a run are called."""
VERDICTS = "verdicts"
"""Folder of what judges said, in the run's own."""


@dataclass
class _Run:
    """What the parts of a run have in common."""

    recipe: GRPORecipe
    name: str
    out: Path
    model: str | Path
    """What training starts from."""
    family: Family
    prompts: Path | None
    """The recipe's."""
    words: PromptSet
    problems: MixedProblems
    steps: int
    """Optimiser steps of the whole run."""
    console: Console
    before: list[StepRecord]
    """Records of the steps that a resumed run goes on behind."""
    trackers: list[Tracker] = field(default_factory=list)


def run_grpo(
    recipe: GRPORecipe,
    name: str,
    out: Path,
    *,
    model: str | Path | None = None,
    prompts: Path | None = None,
    readers: Mapping[str, Reader] | None = None,
    problem_readers: Mapping[str, ProblemReader] | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> GRPORunReport:
    """Train as a recipe says. Under a launcher every process calls this; the main one prints and writes.

    ``out/model`` becomes a complete checkpoint. Beside it lie ``grpo_report.json``, ``report.html``, ``steps.jsonl``,
    ``trajectories`` (rollouts of some steps), ``evaluation``, ``verdicts`` (of judges), ``tracking`` and
    ``checkpoints``.

    Args:
        recipe: What to do.
        name: Of the recipe, for the report.
        out: Folder of the run.
        model: Checkpoint that ``recipe.model`` stands for, where that is neither a folder nor a hub id.
        prompts: Folder of the prompt files that the model is asked with, saved with it.
        readers: Readers of more formats of problems to train on, beside `thyme.train.grpo.problems.READERS`.
        problem_readers: Readers of more formats of problems to evaluate on, beside
            `thyme.train.evaluate.PROBLEM_READERS`.
        resume: Go on at the last checkpoint in `out`; a finished run is left as it is.
        console: Where progress is shown; None is standard error.

    Returns:
        The report of all steps.

    Raises:
        UsageError: A recipe that cannot be followed, or a folder that holds a run or cannot be written.
        ConfigError: `out` holds another run.
        StoreError: Data that cannot be read.
        MissingExtraError: A tracker is not installed.
        NoVerdictError: A judge is not there, or does not judge.
        TrainingError: Training cannot go on, or the disk is full.
        TrainingStoppedError: It was asked to end, or an alarm ended it; a checkpoint was written.
    """
    console = console or Console(stderr=True, quiet=not is_main())
    check_trackers(recipe.tracking.trackers)
    if agreed(lambda: check_folder(recipe, out, resume=resume)):
        console.print(f"'{out.name}' is finished: nothing is left to do", markup=False)
        return GRPORunReport.model_validate_json((out / REPORT_FILE).read_text(encoding="utf-8"))
    run = _prepared(recipe, name, out, model or recipe.model, prompts, readers, console, resume=resume)
    with full_disk_named(out), ExitStack() as closing:
        evaluator = _evaluator(run, problem_readers)
        if evaluator is not None:
            closing.callback(evaluator.close)
        roller = _roller(run)
        closing.callback(roller.close)
        console.print(described(recipe, run.problems, run.steps), markup=False, soft_wrap=True)
        run.trackers = open_trackers(recipe.tracking, out, public_recipe(recipe), first_step=len(run.before))
        for tracker in run.trackers:
            closing.callback(tracker.close)
        return _trained(run, roller, evaluator, resume=resume)


def _prepared(
    recipe: GRPORecipe,
    name: str,
    out: Path,
    model: str | Path,
    prompts: Path | None,
    readers: Mapping[str, Reader] | None,
    console: Console,
    *,
    resume: bool,
) -> _Run:
    """Look at everything that needs no weights."""
    family = load_family(model, min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels)
    problems = open_problems(recipe.data, readers)
    steps = steps_of(recipe, problems)
    agreed(lambda: check_rewards(recipe.rewards))
    agreed(lambda: make_folder(out, "thyme grpo"))
    words = PromptSet.load(prompts or own_prompts(model))
    before = agreed(lambda: _done(out)) if resume else []
    return _Run(recipe, name, out, model, family, prompts, words, problems, steps, console, before)


def _roller(run: _Run) -> GroupRoller:
    folder, name = find_checkpoint(run.model), f"{run.name}/{STAGE}"
    return make_roller(run.recipe, folder, run.family, run.words, name=name, cache=run.out / VERDICTS)


def steps_of(recipe: GRPORecipe, problems: MixedProblems) -> int:
    """Optimiser steps of a run.

    Raises:
        ConfigError: Problems without end, and no number of steps; or a step that cannot be shared out.
        UsageError: The device is not there.
    """
    settings = recipe.train
    on_cpu(settings)
    forwards(settings)
    if settings.max_steps is not None:
        return settings.max_steps
    if problems.endless:
        raise ConfigError(
            f"data.{problems.sources[0].name} is drawn without end: say train.max_steps, or give it a limit"
        )
    return Draws(len(problems), settings.problems, settings.seed).steps(settings.epochs)


def check_rewards(settings: RewardSettings) -> None:
    """Load rewards of one's own, and ask the judge something simple, so that no run begins without one of them.

    Raises:
        NoVerdictError: The judge gives no verdict.
        UsageError: Its model is not ``URL#NAME``.
        ConfigError: A reward of one's own is not there, or cannot be loaded.
    """
    load_own(settings.own)
    if settings.judge is None:
        return
    from collections import Counter

    from thyme.rewards.judge import Judge

    async def ask() -> None:
        assert settings.judge is not None
        judge = Judge(settings.judge, Counter())
        try:
            await judge.check()
        finally:
            await judge.aclose()

    asyncio.run(ask())


def described(recipe: GRPORecipe, problems: MixedProblems, steps: int) -> str:
    """What a run is, in a line."""
    train, rollout = recipe.train, recipe.rollout
    many = "problems without end" if problems.endless else f"{len(problems)} problems"
    return (
        f"{many}, {steps} steps of {train.problems} x {train.group} rollouts; tau {rollout.text_temperature:g} in text "
        f"and {rollout.code_temperature:g} in code, code tokens: {train.code_policy}"
    )


def _done(out: Path) -> list[StepRecord]:
    """Records of the steps before the checkpoint that a resumed run goes on with.

    Raises:
        StoreError: Some are missing.
    """
    checkpoint = last_checkpoint(out / CHECKPOINTS)
    if checkpoint is None:
        return []
    steps = steps_done(checkpoint)
    records = read_steps(out, until=steps)
    if len(records) < steps:
        raise StoreError(
            f"'{out.name}/{STEPS_FILE}' holds {len(records)} of the {steps} steps before {checkpoint.name}; put the "
            "file back, or begin anew in another folder (--out)"
        )
    return records


def _evaluator(run: _Run, readers: Mapping[str, ProblemReader] | None) -> Evaluator | None:
    settings = run.recipe.evaluation
    if settings is None:
        return None
    return open_evaluator(settings, run.family, run.words, run.out, name=run.name, readers=readers)


def _trained(run: _Run, roller: GroupRoller, evaluator: Evaluator | None, *, resume: bool) -> GRPORunReport:
    """Train, and report."""
    connect()
    settings, out = run.recipe.train, run.out
    journal = Journal(
        settings,
        out,
        run.before,
        trackers=run.trackers,
        counters=lambda: roller.counters,
        console=run.console,
    )
    if is_main():
        write_identity(run.recipe, out)
    tell = partial(tell_evaluation, run.console, journal.send)
    asked = asking(evaluator, STAGE, run.model, tell, before=not run.before, device=settings.device)
    try:
        train_grpo(
            run.problems,
            roller,
            run.model,
            settings,
            out,
            family=run.family,
            tell=_telling(run, journal),
            resume=resume,
            console=run.console,
            note=journal.so_far,
            callbacks=(*asked, EndAtAlarm(journal)),
        )
    except ThymeError as error:
        go_on_without(lambda: _write_page(run, _report(run, journal.records, finished=False)))
        if isinstance(error, TrainingStoppedError) and (alarm := journal.ended_by) is not None:
            raise TrainingStoppedError(f"the alarm '{alarm.name}' ended the run ({alarm.message}): {error}") from error
        raise
    ask_saved(evaluator, out / MODEL, Moment(STAGE, len(journal.records)), tell, device=settings.device)
    return _finished(run, journal)


def _telling(run: _Run, journal: Journal) -> Tell:
    """What takes each step: the journal, the page of the first group, and that of the run while it goes on."""
    page = LivePage(lambda: _write_page(run, _report(run, journal.records, finished=False)))

    def tell(step: int, trained: Trained, groups: Sequence[Group], seconds: Mapping[str, float]) -> None:
        journal.tell(step, trained, groups, seconds)
        if not is_main():
            return
        if step == 1 and groups:
            go_on_without(lambda: write_group_page(groups[0], run.family, run.recipe.train, run.out))
        page.step()

    return tell


def _finished(run: _Run, journal: Journal) -> GRPORunReport:
    """The report of a run that came to its end; the main process writes it, last of all."""
    report = _report(run, journal.records)
    if is_main():
        if run.prompts is not None:
            copy_prompts(run.prompts, run.out / MODEL / "prompts")
        write_card(report, run.out / MODEL)
        go_on_without(lambda: _write_page(run, report))
        write_atomically(run.out / REPORT_FILE, report.model_dump_json(indent=2) + "\n")
    barrier()
    return report


def _report(run: _Run, records: Sequence[StepRecord], *, finished: bool = True) -> GRPORunReport:
    points = [point for point in stored_points(run.out) if point.step <= len(records)]
    seconds = sum(record.seconds.get("total", 0.0) for record in records) + sum(point.seconds for point in points)
    return GRPORunReport(
        name=run.name,
        model=public_name(run.recipe.model),
        steps=tuple(records),
        planned=run.steps,
        finished=finished,
        evaluations=tuple(sorted(points, key=lambda point: point.step)),
        seconds=round(seconds, 3),
        processes=world_size(),
        device=device_name(run.recipe.train),
        versions=versions(),
        settings=run.recipe.train,
        code_temperature=run.recipe.rollout.code_temperature,
        recipe=public_recipe(run.recipe),
    )


def _write_page(run: _Run, report: GRPORunReport) -> None:
    if is_main() and report.steps:
        write_grpo_report(report, run.out, over_time(run.out))
