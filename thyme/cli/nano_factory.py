"""``thyme nano teacher``, ``caught`` and ``taught``: a run of the data factory in the embedded world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thyme.cli import options
from thyme.errors import UsageError

if TYPE_CHECKING:
    from thyme.nano.factory.caught import Table

Build = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a build (`thyme data build --out`).")]


def teacher(
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8123,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write down there what was planted, a line a conversation.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds what goes wrong; the same requests get the same answers.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of a scenario's requests that each class of errors takes.",
            show_default="small, by class",
        ),
    ] = None,
    error: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SHARE", help="The share of one class. Repeatable.")
    ] = None,
    miss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of what does not fit that the checker lets pass.")
    ] = 0.1,
    alarm: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of what fits that the checker refuses.")] = 0.01,
    garbled: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the checker's first replies that are no verdict.")
    ] = 0.02,
    busy: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the requests that get a 503 the first time.")
    ] = 0.01,
) -> None:
    """Serve a teacher and a checker that go by rules and err on purpose, for `thyme data build @nano_data`.

    They are models nano-teacher and nano-checker of an OpenAI-compatible server.

    Example: thyme nano teacher --log runs/planted.jsonl --error wrong_answer=0.1
    """
    from thyme.nano.factory.checker import Slips
    from thyme.nano.factory.faults import DEFAULT_RATE, Rates
    from thyme.nano.factory.server import MODELS, Classroom, open_server

    rates = Rates(DEFAULT_RATE if rate is None else rate, _shares(error or []))
    if log is not None:
        _prepare(log)
    classroom = Classroom(seed, rates, Slips(miss, alarm, garbled), busy, log)
    try:
        server = open_server(classroom, host, port)
    except OSError as failure:
        raise UsageError(f"nothing can listen at {host}:{port} ({failure.strerror}); take another --port") from failure
    address = f"http://{host}:{server.server_address[1]}/v1"
    typer.echo(f"{' and '.join(MODELS)} at {address}", err=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass  # that is how it is ended
    finally:
        server.server_close()


def _prepare(log: Path) -> None:
    """See that the log can be written, before the server answers anybody.

    Raises:
        UsageError: It cannot.
    """
    options.make_folder(log.parent, "--log")
    try:
        log.open("a").close()
    except OSError as error:
        raise UsageError(f"{log} cannot be written ({error.strerror}); name another file with --log") from error


def _shares(given: list[str]) -> dict[str, float]:
    found = {}
    for one in given:
        name, _, share = one.partition("=")
        try:
            found[name] = float(share)
        except ValueError as error:
            raise UsageError(f"--error {one}: write CLASS=SHARE, such as wrong_answer=0.1") from error
        if not 0 <= found[name] <= 1:
            raise UsageError(f"--error {one}: a share lies between 0 and 1")
    return found


def caught(
    out: Build,
    log: Annotated[Path, typer.Option(metavar="FILE", help="That of `thyme nano teacher`.")],
    as_json: options.Json = False,
) -> None:
    """Say what became of every error that the teacher planted.

    Example: thyme nano caught runs/nano_data --log runs/planted.jsonl
    """
    from thyme.nano.factory.caught import compare

    table = compare(out, log)
    if as_json:
        typer.echo(json.dumps(table.as_json()))
    else:
        _show(table)


def _show(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn("class", "what", "planted", "caught or mended", "as meant", "otherwise", title="planted errors")
    for one in table.classes.values():
        good = "-" if one.rate is None else f"{one.rate:.0%}{' kept' if one.to_keep else ''}"
        others = ", ".join(f"{name} {count}" for name, count in one.otherwise.most_common())
        drawn.add_row(one.name, one.what, str(one.planted), good, str(one.as_meant), others)
    console = Console()
    console.print(drawn)
    for title, counts in (
        ("without a planted error", table.honest),
        ("not asked for", table.not_asked),
        ("errors of the checker", table.slips),
    ):
        told = (f"{name or 'no error'} {count}" for name, count in counts.most_common())
        console.print(f"{title}: {', '.join(told) or 'none'}")
    console.print(f"repaired blocks: {table.repaired.total()}, stored as they ran: {table.repaired[True]}")
    console.print(f"items that ask the same of the same picture as another: {table.repeats}")
    if table.unknown:
        console.print(f"in no line of the log: {table.unknown}")


def taught(
    out: Build,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder of trajectories that is made, a file a scenario.")],
) -> None:
    """Write accepted records as the embedded model sees them, for `thyme sft @nano_factory`.

    Example: thyme nano taught runs/nano_data --to runs/nano_taught
    """
    from thyme.data.factory.folder import require_build
    from thyme.nano.factory.taught import write_taught

    require_build(out)
    if to.exists():
        raise UsageError(f"'{to}' is there already; name another folder with --to")
    options.make_folder(to, "--to")
    written = write_taught(out, to)
    parts = ", ".join(f"{scenario} {count}" for scenario, count in written.items())
    typer.echo(f"{sum(written.values())} trajectories in {to}: {parts or 'none'}")
