"""``thyme rl-data filter``: problems to train on, out of public sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import thyme
from thyme.cli import options
from thyme.cli.training import Quiet, named_prompts, run_folder, run_name
from thyme.config.load import changed, load, overridden
from thyme.config.rl_filter import FilterRecipe, FilterSource
from thyme.data.filter.benchmarks import Benchmarks
from thyme.data.filter.manifest import FilterManifest
from thyme.data.filter.run import REPORT, Filter, run_filter
from thyme.data.sources.lines import files_fingerprint
from thyme.models import open_model
from thyme.prompts import PromptSet
from thyme.types import Problem

RecipeOrPath = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|PATH",
        help="@NAME of a shipped recipe, @FILE, or what is to be filtered: a JSON-lines, Parquet, TSV or CSV file, a "
        "folder, or the hub id of a dataset, OWNER/NAME.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the run; what is found there is used.",
        show_default="runs/ and the recipe's name",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="Ask this model, and keep what it is right about sometimes; see `thyme ask`.", metavar="MODEL"),
]
Samples = Annotated[int | None, typer.Option(min=1, help="Ask so many times.", show_default="the recipe's, else 8")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Over the recipe: resolution.min_side=2048, difficulty.high=0.75, balance.each=1000, "
        "benchmarks.names=['VStarBench'], format=thyme-rl, … Repeatable.",
    ),
]


def filter_rows(
    recipe: RecipeOrPath,
    out: Out = None,
    model: Model = None,
    samples: Samples = None,
    settings: Set = None,
    quiet: Quiet = False,
) -> None:
    """Keep problems whose answer a rule can check, that nobody measures on, and that are neither too easy nor too hard.

    Whatever ended a run, Ctrl-C or kill -9: the same command goes on from there.

    Example: thyme rl-data filter @thyme_rl --out runs/filtered --model http://localhost:8000/v1#Qwen2.5-VL-7B-Instruct

    Example: thyme rl-data filter problems.parquet --out runs/filtered --set resolution.min_side=2048
    """
    read = _recipe(recipe, settings or [])
    given = {"model": model, "samples": samples}
    asked = {name: value for name, value in given.items() if value is not None}
    if asked:
        read = changed(read, {"difficulty": changed(read.difficulty, asked, "the options")}, "the options")
    folder = run_folder(out, read, run_name(recipe))
    options.make_folder(folder, "--out")
    with options.kept_when_interrupted("what was found"):
        _say(run_filter(_job(read, folder), progress=not quiet), folder)


def _recipe(text: str, settings: list[str]) -> FilterRecipe:
    """A recipe, or one of the defaults for a path."""
    if text.startswith("@") or text.endswith(".toml"):
        return load(text, settings, FilterRecipe)
    name = "".join(sign if sign.isalnum() else "_" for sign in Path(text).stem).strip("_") or "rows"
    return overridden(FilterRecipe(sources={name: FilterSource(path=text)}), settings)


def _job(recipe: FilterRecipe, out: Path) -> Filter:
    from thyme.cli.data_work import WORLDS

    prompts = named_prompts(recipe.difficulty.prompts)
    return Filter(
        recipe,
        out,
        open_model,
        words=None if prompts is None else PromptSet.load(prompts),
        model_fingerprint=_model_fingerprint(recipe.difficulty.model),
        worlds=WORLDS,
        benchmarks=_benchmarks(recipe),
    )


def _model_fingerprint(model: str) -> str:
    """Hash of a model's files, so that another model in the same folder is asked anew; the version of embedded ones."""
    folder = Path(model)
    if model and folder.is_dir():
        return files_fingerprint(sorted(path for path in folder.rglob("*") if path.is_file()))
    return thyme.__version__ if model.partition(":")[0] == "nano" else ""


def _benchmarks(recipe: FilterRecipe) -> Benchmarks:
    """Hashes of what the recipe names.

    Raises:
        UsageError: There is no such benchmark or file.
        StoreError: A file cannot be read.
    """
    return Benchmarks.of(_problems(recipe), perceptual=recipe.benchmarks.bits >= 0)


def _problems(recipe: FilterRecipe) -> Iterator[Problem]:
    from thyme.cli.data_work import benchmark_problems

    return benchmark_problems(recipe.benchmarks.names)


def _say(made: FilterManifest, out: Path) -> None:
    figures = made.figures
    typer.echo(f"{figures.kept} of {figures.rows} problems kept: {out}", err=True)
    if unmeasured := figures.dropped.get("difficulty", {}).get("unmeasured"):
        typer.echo(f"thyme: {unmeasured} could not be measured; the same command asks them again", err=True)
    typer.echo(f"report: {out / REPORT}", err=True)
