"""``thyme data report``: what came in, what went out, and why the rest was dropped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thyme.cli import options

if TYPE_CHECKING:
    from thyme.data.report.counts import Funnel

_MOST = 12
"""Reasons that are printed."""


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a build (`thyme data build --out`).")],
    as_json: options.Json = False,
) -> None:
    """Write the funnel of a build into its folder: report.html and funnel.json. The build may be unfinished.

    Example: thyme data report runs/data
    """
    from thyme.data.report.write import PAGE, write_report

    funnel = write_report(out)
    if as_json:
        typer.echo(funnel.model_dump_json())
        return
    tell(funnel)
    typer.echo(f"page: {out / PAGE}")


def tell(funnel: Funnel) -> None:
    """Print stages and reasons."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from thyme.data.report.words import cautions, percent

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("stage")
    for name in ("in", "rejected", "on"):
        table.add_column(name, justify="right")
    for name, one in funnel.stages.items():
        if one.entered:
            table.add_row(name, str(one.entered), str(one.rejected), str(one.passed))
    table.add_row("accepted", str(funnel.total.kept), "", percent(funnel.total.share))
    Console(highlight=False).print(table)
    found = sorted(funnel.reasons, key=lambda reason: -reason.count)
    for reason in found[:_MOST]:
        typer.echo(f"  {reason.count:>7}  {reason.stage}: {reason.reason}")
    if len(found) > _MOST:
        typer.echo(f"  {sum(reason.count for reason in found[_MOST:]):>7}  {len(found) - _MOST} other reasons")
    for sentence in cautions(funnel):
        typer.echo(f"careful: {sentence}")
