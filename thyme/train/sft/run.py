"""A run of fine-tuning from its recipe: stages in order, evaluation around and during them, trackers, one report.

Every stage starts from the folder in which the one before ended, in one command or in several: what comes out is the
same. Recipe and data are looked at before any weights are loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from thyme.config.sft_recipe import SFTRecipe, StageRecipe
from thyme.families import Family, load_family
from thyme.prompts import PromptSet
from thyme.train.arguments import CHECKPOINTS, on_cpu
from thyme.train.data.rows import Reader
from thyme.train.data.samples import Samples, Stream, is_stream
from thyme.train.data.sources import open_samples
from thyme.train.distributed import agreed, barrier, is_main, world_size
from thyme.train.encode import Encoded
from thyme.train.evaluate import (
    Evaluator,
    Moment,
    ProblemReader,
    ask_saved,
    asking,
    open_evaluator,
    stored_examples,
    stored_points,
)
from thyme.train.report.page import write_report
from thyme.train.report.preview import write_tokens_page
from thyme.train.run.checkpoint import REPORT_FILE, last_checkpoint, steps_done
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
from thyme.train.run.records import EvaluationPoint, SFTRunReport, SourceReport, StageReport
from thyme.train.run.tracking import Tracker, TrackingCallback, check_trackers, open_trackers
from thyme.train.sft import train_sft
from thyme.train.sft.stages import StageRecord, finish, make_plan, prints

DATA = "data"
"""Folder in the run's own: counts of samples, and what was drawn."""
_SHOWN = 3
"""Samples of a stage on the page of tokens."""


@dataclass(frozen=True)
class _Stage:
    """What one stage needs before weights are loaded."""

    name: str
    recipe: StageRecipe
    samples: Samples | Stream
    validation: Samples | tuple[()]
    sources: tuple[SourceReport, ...]


