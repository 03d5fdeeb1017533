"""``thyme nano``: the embedded model and its world: look, measure, train.

The ablations are in `thyme.cli.nano_ablate`, what belongs to the data factory in `thyme.cli.nano_factory`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from thyme.cli import nano_ablate, nano_factory, options
from thyme.cli.training import missing_extra
from thyme.errors import UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False)

StageName = Literal["tower", "lists", "digits", "mixture", "polish", "demonstrations", "sft", "direct"]
SplitName = Literal["train", "validation", "test"]


class KindName(StrEnum):
    """Kinds of question; typer takes lists of an enumeration only."""

    EASY = "easy"
    MEDIUM = "medium"
    ZOOM = "zoom"
    ROTATION = "rotation"
    CONTRAST = "contrast"
    ARITHMETIC = "arithmetic"
    TWO_ROUND = "two_round"


class LayoutName(StrEnum):
    """Layouts of thyme-mini."""

    TSV = "tsv"
    PARQUET = "parquet"
    JSONL = "jsonl"


Kinds = Annotated[list[KindName] | None, typer.Option("--kind", help="Only this kind. Repeatable.", show_default="all")]


@app.callback()
def nano() -> None:
    """The embedded model and its world: look, measure, train. See docs/nano.md."""


@app.command()
def problems(
    out: Annotated[Path, typer.Argument(help="Folder for the pictures and problems.jsonl.", metavar="DIR")],
    count: Annotated[int, typer.Option(min=1, help="Problems of each kind.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 7,
    split: Annotated[
        SplitName, typer.Option(help="train is for models to learn from, the others to measure on; none overlap.")
    ] = "test",
    kinds: Kinds = None,
) -> None:
    """Draw problems of the embedded world into a folder, to look at or to ask about.

    Example: thyme nano problems scenes --kind zoom --seed 7
    """
    import json

    from thyme.nano.world import KINDS
    from thyme.nano.world import problems as draw

    options.make_folder(out, "DIR")
    with (out / "problems.jsonl").open("w", encoding="utf-8") as lines:
        for problem in draw(split, seed, count, tuple(k for k in KINDS if kinds is None or k in kinds)):
            names = [f"{problem.id}.png" for _ in problem.images]
            for name, image in zip(names, problem.images, strict=True):
                image.image.save(out / name)
            record = {"id": problem.id, "kind": problem.kind, "question": problem.question, "answer": problem.answer}
            lines.write(json.dumps({**record, "images": names}) + "\n")
            typer.echo(f"{' '.join(names) or '(no image)'}: {problem.question} -> {problem.answer}")


@app.command("eval")
def evaluate(
    seed: Annotated[int, typer.Option(help="Seed of the problems; none of them was used in training.")] = 7,
    per_kind: Annotated[int, typer.Option(min=1, help="Problems of each kind.")] = 100,
    kinds: Kinds = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.", metavar="FILE")] = None,
    final: Annotated[
        Path | None, typer.Option(help="Checkpoint that uses tools.", metavar="FOLDER", show_default="the embedded one")
    ] = None,
    direct: Annotated[
        Path | None, typer.Option(help="Direct baseline.", metavar="FOLDER", show_default="the embedded one")
    ] = None,
    tools_only: Annotated[
        bool, typer.Option("--tools-only", help="Leave code blocked and the baseline out, in half the time.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Ask fresh problems: with tools, with code blocked, and of the baseline that answers directly.

    Example: thyme nano eval --seed 7 --per-kind 20 --kind zoom
    """
    from rich.console import Console

    from thyme.nano.evaluate import ARMS, measure
    from thyme.nano.world import KINDS

    if json_file is not None:
        _writable(json_file)
    measured = measure(
        seed=seed,
        per_kind=per_kind,
        kinds=tuple(k for k in KINDS if kinds is None or k in kinds),
        final=final,
        direct=direct,
        arms=ARMS[:1] if tools_only else ARMS,
        progress=not quiet,
    )
    Console().print(measured.table())
    if json_file is not None:
        measured.write(json_file)


def _writable(json_file: Path) -> None:
    """Refuse a file that cannot be written before anything is asked.

    Raises:
        UsageError: It is a folder, or its folder cannot be written.
    """
    if json_file.is_dir():
        raise UsageError(f"'{json_file}' is a folder; name a file with --json")
    options.make_folder(json_file.parent, "--json")


@app.command()
def mini(
    out: Annotated[Path, typer.Option(help="Folder for the files; 180 MB.", metavar="DIR")],
    per_kind: Annotated[int, typer.Option(min=1, max=200, help="Problems of each kind, the first ones.")] = 200,
    layout: Annotated[
        list[LayoutName] | None, typer.Option(help="Only this layout. Repeatable.", show_default="all")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Write thyme-mini, the embedded world's published benchmark, as TSV, Parquet and JSON lines.

    Example: thyme nano mini --out few --per-kind 4 --layout tsv
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from thyme.nano.mini import KINDS
    from thyme.nano.mini_files import write

    options.make_folder(out, "--out")
    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn())
    layouts = tuple(name.value for name in layout or ())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("", total=per_kind * len(KINDS))
        written = write(out, per_kind=per_kind, layouts=layouts, advance=lambda: bar.advance(task))
    typer.echo(f"{written.rows} problems in {out}: {', '.join(written.files)}; checksum {written.checksum}")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Work folder; an interrupted run goes on there.", metavar="DIR")] = Path(
        "runs/nano"
    ),
    stage: Annotated[StageName | None, typer.Option(help="Only this stage, anew.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw scenes.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training itself.")] = 1,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps of each stage; learns nothing.")] = False,
) -> None:
    """Train the embedded model from random weights: perception, demonstrations, fine-tuning, direct baseline.

    Example: thyme nano train --smoke --out runs/smoke
    """
    options.check_folder(out, "--out")
    try:
        from thyme.nano.train import SMOKE, Recipe, Road
    except ImportError as error:
        raise missing_extra(error, "training the embedded model") from error

    road = Road(
        work=out,
        recipe=SMOKE if smoke else Recipe(),
        report=lambda line: typer.echo(line, err=True),
        workers=workers,
        threads=threads,
        compile=not smoke,
    )
    road.run(stage)


app.command("ablate-sft")(nano_ablate.ablate_sft)
app.command("ablate-grpo")(nano_ablate.ablate_grpo)
app.command()(nano_factory.teacher)
app.command()(nano_factory.caught)
app.command()(nano_factory.taught)
