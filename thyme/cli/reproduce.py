"""``thyme reproduce``: the paper's claims in miniature, with a verdict each."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thyme.cli.options import make_folder, whole_numbers
from thyme.cli.training import missing_extra
from thyme.errors import TrainingError

if TYPE_CHECKING:
    from rich.console import Console

    from thyme.reproduce.graph import Step, Store
    from thyme.reproduce.plan import Settings
    from thyme.reproduce.runner import Sitting

app = typer.Typer(add_completion=False)


_Quick = Annotated[
    bool,
    typer.Option("--quick", help="One seed, fewer steps and problems, no ablations: a look in a quarter of an hour."),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the run.", show_default="runs/reproduction, or runs/reproduction-quick"
    ),
]
_Docs = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write reproduction.md, its plot and results/ there too.")
]
_Seeds = Annotated[
    str,
    typer.Option(help="Different whole numbers from 1 on, separated by commas.", show_default="1,2,3; with --quick 1"),
]
_Only = Annotated[
    list[str] | None,
    typer.Option(metavar="STEP", help="Only this step, or kind of step, and what it builds on. Repeatable."),
]
_Until = Annotated[
    float | None, typer.Option(metavar="MINUTES", min=0, help="Begin no step that is expected to end later.")
]
_Workers = Annotated[int, typer.Option(min=1, help="Steps at a time, each in a process of its own.")]
_Stored = Annotated[
    bool, typer.Option("--stored", help="Begin with the results in this repository's docs; run what they lack.")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the steps, which are done, and expected minutes; do nothing.")
]
_Smoke = Annotated[bool, typer.Option("--smoke", help="Everything at its least; learns nothing.", hidden=True)]


@app.command()
def reproduce(
    quick: _Quick = False,
    out: _Out = None,
    docs: _Docs = None,
    seeds: _Seeds = "",
    only: _Only = None,
    until: _Until = None,
    workers: _Workers = 2,
    stored: _Stored = False,
    dry_run: _DryRun = False,
    smoke: _Smoke = False,
) -> None:
    """Repeat the paper's claims with the embedded model: train, ask, ablate, and judge by rules written down before.

    What is done is kept: the same command goes on where it was interrupted.

    Example: thyme reproduce --quick

    Example: thyme reproduce --until 120 --workers 2
    """
    from rich.console import Console

    from thyme.reproduce.graph import Store, chosen
    from thyme.reproduce.plan import plan
    from thyme.reproduce.runner import Runner
    from thyme.reproduce.stored import take_stored
    from thyme.reproduce.writing import keep_plan, write

    settings = _settings(quick, smoke, seeds)
    steps = plan(settings)
    wanted = chosen(steps, only or ())
    folder = out or Path("runs/reproduction-quick" if quick else "runs/reproduction")
    store = Store(folder)
    if stored:
        take_stored(store)
    if dry_run:
        _show(steps, wanted, store, workers, Console())
        return
    _check_extra()
    make_folder(folder, "--out")
    if docs is not None:
        make_folder(docs, "--docs")
    console = Console(stderr=True)
    keep_plan(store, settings)
    runner = Runner(
        store,
        command=_command(quick, seeds, smoke),
        workers=workers,
        until_s=None if until is None else 60 * until,
        tell=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    try:
        sitting = runner.run(wanted)
    finally:
        written = write(store, docs)
    typer.echo(f"written: {', '.join(map(str, written))}")
    _end(sitting, steps, console)


def _settings(quick: bool, smoke: bool, seeds: str) -> Settings:
    from thyme.nano.jobs import check_seeds
    from thyme.reproduce.plan import QUICK, SMOKE, Settings

    settings = SMOKE if smoke else QUICK if quick else Settings()
    if not seeds:
        return settings
    numbers = whole_numbers(seeds)
    check_seeds(numbers)
    return settings.model_copy(update={"seeds": tuple(numbers)})


def _command(quick: bool, seeds: str, smoke: bool) -> str:
    """What is written into the results: all that decides about figures, and no path."""
    words = ["thyme", "reproduce", *(["--quick"] if quick else []), *(["--smoke"] if smoke else [])]
    words += ["--seeds", seeds] if seeds else []
    return shlex.join(words)


def _check_extra() -> None:
    """See that what the steps need is installed, before the first process is started."""
    try:
        import thyme.reproduce.doing  # noqa: F401  # what the extra brings is missing here or nowhere
    except ImportError as error:
        raise missing_extra(error, "the reproduction") from error


def _show(steps: list[Step], wanted: list[Step], store: Store, workers: int, console: Console) -> None:
    from rich.table import Table

    from thyme.reproduce.graph import done
    from thyme.reproduce.runner import pace

    holding = done(steps, store)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("step", "", "minutes", "what it does"):
        table.add_column(name, justify="right" if name == "minutes" else "left")
    for step in wanted:
        result = holding.get(step.name)
        table.add_row(step.name, "" if result is None else "done", f"{step.minutes:.1f}", step.title)
    console.print(table)
    todo = [step for step in wanted if step.name not in holding]
    left, slower = sum(step.minutes for step in todo), pace(steps, holding)
    console.print(
        f"{len(todo)} of {len(wanted)} steps to do, about {left:.0f} minutes of one quiet core, "
        f"{left / workers:.0f} with --workers {workers} on as many"
        + (f"; steps took {slower:.1f} times as long here so far" if holding else ""),
        highlight=False,
        soft_wrap=True,
    )


def _end(sitting: Sitting, steps: list[Step], console: Console) -> None:
    if sitting.left:
        minutes = sum(step.minutes for step in steps if step.name in sitting.left)
        told = f"{len(sitting.left)} steps are left, about {minutes:.0f} minutes of one core; the same command goes on"
        console.print(told, highlight=False, soft_wrap=True)
    if sitting.failed:
        failed = "; ".join(f"{name}: {why}" for name, why in sitting.failed.items())
        raise TrainingError(f"{len(sitting.failed)} steps failed ({failed}); what is done is kept")
