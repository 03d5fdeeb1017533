"""``thyme nano``: train, measure and look at the embedded model and its world."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from thyme.cli import nano_factory
from thyme.errors import MissingExtraError, UsageError

app = typer.Typer(help="Train and evaluate the embedded model.", no_args_is_help=True, add_completion=False)

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


@app.command("eval")
def evaluate(
    seed: Annotated[int, typer.Option(help="Of the problems; any, none was used in training.")] = 7,
    per_kind: Annotated[int, typer.Option(min=1, help="Problems of each kind.")] = 100,
    kind: Annotated[list[KindName] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.", metavar="FILE")] = None,
    final: Annotated[Path | None, typer.Option(help="Another checkpoint that uses tools.", metavar="FOLDER")] = None,
    direct: Annotated[Path | None, typer.Option(help="Another direct baseline.", metavar="FOLDER")] = None,
    tools_only: Annotated[
        bool, typer.Option("--tools-only", help="Leave code blocked and the baseline out, in half the time.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Ask fresh problems: with tools, with code blocked, and of the baseline that answers directly.

    Example: thyme nano eval --seed 7 --per-kind 20 --kind zoom
    """
    from rich.console import Console

    from thyme.nano.evaluate import ARMS, measure
    from thyme.nano.world import KINDS

    measured = measure(
        seed=seed,
        per_kind=per_kind,
        kinds=tuple(k for k in KINDS if kind is None or k in kind),
        final=final,
        direct=direct,
        arms=ARMS[:1] if tools_only else ARMS,
        progress=not quiet,
    )
    Console().print(measured.table())
    if json_file is not None:
        measured.write(json_file)


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
    try:
        from thyme.nano.train import SMOKE, Recipe, Road
    except ModuleNotFoundError as error:
        raise MissingExtraError("training the embedded model", "train") from error

    road = Road(
        work=out,
        recipe=SMOKE if smoke else Recipe(),
        report=lambda line: typer.echo(line, err=True),
        workers=workers,
        threads=threads,
        compile=not smoke,
    )
    road.run(stage)


@app.command("ablate-sft")
def ablate_sft(
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on there.", metavar="DIR")],
    seeds: Annotated[str, typer.Option(help="Comma-separated whole numbers from 1 on.")] = "1,2,3",
    arms: Annotated[str, typer.Option(help="Comma-separated; all unless named.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the arms that start from the base.")] = None,
    per_kind: Annotated[int | None, typer.Option(min=1, help="Test problems of each kind a seed.")] = None,
    demonstrations: Annotated[
        Path | None, typer.Option(help="Take demonstrations from this file instead of making them.", exists=True)
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Arms that are trained at a time.")] = 1,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps and problems; learns nothing.")] = False,
) -> None:
    """Repeat the paper's ablation of fine-tuning in miniature: masks, last round, annealing; with intervals.

    Example: thyme nano ablate-sft --out runs/ablation --seeds 1,2,3 --workers 2
    """
    try:
        from thyme.nano.ablation.run import run
    except ModuleNotFoundError as error:
        raise MissingExtraError("the ablation", "train") from error
    from rich.console import Console

    from thyme.nano.ablation.arms import ARMS, SMOKE, AblationSettings
    from thyme.nano.ablation.report import Ablation

    changed = {"steps": steps, "problems": per_kind}
    how = (SMOKE if smoke else AblationSettings()).model_copy(
        update={name: value for name, value in changed.items() if value is not None}
    )
    results = run(
        out,
        how,
        seeds=_whole_numbers(seeds),
        arms=[name.strip() for name in arms.split(",")] if arms else list(ARMS),
        demonstrations=demonstrations,
        workers=workers,
    )
    found = Ablation.of(results, how, demonstrations)
    found.write(out)
    for table in found.tables():
        Console().print(table)


