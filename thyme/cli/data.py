"""``thyme data``: make training data from images and a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from thyme.cli import data_report, data_work, options
from thyme.cli.data_export import export
from thyme.cli.training import Quiet, Recipe, read_recipe, run_folder, run_name
from thyme.config.data import DataRecipe
from thyme.config.load import changed

app = typer.Typer(no_args_is_help=True, add_completion=False)

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the build; one that is not finished goes on.",
        show_default="runs/ and the recipe's name",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Over the recipe: count=1000, scenarios.crop=0.5, teachers.NAME.model=URL#NAME, budget.usd=20, "
        "sandbox.timeout_s=30, … Repeatable.",
    ),
]


@app.callback()
def data() -> None:
    """Make training data from images and a teacher: verified records. See docs/data.md."""


@app.command()
def build(
    recipe: Recipe,
    out: Out = None,
    settings: Set = None,
    executor: Annotated[
        Literal["local", "ray"] | None, typer.Option(help="Where it is done: in processes here, or on a Ray cluster.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes, or actors on Ray, at once.", show_default="one for each core")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make records: draw, ask the teacher, run its code, check; every record that the folder does not hold yet.

    Whatever ended a build, Ctrl-C, kill -9 or its budget: the same command goes on from there.

    Example: thyme data build @recipe.toml --out runs/data

    Example: thyme data build @recipe.toml --out runs/data --set budget.usd=50 --set count=500000
    """
    given: dict[str, Any] = {"executor": executor, "processes": processes}
    read = read_recipe(recipe, settings, None, DataRecipe)
    read = changed(read, {name: value for name, value in given.items() if value is not None}, "the options")
    folder = run_folder(out, read, run_name(recipe))
    options.make_folder(folder, "--out")
    with options.kept_when_interrupted("what is finished"):
        data_work.build(read, folder, progress=not quiet)


app.command()(data_report.report)
app.command()(export)
