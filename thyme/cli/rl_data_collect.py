"""``thyme rl-data collect``: large pictures of a folder become a collection that people annotate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thyme.cli import options
from thyme.cli.training import Quiet
from thyme.config.annotation import CollectSettings
from thyme.view.terminal import clean

if TYPE_CHECKING:
    from thyme.data.collect.run import OnProgress, Summary

_DEFAULTS = CollectSettings()
_SHOWN = 8
"""Endings of files that are passed over and are told."""


def collect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pictures, looked through at any depth.")],
    out: Annotated[
        Path, typer.Option(metavar="COLLECTION", help="Folder of the collection; one that is not finished goes on.")
    ],
    min_side: Annotated[int, typer.Option(min=1, help="A side must be longer than this, pixels.")] = _DEFAULTS.min_side,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Largest width times height that is decoded.")
    ] = _DEFAULTS.max_pixels,
    near: Annotated[
        int, typer.Option(min=-1, max=64, help="Bits in which near-duplicates differ at most; -1 keeps them.")
    ] = _DEFAULTS.near,
    min_sharpness: Annotated[
        float, typer.Option(min=0, max=1, help="Below it a picture counts as blurred; 0 keeps all.")
    ] = _DEFAULTS.min_sharpness,
    max_text: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share covered by lines of text at most; 1 keeps all."),
    ] = _DEFAULTS.max_text,
    licence: Annotated[str, typer.Option(help="Licence of pictures that name none themselves.")] = "",
    source: Annotated[str, typer.Option(help="Source of pictures that name none themselves: a name or a URL.")] = "",
    sidecar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV or JSON with the columns file, licence, source, creator."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes at once.", show_default="one for each core")
    ] = None,
    as_json: options.Json = False,
    quiet: Quiet = False,
) -> None:
    """Take the large pictures of a folder: without metadata, each once, with tiles to zoom in, and a report.

    Whatever ended it, Ctrl-C or kill -9: the same command goes on from there.

    Example: thyme rl-data collect photos --out collection --licence CC0-1.0

    Example: thyme rl-data collect photos --out collection --sidecar licences.csv --min-sharpness 0.25 --max-text 0.08
    """
    settings = CollectSettings(
        min_side=min_side,
        max_pixels=max_pixels,
        near=near,
        min_sharpness=min_sharpness,
        max_text=max_text,
        licence=licence,
        source=source,
    )
    made, page = _collect(folder, out, settings, sidecar, processes, shown=not quiet)
    if as_json:
        typer.echo(json.dumps({**asdict(made), "collection": str(out), "report": str(page)}))
    elif not quiet:
        _say(made, out, page)


def _collect(
    folder: Path, out: Path, settings: CollectSettings, sidecar: Path | None, processes: int | None, *, shown: bool
) -> tuple[Summary, Path]:
    """Collect, and write the report; gives what came of it, and the page."""
    from thyme.data.collect.report import write_report
    from thyme.data.collect.run import collect as run
    from thyme.data.collect.sidecar import read_sidecar

    beside = None if sidecar is None else read_sidecar(sidecar)
    with options.kept_when_interrupted("what is finished"):
        with _progress(shown) as on_progress:
            made = run(folder, out, settings, sidecar=beside, processes=processes, on_progress=on_progress)
        return made, write_report(out, folder)


def _say(made: Summary, out: Path, page: Path) -> None:
    reasons = ", ".join(f"{name} {number}" for name, number in made.rejected.items())
    why = f" (not taken: {reasons})" if reasons else ""
    typer.echo(f"{made.taken} of {made.files} pictures taken: {out}{why}", err=True)
    if made.others:
        endings = [f"{clean(ending) or 'none'} {number}" for ending, number in made.others.items()]
        more = ", ..." if len(endings) > _SHOWN else ""
        number = sum(made.others.values())
        typer.echo(f"{number} other files passed over, by ending: {', '.join(endings[:_SHOWN])}{more}", err=True)
    typer.echo(f"report: {page}", err=True)


@contextmanager
def _progress(shown: bool) -> Iterator[OnProgress]:
    """A bar on stderr."""
    if not shown:
        yield lambda done, files, taken: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("files"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[taken]} taken"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, taken=0)
        yield lambda done, files, taken: bar.update(task, completed=done, total=files, taken=taken)