@app.command("ablate-grpo")
def ablate_grpo(
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on there.", metavar="DIR")],
    start: Annotated[
        Literal["weak", "injected", "careless", "both", "all"],
        typer.Option(help="What the arms start from; both: the first two."),
    ] = "all",
    arms: Annotated[str, typer.Option(help="Comma-separated; unless named, those that each start is for.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated whole numbers from 1 on.")] = "1,2,3",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of each arm.")] = None,
    per_kind: Annotated[int | None, typer.Option(min=1, help="Test problems of each kind a seed.")] = None,
    given: Annotated[
        list[Path] | None, typer.Option(help="A start of another run (RUN/weak/build); may be repeated.", exists=True)
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Arms that are trained at a time.")] = 1,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps and problems; learns nothing.")] = False,
) -> None:
    """Compare arms of GRPO-ATS in miniature: temperature and policy of code, gating, repairs; with intervals.

    Example: thyme nano ablate-grpo --out runs/ablation_grpo --seeds 1,2,3 --workers 2
    """
    try:
        from thyme.nano.grpo_ablation.run import run
    except ModuleNotFoundError as error:
        raise MissingExtraError("the ablation", "train") from error
    from rich.console import Console

    from thyme.nano.grpo_ablation.arms import SMOKE, STARTS, GRPOAblationSettings
    from thyme.nano.grpo_ablation.report import asked_beforehand, sentences, write
    from thyme.nano.sheets import as_tables

    changed = {"steps": steps, "asked": per_kind}
    how = (SMOKE if smoke else GRPOAblationSettings()).model_copy(
        update={name: value for name, value in changed.items() if value is not None}
    )
    found = run(
        out,
        how,
        seeds=_whole_numbers(seeds),
        starts=[name for name in STARTS if start in {name, "all"} or (start == "both" and name != "careless")],
        arms=[name.strip() for name in arms.split(",")] if arms else (),
        given=given or (),
        workers=workers,
    )
    write(found, out)
    for table in as_tables([asked_beforehand(found)]):
        Console().print(table)
    for line in sentences(found):
        Console().print(line, highlight=False)


@app.command()
def mini(
    out: Annotated[Path, typer.Option(help="Folder for the files; 180 MB.", metavar="DIR")],
    per_kind: Annotated[int, typer.Option(min=1, max=200, help="The first of each kind only.")] = 200,
    layout: Annotated[list[LayoutName] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Write thyme-mini, the embedded world's published benchmark, as TSV, Parquet and JSON lines.

    Example: thyme nano mini --out few --per-kind 4 --layout tsv
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from thyme.nano.mini import KINDS
    from thyme.nano.mini_files import write

    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn())
    layouts = tuple(name.value for name in layout or ())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("", total=per_kind * len(KINDS))
        written = write(out, per_kind=per_kind, layouts=layouts, advance=lambda: bar.advance(task))
    typer.echo(f"{written.rows} problems in {out}: {', '.join(written.files)}; checksum {written.checksum}")


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of whole numbers, e.g. 1,2,3") from error


@app.command()
def problems(
    out: Annotated[Path, typer.Argument(help="Folder for the pictures and problems.jsonl.", metavar="DIR")],
    count: Annotated[int, typer.Option(min=1, help="Problems of each kind.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the problems.")] = 7,
    split: Annotated[SplitName, typer.Option(help="Salts the random stream.")] = "test",
    kind: Annotated[list[KindName] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
) -> None:
    """Draw problems of the embedded world into a folder, to look at or to ask about.

    Example: thyme nano problems scenes --kind zoom --seed 7
    """
    import json

    from thyme.nano.world import KINDS
    from thyme.nano.world import problems as draw

    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is not a folder")
    out.mkdir(parents=True, exist_ok=True)
    with (out / "problems.jsonl").open("w", encoding="utf-8") as lines:
        for problem in draw(split, seed, count, tuple(k for k in KINDS if kind is None or k in kind)):
            names = [f"{problem.id}.png" for _ in problem.images]
            for name, image in zip(names, problem.images, strict=True):
                image.image.save(out / name)
            record = {"id": problem.id, "kind": problem.kind, "question": problem.question, "answer": problem.answer}
            lines.write(json.dumps({**record, "images": names}) + "\n")
            typer.echo(f"{' '.join(names) or '(no image)'}: {problem.question} -> {problem.answer}")


app.command()(nano_factory.teacher)
app.command()(nano_factory.caught)
app.command()(nano_factory.taught)
