"""Curves of a run as SVG that takes the colours of the page around it, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from thyme.train.run.records import EvaluationPoint, SFTRunReport, StageReport
from thyme.view.plots import DASHES, LINE, LINES, Plot, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Line", "Plot", "curves", "evaluation_curves", "kinds", "plot", "rate_line", "smoothed"]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve."""

    steps: Sequence[float]
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]] = ()
    """95 % interval of each value, where there are any."""
    smooth: int = 0
    """Draw the mean over so many steps, and the values themselves faintly behind it; 0 draws the values."""
    dots: bool = False
    """Draw points with their intervals as bars, and no line."""
    like: int | None = None
    """Place of the line whose colour this one takes; None is its own."""


def curves(stage: StageReport) -> list[Plot]:
    """Loss, rate, accuracy and gradient of a stage over its steps; without what was not measured."""
    points = stage.curve
    validation = Line([p.step for p in stage.validation], [p.loss for p in stage.validation])
    loss = Line([p.step for p in points], [p.loss for p in points])
    accuracy = [(p.step, p.token_accuracy) for p in points if p.token_accuracy is not None]
    norms = [(p.step, p.grad_norm) for p in points if p.grad_norm is not None]
    rate = Line([p.step for p in points], [p.learning_rate for p in points])
    both = ("training", "validation") if validation.steps else ()
    made = [
        plot(f"{stage.name}-loss", "Loss", [loss, validation], keys=both),
        plot(f"{stage.name}-accuracy", "Tokens guessed right", [_line(accuracy)], share=True),
        plot(f"{stage.name}-rate", "Learning rate", [rate]),
        plot(f"{stage.name}-norm", "Gradient norm", [_line(norms)]),
    ]
    return [plot for plot in made if plot is not None]


def evaluation_curves(report: SFTRunReport) -> list[Plot]:
    """Accuracy over all steps of the run, a figure for each kind of problem; needs two evaluations at least."""
    if len(report.evaluations) < 2:
        return []
    offsets = _offsets(report.stages)
    steps = [offsets.get(point.stage, 0) + point.step for point in report.evaluations]
    borders = [offset for offset in offsets.values() if offset]
    made = [_evaluation_curve(kind, steps, report.evaluations, borders) for kind in kinds(report.evaluations)]
    return [plot for plot in made if plot is not None]


def kinds(points: Sequence[EvaluationPoint]) -> list[str]:
    """Kinds of problems in the order in which they appear, with that over all of them at the end."""
    found = list(dict.fromkeys(kind for point in points for kind in point.kinds))
    return sorted(found, key=lambda kind: kind == "all")


def _offsets(stages: Sequence[StageReport]) -> dict[str, int]:
    """Steps before each stage."""
    offsets, total = {}, 0
    for stage in stages:
        offsets[stage.name] = total
        total += stage.steps
    return offsets


def _evaluation_curve(
    kind: str, steps: Sequence[int], points: Sequence[EvaluationPoint], borders: Sequence[int]
) -> Plot | None:
    lines = [rate_line(steps, points, kind, rate) for rate in ("accuracy", "tool_rate")]
    return plot(f"kind-{kind}", kind, lines, keys=("right", "ran code"), share=True, borders=borders)


def rate_line(
    steps: Sequence[int],
    points: Sequence[EvaluationPoint],
    kind: str,
    rate: str,
    *,
    dots: bool = False,
    like: int | None = None,
) -> Line:
    """A rate of the evaluations over the steps, with its intervals; those that have no case of it are left out.

    Args:
        steps: Where each evaluation stands.
        points: The evaluations.
        kind: Of problems; ``all`` is over all of them.
        rate: ``accuracy`` or ``tool_rate``, for example.
        dots: See `Line`.
        like: See `Line`.
    """
    found = [(step, point.kinds.get(kind, {})) for step, point in zip(steps, points, strict=True)]
    known = [(step, values) for step, values in found if values.get(rate) is not None]
    intervals = [values.get(f"{rate}_interval") or (values[rate], values[rate]) for _, values in known]
    return Line([step for step, _ in known], [values[rate] for _, values in known], intervals, dots=dots, like=like)


def _line(points: Sequence[tuple[int, float]]) -> Line:
    return Line([step for step, _ in points], [value for _, value in points])


def plot(
    salt: str,
    title: str,
    lines: Sequence[Line],
    *,
    keys: Sequence[str] = (),
    share: bool = False,
    borders: Sequence[int] = (),
) -> Plot | None:
    """Draw lines over steps.

    Args:
        salt: Unlike those of the other figures on the page.
        title: Above the figure.
        lines: What is drawn; at most four colours.
        keys: Names of the colours.
        share: Whether the values are shares of a whole.
        borders: Steps at which something happened.

    Returns:
        The figure; None where there is nothing finite to draw.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if not any(math.isfinite(value) for line in lines for value in line.values):
        return None

    def paint(axes: Axes) -> None:
        for place, line in enumerate(lines):
            _draw(axes, line, place if line.like is None else line.like)
        for border in borders:
            axes.axvline(border, color=LINE, linewidth=1, linestyle="--")
        _dress(axes, share=share)
        steps = {step for line in lines for step in line.steps}
        if len(steps) == 1:
            axes.set_xticks(sorted(steps))  # around a single point there would be ticks at parts of steps

    return figure(salt, title, paint, keys=keys, extra="train")


def _draw(axes: Axes, line: Line, place: int) -> None:
    kept = [i for i, value in enumerate(line.values) if math.isfinite(value)]
    steps, values = [line.steps[i] for i in kept], [line.values[i] for i in kept]
    low, high = zip(*(line.intervals[i] for i in kept), strict=True) if kept and line.intervals else ((), ())
    colour = LINES[place]
    if line.dots:
        axes.vlines(steps, low, high, color=colour, linewidth=1.2)
        axes.plot(steps, values, color=colour, linestyle="", marker="D", markersize=4.2, clip_on=False)
        return
    marker = "o" if len(kept) < 30 else ""
    if line.smooth > 1 and len(kept) > line.smooth:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, smoothed(values, line.smooth), color=colour, linewidth=1.8, linestyle=DASHES[place])
    else:
        axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3.2)
    if low:
        axes.fill_between(steps, low, high, color=colour, alpha=0.14, linewidth=0)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and those before it, `window` at most."""
    sums = [0.0, *accumulate(values)]
    return [(sums[i + 1] - sums[max(0, i + 1 - window)]) / min(i + 1, window) for i in range(len(values))]


def _dress(axes: Axes, *, share: bool) -> None:
    axes.grid(axis="y", linewidth=0.7)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", integer=True, nbins=5)
    axes.set_xlabel("step")
    if share:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.margins(x=0.03)
