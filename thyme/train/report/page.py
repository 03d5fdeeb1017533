"""The report of a fine-tuning run: one HTML page that needs nothing beside it, for whoever asks what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thyme.eval.summary import ALL, Sample
from thyme.train.report.cells import Card, duration, interval, row
from thyme.train.report.pages import count, template
from thyme.train.report.plots import Plot, curves, evaluation_curves, kinds
from thyme.train.run.disk import write_atomically
from thyme.train.run.records import EvaluationPoint, SFTRunReport, SourceReport, StageReport
from thyme.types import Problem
from thyme.view.parts import Attempt, make_attempt, make_scene, seen_sizes
from thyme.view.pictures import Inlined, Picture

REPORT_PAGE = "report.html"
"""In the folder of a run."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as the page shows it."""

    report: StageReport
    plots: Sequence[Plot]


@dataclass(frozen=True, slots=True)
class Example:
    """The same problem before and after training."""

    problem: Problem
    scene: Sequence[Picture]
    attempts: Sequence[tuple[str, Attempt]]


def write_report(report: SFTRunReport, out: Path, before: Sequence[Sample] = (), after: Sequence[Sample] = ()) -> Path:
    """Write the page.

    Args:
        report: What the run did.
        out: Folder of the run; made if missing.
        before: Rollouts of the model that training started from.
        after: Rollouts of the trained model on the same problems; pairs are found by the problem's id.

    Returns:
        Where the page is.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    path = out / REPORT_PAGE
    write_atomically(path, render_report(report, before, after))
    return path


def render_report(report: SFTRunReport, before: Sequence[Sample] = (), after: Sequence[Sample] = ()) -> str:
    """The page as text; see `write_report`."""
    shown = _milestones(report)
    return template("report.html.j2").render(
        title=f"Fine-tuning: {report.name}",
        report=report,
        cards=list(_cards(report)),
        stages=[Stage(stage, curves(stage)) for stage in report.stages],
        columns=[name for name, _ in shown],
        evaluation={kind: row([point for _, point in shown], kind) for kind in kinds(report.evaluations)},
        evaluation_plots=evaluation_curves(report),
        examples=list(_examples(before, after)),
        recipe=json.dumps(report.recipe, indent=2, ensure_ascii=False),
        drops=_drops,
        rounds=_rounds,
        share=_share,
        duration=duration,
        memory=_memory,
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _cards(report: SFTRunReport) -> Iterator[Card]:
    stages = report.stages
    yield from _accuracy_card(report)
    points = [point for stage in stages for point in stage.curve]
    if points:
        yield Card("training loss", f"{points[0].loss:.3f} → {points[-1].loss:.3f}", "nats a trained token")
    checks = [point for stage in stages for point in stage.validation]
    if checks:
        change = f"{checks[0].loss:.3f} → {checks[-1].loss:.3f}" if len(checks) > 1 else f"{checks[0].loss:.3f}"
        yield Card("validation loss", change, "nats a trained token")
    if stages:
        trained = sum(stage.trained_tokens for stage in stages)
        note = f"{count(sum(stage.tokens for stage in stages))} tokens, {count(trained)} trained on"
        yield Card("samples", count(sum(stage.samples for stage in stages)), note)
        steps = f"{count(sum(stage.steps for stage in stages))} steps in {len(stages)} "
        noun = "stage" if len(stages) == 1 else "stages"
        yield Card("time", duration(sum(stage.seconds for stage in stages)), steps + noun)
    peaks = [stage.peak_memory_bytes for stage in stages if stage.peak_memory_bytes]
    if peaks:
        yield Card("peak memory", _memory(max(peaks)), "of the device" if report.device != "cpu" else "of the process")
    noun = "process" if report.processes == 1 else "processes"
    yield Card("ran on", report.device, f"{report.processes} {noun}")


def _accuracy_card(report: SFTRunReport) -> Iterator[Card]:
    rates = [point.kinds.get(ALL, {}) for point in report.evaluations]
    known = [values for values in rates if values.get("accuracy") is not None]
    if known:
        value = f"{100 * known[-1]['accuracy']:.1f}\N{NO-BREAK SPACE}%"
        first = f"{100 * known[0]['accuracy']:.1f} → " if len(known) > 1 else ""
        yield Card("answers right", first + value, f"{interval(known[-1])}, {known[-1].get('scored', 0)} problems")


def _milestones(report: SFTRunReport) -> list[tuple[str, EvaluationPoint]]:
    """The evaluation before the first stage, and the last one of each stage."""
    first = report.evaluations[0] if report.evaluations and report.evaluations[0].step == 0 else None
    shown = [] if first is None else [("before", first)]
    for stage in report.stages:
        points = [point for point in report.evaluations if point.stage == stage.name and point is not first]
        shown += [(f"after {stage.name}", points[-1])] if points else []
    return shown


# --- words ------------------------------------------------------------------------------------------------------------


def _drops(source: SourceReport) -> str:
    return ", ".join(f"{count(number)} {reason}" for reason, number in source.drops.items()) or "none"


def _rounds(source: SourceReport) -> str:
    return ", ".join(f"{rounds}: {count(number)}" for rounds, number in sorted(source.rounds.items())) or "–"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _memory(number: int | None) -> str:
    return "–" if number is None else f"{number / 2**30:.2f} GiB"


# --- examples ---------------------------------------------------------------------------------------------------------


def _examples(before: Sequence[Sample], after: Sequence[Sample]) -> Iterator[Example]:
    later = {sample.trajectory.problem.id: sample for sample in after}
    pictures = Inlined()
    for index, sample in enumerate(before):
        problem = sample.trajectory.problem
        pair = [("before training", sample)]
        if problem.id in later:
            pair.append(("after training", later[problem.id]))
        attempts = [
            (label, make_attempt(f"e{index + 1}-{place}", one.trajectory, one.score, pictures))
            for place, (label, one) in enumerate(pair)
        ]
        yield Example(problem, make_scene(problem, seen_sizes(sample.trajectory), pictures), attempts)
