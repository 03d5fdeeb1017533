"""The plots of the report: who answers what, and the differences that the claims are judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thyme.errors import MissingExtraError
from thyme.nano.world import KINDS
from thyme.reproduce.claims import judged
from thyme.reproduce.measures import Difference, Found
from thyme.reproduce.report import ARMS
from thyme.view.plots import INK, LINES, Plot, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS = ("claims", "main")
"""Sections that may have one."""
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")
_SIGNED = "points, to the right where the paper points"
Told = Sequence[tuple[str, int, Difference]]
"""What was measured for which claim, the sign that the paper has, and the difference."""


@dataclass(frozen=True)
class Drawing:
    """A plot as a file."""

    title: str
    paint: Callable[[Any], None]
    size: tuple[float, float]
    """Width and height, inches."""

    def save(self, path: Path) -> None:
        """Write it as PNG, the same bytes for the same figures."""
        from matplotlib.figure import Figure

        drawn = Figure(figsize=self.size, layout="constrained")
        self.paint(drawn.subplots())
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=100, metadata={"Software": None})


def drawings(found: Found) -> dict[str, Drawing]:
    """Plots for files, by section; none where there is nothing to draw, or nothing to draw with."""
    if find_spec("matplotlib") is None:
        return {}
    made = {}
    told, arms = signed(found), [arm for arm in ARMS if arm in found.asked]
    if told:
        made["claims"] = Drawing(
            "Differences that the claims are judged by, with their widest interval",
            lambda axes: _forest(axes, told, "tab:blue", "black"),
            (10, _height(told)),
        )
    if arms:
        made["main"] = Drawing(
            "Right answers by kind of question", lambda axes: _named_bars(axes, found, arms), (10, 4)
        )
    return made


def page_claims(found: Found) -> list[Plot]:
    """The differences, for the page."""
    told = signed(found)
    size = (10.0, _height(told))
    title = "Differences that the claims are judged by, with their widest interval"
    return _plot("claims", title, lambda axes: _forest(axes, told, LINES[0], INK), size) if told else []


def page_main(found: Found) -> list[Plot]:
    """Right answers of four arms, for the page."""
    arms = [arm for arm in ("blocked", "direct", "sft", "rl") if arm in found.asked]

    def paint(axes: Axes) -> None:
        _bars(axes, found, arms, LINES)
        axes.tick_params(axis="x", labelrotation=20)

    keys = [ARMS[arm] for arm in arms]
    return _plot("main", "Right answers by kind of question, %", paint, (10.0, 3.2), keys) if arms else []


def _plot(
    salt: str, title: str, paint: Callable[[Axes], None], size: tuple[float, float], keys: Sequence[str] = ()
) -> list[Plot]:
    try:
        return [figure(f"reproduction-{salt}", title, paint, keys=keys, size=size, extra="eval")]
    except MissingExtraError:
        return []


def signed(found: Found) -> Told:
    """Every difference in points that has an interval, with the sign that the paper has."""
    return [
        (f"{one.claim.name} · {difference.where or part.what}", -1 if part.rule == "less" else 1, difference)
        for one in judged(found)
        for part, difference, _ in one.parts
        if difference.unit == "points" and difference.intervals
    ]


def _height(told: Told) -> float:
    return 0.25 * len(told) + 0.9


def _forest(axes: Any, told: Told, colour: str, ink: str) -> None:
    for place, (_, sign, difference) in enumerate(reversed(told)):
        ends = [100 * sign * end for interval in difference.intervals for end in interval]
        axes.hlines(place, min(ends), max(ends), color=colour, linewidth=1.4)
        axes.plot([100 * sign * difference.mean], [place], color=colour, marker="o", markersize=4)
    axes.axvline(0, color=ink, linewidth=0.8)
    axes.set_yticks(range(len(told)), [name for name, *_ in reversed(told)])
    axes.set_xlabel(_SIGNED, color=ink)


def _named_bars(axes: Any, found: Found, arms: Sequence[str]) -> None:
    _bars(axes, found, arms, _COLOURS)
    axes.set_ylabel("right, %")
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.18), frameon=False)


def _bars(axes: Any, found: Found, arms: Sequence[str], colours: Sequence[str]) -> None:
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        rates = [found.asked.rate(arm, "right", (kind,)) for kind in KINDS]
        heights = [0.0 if rate is None else 100 * rate.mean for rate in rates]
        at = [index + (place - (len(arms) - 1) / 2) * width for index in range(len(KINDS))]
        axes.bar(at, heights, width * 0.92, color=colours[place], label=ARMS[arm])
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.set_ylim(0, 100)