@dataclass
class _Run:
    """What the stages of a run have in common."""

    recipe: SFTRecipe
    name: str
    out: Path
    model: str | Path
    """What the first stage starts from."""
    family: Family
    prompts: Path | None
    """The recipe's."""
    console: Console
    reports: dict[str, StageReport]
    """Of the stages that are finished so far, in order."""
    evaluator: Evaluator | None = None
    trackers: list[Tracker] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimiser steps of the finished stages."""
        return sum(report.steps for report in self.reports.values())


def run_sft(
    recipe: SFTRecipe,
    name: str,
    out: Path,
    *,
    model: str | Path | None = None,
    prompts: Path | None = None,
    readers: Mapping[str, Reader] | None = None,
    problem_readers: Mapping[str, ProblemReader] | None = None,
    resume: bool = False,
    only_stage: str | None = None,
    console: Console | None = None,
) -> SFTRunReport:
    """Fine-tune as a recipe says. Under a launcher every process calls this; the main one prints and writes.

    ``out/STAGE`` becomes a complete checkpoint for every stage. Beside them lie ``sft_report.json``, ``report.html``,
    ``evaluation`` (trajectories and figures), ``tracking``, and ``data`` (what was counted and drawn).

    Args:
        recipe: What to do.
        name: Of the recipe, for the report.
        out: Folder of the run.
        model: Checkpoint that ``recipe.model`` stands for, where that is neither a folder nor a hub id.
        prompts: Folder of the prompt files that the trained model is asked with, saved with each stage.
        readers: Readers of more formats of samples, beside `thyme.train.data.sources.READERS`.
        problem_readers: Readers of more formats of problems, beside `thyme.train.evaluate.PROBLEM_READERS`.
        resume: Skip finished stages, go on with an unfinished one at its last checkpoint.
        only_stage: The one stage to do; the one before must be finished in `out`.
        console: Where progress is shown; None is standard error.

    Returns:
        The report of all stages that are finished in `out`.

    Raises:
        UsageError: A recipe that cannot be followed, or a folder that holds another run or cannot be written.
        StoreError: Data that cannot be read.
        MissingExtraError: A tracker is not installed.
        TrainingError: Training cannot go on, was asked to end, or the disk is full.
    """
    console = console or Console(stderr=True, quiet=not is_main())
    check_trackers(recipe.tracking.trackers)
    plan = agreed(lambda: make_plan(recipe, out, resume=resume, only=only_stage))
    source = model or recipe.model
    family = load_family(source, min_pixels=recipe.min_pixels, max_pixels=recipe.max_pixels)
    agreed(lambda: make_folder(out, "thyme sft"))
    run = _Run(recipe, name, out, source, family, prompts, console, dict(plan.finished))
    with full_disk_named(out), ExitStack() as closing:
        run.evaluator = _evaluator(run, problem_readers)
        if run.evaluator is not None:
            closing.callback(run.evaluator.close)
        stages = [_opened(run, stage, readers) for stage in plan.todo]
        for finished in plan.finished if is_main() else ():
            _tidy(run, finished)  # where a run was killed between record and tidying
        _show_tokens(run, stages)
        run.trackers = _tracked(run, plan.todo, resume=resume)
        for tracker in run.trackers:
            closing.callback(tracker.close)
        for stage in stages:
            run.reports[stage.name] = _train(run, stage, resume=resume)
        return _finished(run)


def _evaluator(run: _Run, readers: Mapping[str, ProblemReader] | None) -> Evaluator | None:
    settings = run.recipe.evaluation
    if settings is None:
        return None
    words = PromptSet.load(run.prompts or own_prompts(run.model))
    return open_evaluator(settings, run.family, words, run.out, name=run.name, readers=readers)


def _opened(run: _Run, name: str, readers: Mapping[str, Reader] | None) -> _Stage:
    """Count and check the samples of a stage."""
    stage = run.recipe.stages[name]
    on_cpu(stage.train)  # a device that is not there is said now
    opened = partial(
        open_samples, mask=stage.mask, recipe=run.recipe, family=run.family, readers=readers, cache=run.out / DATA
    )
    samples, sources = opened(stage.data, seed=stage.train.seed, console=run.console)
    validation: Any = ()  # or by place, for nothing is streamed
    if stage.validation:
        validation, _ = opened(stage.validation, streaming=False, console=run.console)
    for source in sources:
        told = _streamed(source) if is_stream(samples) else _counted(source)
        run.console.print(f"{name}: {source.name}: {told}", markup=False)
    return _Stage(name, stage, samples, validation, sources)


def _streamed(source: SourceReport) -> str:
    return f"{source.rows or 'nobody knows how many'} rows, streamed"


def _counted(source: SourceReport) -> str:
    dropped = "".join(f", {count} dropped ({reason})" for reason, count in source.drops.items())
    return f"{source.samples} samples of {source.rows} rows{dropped}"


def _show_tokens(run: _Run, stages: Sequence[_Stage]) -> None:
    """A page of the first samples of each stage, to look at while it trains."""
    if is_main() and stages:
        shown = [(stage.name, sample) for stage in stages for sample in _first(stage.samples)]
        write_tokens_page([sample for _, sample in shown], run.family, run.out, stages=[name for name, _ in shown])
    barrier()


def _first(samples: Samples | Stream) -> list[Encoded]:
    if is_stream(samples):
        return samples.first(_SHOWN)
    return [samples[index] for index in range(min(_SHOWN, len(samples)))]


def _tracked(run: _Run, todo: Sequence[str], *, resume: bool) -> list[Tracker]:
    """The trackers, which go on behind the finished stages and the last checkpoint of an unfinished one."""
    if not todo:
        return []
    again = steps_done(last_checkpoint(run.out / todo[0] / CHECKPOINTS)) if resume else 0
    return open_trackers(run.recipe.tracking, run.out, public_recipe(run.recipe), first_step=run.steps + again)


def _train(run: _Run, stage: _Stage, *, resume: bool) -> StageReport:
    """Train one stage, and write its record."""
    folder, device = run.out / stage.name, stage.recipe.train.device
    start = _start(run, stage.name)
    curves = TrackingCallback(run.trackers, run.steps)
    tell = partial(tell_evaluation, run.console, curves.send)
    first = stage.name == next(iter(run.recipe.stages)) and last_checkpoint(folder / CHECKPOINTS) is None
    asked = asking(run.evaluator, stage.name, start, tell, before=first, device=device)
    report = train_sft(
        stage.samples,
        start,
        stage.recipe.train,
        folder,
        family=run.family,
        validation=stage.validation,
        resume=resume,
        console=run.console,
        callbacks=(curves, *asked),
    )
    report = report.model_copy(update={"name": stage.name, "sources": report.sources or stage.sources})
    if is_main() and run.prompts is not None:
        copy_prompts(run.prompts, folder / "prompts")
    barrier()
    ask_saved(run.evaluator, folder, Moment(stage.name, report.steps), tell, device=device)
    if is_main():
        finish(folder, StageRecord(run=prints(run.recipe)[stage.name], report=report))
        _tidy(run, stage.name)
    barrier()
    return report


def _tidy(run: _Run, name: str) -> None:
    """Remove the resumable checkpoints of a finished stage: its model and its record are there, nothing needs them."""
    folder = run.out / name / CHECKPOINTS
    if folder.is_dir() and not run.recipe.stages[name].train.keep_finished:
        shutil.rmtree(folder)


def _start(run: _Run, name: str) -> str | Path:
    """What a stage starts from: the end of the one before, or the base."""
    names = list(run.recipe.stages)
    place = names.index(name)
    return run.out / names[place - 1] if place else run.model


def _finished(run: _Run) -> SFTRunReport:
    """The report of all stages that are finished, written by the main process."""
    done = [name for name in run.recipe.stages if name in run.reports]
    report = SFTRunReport(
        name=run.name,
        model=public_name(run.recipe.model),
        stages=tuple(run.reports[name] for name in done),
        evaluations=tuple(_in_order(run, done)),
        processes=world_size(),
        device=device_name(run.recipe.stages[done[-1]].train),
        versions=versions(),
        recipe=public_recipe(run.recipe),
    )
    if is_main():
        write_atomically(run.out / REPORT_FILE, report.model_dump_json(indent=2) + "\n")
        before, after = _examples(run, report.evaluations)
        write_report(report, run.out, before, after)
    barrier()
    return report


def _in_order(run: _Run, done: Sequence[str]) -> list[EvaluationPoint]:
    points = [point for point in stored_points(run.out) if point.stage in done]
    return sorted(points, key=lambda point: (done.index(point.stage), point.step))


def _examples(run: _Run, points: Sequence[EvaluationPoint]) -> tuple[list[Any], list[Any]]:
    """The same problems before and after training, as far as they were asked."""
    settings = run.recipe.evaluation
    if settings is None or run.evaluator is None or not points or not settings.examples:
        return [], []
    problems = run.evaluator.problems[: settings.examples]
    first, last = points[0], points[-1]
    before = stored_examples(run.out, Moment(first.stage, 0), problems) if first.step == 0 else []
    return before, stored_examples(run.out, Moment(last.stage, last.step), problems)
