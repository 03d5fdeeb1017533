"""Summaries as a table for the terminal, one arm beside the other."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from thyme.eval.summary import ALL, Rate, Summary

Arm = Mapping[str, Summary]
"""Summaries by kind, as `thyme.eval.summary.summarise` makes them."""


def results_table(arms: Mapping[str, Arm], title: str = "") -> Table:
    """A row for each kind, and for each arm its accuracy with the 95 % interval.

    Where an arm ran code, two columns say how often it did and how often the code ended without an error.

    Args:
        arms: Summaries by name of the arm, e.g. ``with code`` and ``code blocked``.
        title: Above the table.
    """
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("kind")
    table.add_column("n", justify="right")
    for name, arm in arms.items():
        table.add_column(name, justify="right")
        if _ran_code(arm):
            table.add_column("used code", justify="right")
            table.add_column("code ran", justify="right")
    for kind in dict.fromkeys(kind for arm in arms.values() for kind in arm):
        present = [arm[kind] for arm in arms.values() if kind in arm]
        cells: list[str | Text] = [kind or "-", str(max(summary.n for summary in present))]
        for arm in arms.values():
            cells += _cells(arm.get(kind), _ran_code(arm))
        table.add_row(*cells, style="bold" if kind == ALL else "")
    return table


def _ran_code(arm: Arm) -> bool:
    return any(summary.executable_rate.n for summary in arm.values())


def _cells(summary: Summary | None, code: bool) -> list[str | Text]:
    """The cells of one arm in one row."""
    if summary is None:
        return ["-"] * (3 if code else 1)
    accuracy = Text(percent(summary.accuracy))
    if summary.accuracy.interval is not None:
        low, high = summary.accuracy.interval
        accuracy.append(f"  {100 * low:3.0f} to {100 * high:3.0f}", style="dim")
    if summary.failed:
        accuracy.append(f"  {summary.failed} failed", style="red")
    return [accuracy, percent(summary.tool_rate), percent(summary.executable_rate)] if code else [accuracy]


def percent(rate: Rate) -> str:
    """A rate in whole percent, or a dash without cases."""
    return "-" if rate.value is None else f"{100 * rate.value:.0f} %"
