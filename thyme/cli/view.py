"""``thyme view``: stored trajectories, in the terminal, as one page, or in the browser."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from thyme.cli.replay import records_file
from thyme.errors import MissingExtraError, StoreError, UsageError
from thyme.eval.records import Filter, Records
from thyme.eval.runner import score_trajectory
from thyme.store import load_images
from thyme.types import StopReason, Trajectory
from thyme.view.html import render_page
from thyme.view.terminal import TrajectoryPrinter

app = typer.Typer(add_completion=False)

_HOST = "127.0.0.1"


@app.command()
def view(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Files of trajectories (.jsonl), or folders that `thyme ask --save` or `thyme demo` wrote.",
        ),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write one HTML file that needs nothing beside it.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show them in the browser, a page at a time, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 takes any that is free.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="With --serve: open the browser, too.")] = False,
    search: Annotated[str, typer.Option(help="Only with this text in question or response.")] = "",
    kind: Annotated[str, typer.Option(help="Only of this kind, e.g. zoom.")] = "",
    verdict: Annotated[
        Literal["right", "wrong", "failed", "unscored"] | None, typer.Option(help="Only with this verdict, by rules.")
    ] = None,
    stop: Annotated[StopReason | None, typer.Option(help="Only those that ended so.")] = None,
    rounds: Annotated[int | None, typer.Option(min=0, help="Only with so many code blocks.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, from the first on.")] = None,
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Go on where a line is no record.")] = False,
) -> None:
    """Look at stored trajectories.

    Printed in the terminal, unless --html or --serve is given. The filters hold for all three.

    Example: thyme view out/trajectory.jsonl

    Example: thyme view demo --serve --open

    Example: thyme view run.jsonl --verdict wrong
    """
    if html is not None and serve:
        raise UsageError("--html writes a file and --serve shows pages; choose one")
    records = _scan(files, skip_damaged=skip_damaged or serve)
    wanted = Filter(search, kind, "" if stop is None else stop.value, verdict or "", rounds)
    chosen = records.find(wanted)[:limit]
    if not chosen and not serve:
        raise StoreError(f"none of {len(records.entries)} records matches; leave out a filter")
    if serve:
        entries = [records.entries[place] for place in chosen]
        _serve(Records(records.paths, entries, records.damaged), port, open_browser)
    elif html is not None:
        _write(html, list(_loaded(records, chosen)), ", ".join(path.name for path in records.paths))
    else:
        printer = TrajectoryPrinter()
        for trajectory in _loaded(records, chosen):
            printer.trajectory(trajectory)


def _scan(files: Sequence[Path], *, skip_damaged: bool) -> Records:
    """Index the files.

    Raises:
        UsageError: There is no such file, or a folder holds none or several.
        StoreError: A line is no record.
    """
    for path in files:
        if not path.exists():
            raise UsageError(f"{path}: no such file; name a file of trajectories (.jsonl)")
    records = Records.scan([records_file(path) for path in files])
    for damage in records.damaged:
        if not skip_damaged:
            raise StoreError(f"{damage}, or leave it out with --skip-damaged")
        typer.echo(f"thyme: {damage}; left out", err=True)
    if not records.entries:
        raise StoreError(f"{', '.join(map(str, records.paths))}: no trajectory in there")
    return records


def _loaded(records: Records, places: Sequence[int]) -> Iterator[Trajectory]:
    """The records at these places, pixels included."""
    for place in places:
        yield load_images(records.entries[place].path, records.trajectory(place))


def _write(out: Path, trajectories: Sequence[Trajectory], title: str) -> None:
    page = render_page(trajectories, title, scores=[score_trajectory(trajectory) for trajectory in trajectories])
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); name another file with --html") from error
    typer.echo(f"page: {out}", err=True)


def _serve(records: Records, port: int, open_browser: bool) -> None:
    """Show the records on this machine until Ctrl-C.

    Raises:
        MissingExtraError: The server is not installed.
        UsageError: The port is taken.
    """
    try:
        import uvicorn

        from thyme.serve.ui.viewer import create_viewer
    except ImportError as error:
        raise MissingExtraError("thyme view --serve", "serve") from error
    config = uvicorn.Config(create_viewer(records), host=_HOST, log_config=None, timeout_graceful_shutdown=2)
    try:
        listening = socket.create_server((_HOST, port))
    except OSError as error:
        raise UsageError(
            f"port {port} of {_HOST} cannot be used ({error.strerror}); name another with --port"
        ) from error
    with listening:
        url = f"http://{_HOST}:{listening.getsockname()[1]}/"
        count = len(records.entries)
        typer.echo(f"{count} record{'' if count == 1 else 's'} at {url} (Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(url)
        uvicorn.Server(config).run(sockets=[listening])
