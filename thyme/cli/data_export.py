"""``thyme data export``: the records of a build in a format that others read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thyme.cli import options
from thyme.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from thyme.data.export.run import Export, Summary
    from thyme.data.factory.held_out import HeldOut
    from thyme.data.factory.manifest import Manifest

Format = Literal["messages", "thyme-sft", "trajectories", "ms-swift", "llama-factory"]


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a build (`thyme data build --out`).")],
    format: Annotated[
        Format,
        typer.Option(
            help="messages: Parquet of messages and images for Hugging Face's datasets; thyme-sft: the published "
            "schema; trajectories: this package's own; ms-swift, llama-factory: JSON lines with images beside them."
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder that is made.")],
    replay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the records whose code runs again, to give the same.")
    ] = 1.0,
    reviewed: Annotated[
        bool, typer.Option("--reviewed", help="Only what people accepted in the studio, as they left it.")
    ] = False,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only records of this scenario, to be learnt with a mask of their own. Repeatable."
        ),
    ] = None,
    bench: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="No record may show a picture of this benchmark, beside those of the recipe. Repeatable.",
        ),
    ] = None,
    isolation: options.Isolation = "best",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write the accepted records in a format that others read, each looked at once more.

    Records that are not well-formed, lack a picture or show one of a benchmark are left out and counted.

    So are those whose code no longer gives what is stored. Exit code 1 where nothing is left.

    Example: thyme data export runs/data --format messages --to export/messages
    """
    from rich.console import Console

    from thyme.data.export.run import run_export

    console = Console(stderr=True, quiet=quiet or as_json, highlight=False)
    told = _export(
        out, format, to, tuple(scenario or ()), replay=replay, reviewed=reviewed, bench=bench or [], isolation=isolation
    )
    summary = _with_progress(told, console) if console.is_terminal else run_export(told)
    if as_json:
        typer.echo(json.dumps(summary.model_dump(mode="json")))
    else:
        _tell(summary, to)
    if not summary.written:
        raise typer.Exit(1)


def _export(
    out: Path,
    format: Format,
    to: Path,
    scenarios: tuple[str, ...],
    *,
    replay: float,
    reviewed: bool,
    bench: list[str],
    isolation: Literal["best", "namespaces", "landlock"],
) -> Export:
    from thyme.data.export.run import Export
    from thyme.data.factory.folder import require_build
    from thyme.data.factory.manifest import read_manifest

    require_build(out)
    manifest = read_manifest(out)
    assert manifest is not None  # the folder holds one
    if unknown := [name for name in scenarios if name not in manifest.recipe.scenarios]:
        raise UsageError(f"{out} has no scenario '{unknown[0]}'; it has {', '.join(manifest.recipe.scenarios)}")
    return Export(
        out=out,
        to=to,
        format=format,
        replay=replay,
        reviewed=reviewed,
        scenarios=scenarios,
        held_out=_held_out(manifest, bench),
        bits=manifest.recipe.duplicates,
        sandbox=manifest.recipe.sandbox.model_copy(update={"isolation": isolation}),
        concurrency=2 * (os.cpu_count() or 1),
    )


def _held_out(manifest: Manifest, bench: list[str]) -> HeldOut:
    """Pictures of the benchmarks that the recipe names, and of others."""
    from thyme.cli.data_work import held_out

    names = tuple(dict.fromkeys([*manifest.recipe.benchmarks, *bench]))
    return held_out(manifest.recipe.model_copy(update={"benchmarks": names}))


def _with_progress(export: Export, console: Console) -> Summary:
    from rich.progress import Progress

    from thyme.data.export.run import run_export
    from thyme.data.factory.folder import count_records

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"{export.format}", total=count_records(export.out)[0])
        return run_export(export, lambda written, left: bar.update(task, completed=written + left))


def _tell(summary: Summary, to: Path) -> None:
    from thyme.data.export.checks import MEANINGS

    typer.echo(f"{summary.written} records in {to} ({summary.format})")
    if summary.share > 0:
        typer.echo(f"replayed {summary.replayed} of them, {summary.blocks} code blocks: all gave what is stored")
    typer.echo(f"no code in {summary.without_code}; compared with {summary.held_out} pictures of benchmarks")
    for reason, count in summary.reasons.items():
        typer.echo(f"left out {count}: {MEANINGS[reason]} ({reason})")
    if summary.reasons:
        typer.echo(f"which, and why, stands in {to / 'export.json'}")
