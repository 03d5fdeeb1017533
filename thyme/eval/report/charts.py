"""The plots of a report: accuracy against what it cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from thyme.errors import MissingExtraError
from thyme.eval.arms import ARMS, REPAIRS_OFF, UNTRAINED
from thyme.eval.arms_crops import CROP_ONLY, PLACEBO
from thyme.eval.items import NO_TOOLS, RETRY, TOOLS
from thyme.eval.results import ArmResult, BenchmarkResult
from thyme.eval.statistics import Estimate
from thyme.eval.worth import Spent
from thyme.view.plots import INK, LINES, Plot, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

_ARMS = (TOOLS, NO_TOOLS, RETRY, UNTRAINED, CROP_ONLY, REPAIRS_OFF, PLACEBO)
"""Which arms are drawn, the first four that there are: as many as colours can be told apart."""
_MARKS = ("o", "s", "^", "D")


def charts(benchmark: BenchmarkResult) -> list[Plot]:
    """Accuracy against tokens and seconds, an arm a point, and by length within the arm with code.

    Without matplotlib there are none, and the log says why.
    """
    try:
        return list(_charts(benchmark))
    except MissingExtraError as error:
        logger.warning("the report has no plots: %s", error)
        return []


def _charts(benchmark: BenchmarkResult) -> Iterator[Plot]:
    arms = [arm for name in _ARMS if (arm := benchmark.arm(name)) and arm.worth.accuracy.value is not None][:4]
    keys = [ARMS[arm.arm].title for arm in arms]
    sides: tuple[tuple[str, Callable[[ArmResult], Estimate]], ...] = (
        ("tokens written a problem", lambda arm: arm.worth.generated_tokens),
        ("seconds a problem", lambda arm: arm.worth.seconds),
    )
    for name, side in sides if arms else ():
        known = [(arm, side(arm)) for arm in arms]
        title = f"Accuracy against {name.split()[0]}"
        yield figure(f"{benchmark.name}-{name}", title, _points(known, name), keys=keys, extra="eval")
    if benchmark.spent:
        title = "Accuracy by length, with code"
        yield figure(f"{benchmark.name}-length", title, _lengths(benchmark.spent), extra="eval")


def _points(known: Sequence[tuple[ArmResult, Estimate]], label: str) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for place, (arm, cost) in enumerate(known):
            _cross(axes, cost, arm.worth.accuracy, place)
        _dress(axes, label)

    return paint


def _cross(axes: Axes, x: Estimate, y: Estimate, place: int) -> None:
    """A point with the intervals of both sides."""
    if x.value is None or y.value is None:
        return
    colour = LINES[place]
    if y.low is not None and y.high is not None:
        axes.vlines(x.value, y.low, y.high, color=colour, linewidth=1.2)
    if x.low is not None and x.high is not None:
        axes.hlines(y.value, x.low, x.high, color=colour, linewidth=1.2)
    axes.plot([x.value], [y.value], color=colour, marker=_MARKS[place], markersize=5, linestyle="", clip_on=False)


def _lengths(spent: Sequence[Spent]) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        known = [one for one in spent if one.accuracy.value is not None]
        x, y = [one.tokens for one in known], [one.accuracy.value or 0.0 for one in known]
        low = [one.accuracy.low or 0.0 for one in known]
        high = [1.0 if one.accuracy.high is None else one.accuracy.high for one in known]
        axes.fill_between(x, low, high, color=LINES[0], alpha=0.14, linewidth=0)
        axes.plot(x, y, color=LINES[0], marker="o", markersize=4, linewidth=1.6)
        _dress(axes, "tokens written, quarters of the problems")

    return paint


def _dress(axes: Axes, label: str) -> None:
    axes.grid(axis="y", linewidth=0.7)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(left=0)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(label, color=INK)
