"""Curves of the ablation of GRPO-ATS: one small figure an arm and rate, with the interval over the seeds as a band."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thyme.errors import MissingExtraError
from thyme.nano.grpo_ablation.arms import ARMS, BASELINE
from thyme.nano.grpo_ablation.findings import CURVES, Findings, Point, StartFindings
from thyme.train.report.plots import Line, Plot, plot

_COLOUR, _BESIDE = "tab:blue", "0.6"


def middles(points: Sequence[Point]) -> list[float]:
    """Middle step of each point that has a value."""
    return [(point.first + point.last) / 2 for point in points if point.found.mean is not None]


def levels(points: Sequence[Point]) -> list[float]:
    """Mean over the seeds of each point that has one."""
    return [point.found.mean for point in points if point.found.mean is not None]


def bands(points: Sequence[Point], *, share: bool) -> list[tuple[float, float]]:
    """Interval of each point that has a value, a share's cut at 0 and 1; the value itself where there is none."""
    found = [
        (point.found.interval or (point.found.mean, point.found.mean))
        for point in points
        if point.found.mean is not None
    ]
    return [(max(low, 0.0), min(high, 1.0)) if share else (low, high) for low, high in found]


def page_plots(name: str, start: StartFindings) -> dict[str, list[Plot]]:
    """Figures for the page: by measure, one an arm, the arm that groups have in common beside it."""
    found: dict[str, list[Plot]] = {}
    beside = start.arms.get(BASELINE)
    for measure in CURVES:
        made = []
        for arm, shown in start.arms.items():
            points = shown.curves.get(measure, ())
            if not middles(points):
                continue  # the start itself, or a rate that never had a case
            share = measure != "reward"
            lines = [Line(middles(points), levels(points), bands(points, share=share))]
            keys = []
            if beside is not None and arm != BASELINE:
                lines.append(Line(middles(beside.curves[measure]), levels(beside.curves[measure])))
                keys = ["this arm", ARMS[BASELINE].title]
            made.append(plot(f"{name}-{arm}-{measure}", shown.title, lines, keys=keys, share=share))
        found[measure] = [figure for figure in made if figure is not None]
    return found


def draw_png(start: StartFindings, findings: Findings, path: Path) -> None:
    """Draw all arms of a start: a row a measure, a column an arm; nothing where no arm was trained.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a plot", "eval") from error
    arms = {name: arm for name, arm in start.arms.items() if arm.curves}
    if not arms:
        return
    figure = Figure(figsize=(2.1 * len(arms) + 0.8, 2.0 * len(CURVES)), layout="constrained")
    grid = figure.subplots(len(CURVES), len(arms), sharex=True, sharey="row", squeeze=False)
    for row, measure in zip(grid, CURVES, strict=True):
        for axes, (name, arm) in zip(row, arms.items(), strict=True):
            if BASELINE in arms and name != BASELINE:
                _line(axes, arms[BASELINE].curves[measure], _BESIDE, band=False, share=measure != "reward")
            _line(axes, arm.curves[measure], _COLOUR, band=True, share=measure != "reward")
            axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        row[0].set_ylabel(measure)
        if measure != "reward":
            row[0].set_ylim(-0.02, 1.02)
    for axes, arm in zip(grid[0], arms.values(), strict=True):
        axes.set_title(arm.title, fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("step")
    seeds = max(len(arm.measures["accuracy"].seeds) for arm in arms.values())
    steps = findings.settings["steps"]
    told = f"Mean of {seeds} seeds, Student's 95 % interval; grey: {ARMS[BASELINE].title}; {steps} steps"
    figure.suptitle(told, fontsize=9)
    figure.savefig(path, dpi=100)


def _line(axes: Any, points: Sequence[Point], colour: str, *, band: bool, share: bool) -> None:
    steps = middles(points)
    if band and steps:
        low, high = zip(*bands(points, share=share), strict=True)
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(steps, levels(points), color=colour, linewidth=1.6, linestyle="-" if band else "--", marker="o", ms=2.5)
