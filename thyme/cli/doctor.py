"""``thyme doctor``: what this machine offers, and how to mend what is missing."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from thyme.cli import options
from thyme.doctor import CHECKS, Finding, examine

app = typer.Typer(add_completion=False)

MARKS = {"ok": ("ok", "green"), "absent": ("--", "dim"), "warning": ("note", "yellow"), "fault": ("FAULT", "bold red")}
"""Word and style by state."""


@app.command()
def doctor(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CHECK]...", help=f"Only these: {', '.join(CHECKS)}.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Look at interpreter, memory, disk, sandbox, model, libraries, GPU and browser; say how to mend what is wrong.

    What is optional and not there is no fault. Exit code 1 where there is a fault.

    Example: thyme doctor

    Example: thyme doctor sandbox torch --json
    """
    console = Console(highlight=False, soft_wrap=True)
    found = []
    for finding in examine(names or ()):
        found.append(finding)
        if not as_json:
            show(finding, console)
    if as_json:
        typer.echo(json.dumps([finding.model_dump() for finding in found]))
    faults = sum(finding.state == "fault" for finding in found)
    if faults:
        typer.echo(f"thyme: {faults} fault{'s' if faults > 1 else ''}; see above how to mend it", err=True)
        raise typer.Exit(1)


def show(finding: Finding, console: Console) -> None:
    """One line, and one below it on what to do."""
    word, style = MARKS[finding.state]
    console.print(f"[{style}]{word:<6}[/]{escape(finding.name):<22} {escape(finding.said)}")
    if finding.mend:
        console.print(f"{'':<28} [cyan]→[/] {escape(finding.mend)}")
