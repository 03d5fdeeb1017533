"""``thyme studio``: pages on which people review the records of a build, or ask questions about large images."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from thyme.cli import options
from thyme.cli.training import named_prompts
from thyme.config.load import changed, overridden
from thyme.config.studio import StudioConfig
from thyme.errors import MissingExtraError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False)

DATABASE = "THYME_STUDIO_DATABASE"
_DEFAULTS = StudioConfig()

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a build (`thyme data build`).")]
Either = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a build, or of a collection.")]
Outs = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...", help="Folders of builds (`thyme data build`) and collections (`thyme rl-data collect`)."
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar=DATABASE,
        help="postgresql://USER:PASSWORD@HOST/NAME or sqlite:///FILE.",
        show_default="studio.db in the first folder",
    ),
]
Port = Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)]
PublicUrl = Annotated[
    str, typer.Option(metavar="URL", help="How reviewers reach the studio, such as https://review.example.org.")
]
Lead = Annotated[bool, typer.Option("--lead", help="The person leads: decides disputes, invites and exports.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any other setting: lease_s=600, annotation.experts=2, … Repeatable."
    ),
]


@app.callback()
def studio() -> None:
    """Pages for people: review records of a build, annotate images. See docs/studio.md and docs/annotation.md."""


@app.command()
def serve(
    outs: Outs,
    database: DatabaseUrl = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = _DEFAULTS.host,
    port: Port = _DEFAULTS.port,
    public_url: PublicUrl = "",
    double: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the records that two people review; for records new to the studio."),
    ] = 0.0,
    proxy_header: Annotated[
        str, typer.Option(metavar="NAME", help="Header in which a reverse proxy on this machine names the person.")
    ] = "",
    lead: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Who leads, of those whom the proxy names. Repeatable.")
    ] = None,
    isolation: options.Isolation = "best",
    settings: Set = None,
) -> None:
    """Serve the records of builds and the images of collections to people, until SIGTERM or Ctrl-C.

    The first start prints a link for the person who leads. Each start takes in what was added since the last one.

    Example: thyme studio serve runs/data --double 0.1
    """
    config = changed(_DEFAULTS, {
        "host": host, "port": port, "public_url": public_url, "double": double, "proxy_header": proxy_header,
        "leads": tuple(lead or ()), "sandbox": {"isolation": isolation},
    }, "the options")  # fmt: skip
    config = overridden(config, settings or [])
    asyncio.run(_part().serve(outs, config, database, named_prompts, _announce))


@app.command()
def invite(
    out: Either,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Whom the link lets in; empty: anybody new, who then says a name.")
    ] = "",
    lead: Lead = False,
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help="What they do with large images: annotate, second, expert. Repeatable."),
    ] = None,
    database: DatabaseUrl = None,
    public_url: PublicUrl = "",
    host: Annotated[str, typer.Option(help="Address that the studio listens on.")] = _DEFAULTS.host,
    port: Annotated[int, typer.Option(help="Its port.")] = _DEFAULTS.port,
) -> None:
    """Print a link that lets a reviewer in, once; the studio may be running.

    Example: thyme studio invite runs/data Ana
    """
    config = changed(_DEFAULTS, {"public_url": public_url, "host": host, "port": port}, "the options")
    run = _part()
    with run.opened([out], database) as held:
        typer.echo(run.invitation(held.database, config, name, lead=lead, roles=roles))


@app.command()
def export(out: Out, database: DatabaseUrl = None, as_json: options.Json = False) -> None:
    """Write the verdicts into the folder of the build, for `thyme data export --reviewed`.

    Example: thyme studio export runs/data
    """
    run = _part()
    if run.is_collection(out):
        raise UsageError(f"{out} is a collection; export its questions with `thyme rl-data export`")
    with run.reviewed(out, database) as (opened, name):
        counts = _part("verdicts").export(opened, name, out)
    if as_json:
        typer.echo(json.dumps(counts))
        return
    typer.echo(", ".join(f"{count} {what}" for what, count in counts.items()) + f" → {out / 'reviews.parquet'}")


@app.command()
def progress(out: Either, database: DatabaseUrl = None, as_json: options.Json = False) -> None:
    """Print how far the work is, by person, and how far people agree.

    Example: thyme studio progress runs/data
    """
    run = _part()
    if run.is_collection(out):
        with run.annotated(out, database) as (opened, name), opened.read() as session:
            _annotated(_part("annotation.figures").progress(session, name), as_json)
        return
    with run.reviewed(out, database) as (opened, name), opened.read() as session:
        figures = _part("figures")
        found = {**figures.progress(session, name), "agreement": figures.agreement(session, name)}
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(
        ", ".join(f"{count} {state}" for state, count in found["states"].items()) + f", {found['leased']} leased"
    )
    for one in found["reviewers"]:
        typer.echo(f"{one['name']}: {one['accepted']} accepted, {one['rejected']} rejected, {one['edited']} edited")
    typer.echo(_agreed(found["agreement"]))


def _agreed(found: dict[str, Any]) -> str:
    if not found["items"]:
        return "agreement: no record has two reviews yet"
    kappa = "not defined" if found["kappa"] is None else f"{found['kappa']:.2f}"
    return f"agreement: {found['agreed']} of {found['items']}, Cohen's kappa {kappa}"


def _annotated(found: dict[str, Any], as_json: bool) -> None:
    """Figures of a collection."""
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo("images: " + ", ".join(f"{count} {state}" for state, count in found["images"].items()))
    typer.echo("questions: " + ", ".join(f"{count} {state}" for state, count in found["states"].items()))
    for line in _lacking(found["wanted"]):
        typer.echo(line)
    for one in found["people"]:
        gold = f", {one['gold']['right']} of {one['gold']['of']} known answers right" if one["gold"]["of"] else ""
        typer.echo(
            f"{one['name']}: {one['written']} written ({one['returned']} came back), {one['answered']} answered, "
            f"{one['verdicts']} judged{gold}"
        )
    said = {name: "not known" if value is None else f"{value:.2f}" for name, value in found["agreement"].items()}
    typer.echo(
        f"agreement: answers {said['answers']}, kappa of categories {said['categories']}, of experts {said['experts']}"
    )


def _lacking(wanted: dict[str, dict[str, int | None]]) -> Iterator[str]:
    """What questions wait for, where that is known and something is; and whether there are people enough for it."""
    for role, kind, setting in (("second", "second answers", "second"), ("expert", "experts' verdicts", "experts")):
        each, lacking, people = (wanted[role][name] or 0 for name in ("each", "lacking", "people"))
        if not lacking:
            continue
        may = f"{each} a question; {people} {'person' if people == 1 else 'people'} may give them"
        if people < each:
            may += f"; `thyme studio invite … --role {role}` lets in more, --set annotation.{setting}=N asks for fewer"
        yield f"lacking: {lacking} {kind} ({may})"


def _announce(address: str, records: int, images: int, link: str | None) -> None:
    new = f"{records} new records, {images} new images" if images else f"{records} new records"
    typer.echo(f"thyme: the studio is at {address}; {new}", err=True)
    if link is not None:
        typer.echo(f"thyme: nobody is known here yet; come in, once, by {link}", err=True)


def _part(name: str = "run") -> Any:
    """A module of the studio, imported when it is wanted."""
    try:
        return import_module(f"thyme.studio.{name}")
    except ImportError as error:
        raise MissingExtraError("thyme studio", "studio") from error
