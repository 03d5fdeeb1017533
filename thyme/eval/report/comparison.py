"""Two runs side by side, on the terminal and as a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thyme.eval.compare import Compared, Comparison
from thyme.eval.flips import MOST_NAMED
from thyme.eval.report.cells import Cell, amount, bar, difference, interval, p_value, percent, scale_of, share
from thyme.eval.report.tables import Row, title_of
from thyme.store import write_text
from thyme.view.pages import template
from thyme.view.terminal import clean

_COLOURS = {"better": "green", "worse": "red", "": ""}


def comparison_table(comparison: Comparison) -> RenderableType:
    """What differs, and what came of it; differences are the second run less the first."""
    settings = Table(title="settings that differ", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name in ("", "first", "second"):
        settings.add_column(name, overflow="fold")
    for one in comparison.settings:
        settings.add_row(*(Text(clean(text)) for text in (one.name, one.first, one.second)))
    table = Table(title="second less first", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for name in ("benchmark", "arm", "first, %", "second, %", "difference", "pairs", "p, corrected", ""):
        table.add_column(name, justify="left" if name in {"benchmark", "arm", ""} else "right")
    for row in comparison.rows:
        table.add_row(*_terminal(row))
    lacking = [
        Text(clean(f"only in the {which}: {'; '.join(names)}"), style="dim")
        for which, names in (("first", comparison.only_first), ("second", comparison.only_second))
        if names
    ]
    return Group(settings, Text(), table, *lacking)


def _terminal(row: Compared) -> list[str | Text]:
    gap = difference(row.versus)
    told = Text(f"{gap.value} ({gap.note})" if gap.note else gap.value, style=_COLOURS[gap.verdict])
    scores = [
        f"{percent(one.value)} ({interval(one)})" if one.value is not None else "–" for one in (row.first, row.second)
    ]
    pairs = str(row.versus.difference.n) if row.versus else "0"
    return [
        clean(row.title),
        title_of(row.arm),
        *scores,
        told,
        pairs,
        p_value(row.versus.adjusted if row.versus else None),
        row.note,
    ]


def render_comparison(comparison: Comparison) -> str:
    """The page as text."""
    scale = scale_of([row.versus for row in comparison.rows if row.versus])
    return template("comparison.html.j2", "thyme.eval.report").render(
        title="Two runs of an evaluation",
        comparison=comparison,
        scores=[_score_row(row, scale) for row in comparison.rows],
        use=[_use_row(row) for row in comparison.rows],
        turned=[(f"{row.title}, {title_of(row.arm)}", row) for row in comparison.rows if row.gained or row.lost],
        most=MOST_NAMED,
    )


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page.

    Raises:
        StoreError: It cannot be written.
    """
    write_text(path, render_comparison(comparison))


def _score_row(row: Compared, scale: float) -> Row:
    versus = row.versus
    cells = [
        share(row.first),
        share(row.second),
        difference(versus),
        Cell(str(versus.difference.n) if versus else "0", row.note),
        Cell(f"{versus.gained} / {versus.lost}" if versus else "–"),
        Cell(percent(row.same_answers)),
        Cell(p_value(versus.adjusted if versus else None), versus.test if versus else ""),
    ]
    return Row(title_of(row.arm), cells, bar(versus, scale), row.title)


def _use_row(row: Compared) -> Row:
    first, second = row.first_worth, row.second_worth
    pairs = [(first.tool_rate, second.tool_rate), (first.executable, second.executable)]
    cells = [share(one) for both in pairs for one in both]
    costs = [(first.generated_tokens, second.generated_tokens), (first.seconds, second.seconds)]
    cells += [amount(one) for both in costs for one in both]
    return Row(title_of(row.arm), cells, part=row.title)
