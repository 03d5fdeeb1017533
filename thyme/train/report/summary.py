"""A run's report in a few lines for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from thyme.eval.summary import ALL
from thyme.train.run.records import EvaluationPoint, SFTRunReport


def run_table(report: SFTRunReport) -> RenderableType:
    """What was trained, and what evaluation found: a row a stage, and a column an evaluation.

    Args:
        report: Of the run.
    """
    stages = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "samples", "steps", "loss", "validation", "minutes", "tokens/s"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    for stage in report.stages:
        loss = f"{stage.curve[0].loss:.3f} to {stage.curve[-1].loss:.3f}" if stage.curve else "-"
        measured = f"{stage.validation[-1].loss:.3f}" if stage.validation else "-"
        speed = "-" if stage.tokens_per_second is None else f"{stage.tokens_per_second:.0f}"
        stages.add_row(
            stage.name, str(stage.samples), str(stage.steps), loss, measured, f"{stage.seconds / 60:.1f}", speed
        )
    return Group(stages, _evaluations(report.evaluations)) if report.evaluations else stages


def _evaluations(points: tuple[EvaluationPoint, ...]) -> Table:
    """Accuracy of each kind, with its 95 % interval where all kinds are taken together."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("right, of those scored")
    for point in points:
        table.add_column(f"{point.stage}, step {point.step}", justify="right")
    for kind in dict.fromkeys(kind for point in points for kind in point.kinds):
        cells = [_cell(point, kind) for point in points]
        table.add_row(kind or "-", *cells, style="bold" if kind == ALL else "")
    return table


def _cell(point: EvaluationPoint, kind: str) -> str:
    figures = point.kinds.get(kind)
    if figures is None or figures["accuracy"] is None:
        return "-"
    interval = figures["accuracy_interval"]
    spread = f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else ""
    return f"{100 * figures['accuracy']:.0f} %{spread}"
