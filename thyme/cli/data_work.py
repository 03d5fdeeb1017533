"""What ``thyme data build`` does: bring the parts of the package together that data may not know of, and run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from thyme.cli.training import named_prompts
from thyme.config.data import DataRecipe, SourceSettings
from thyme.data.factory.build import Build
from thyme.data.factory.held_out import HeldOut
from thyme.data.factory.manifest import Manifest
from thyme.data.factory.run import run_build
from thyme.data.report.write import PAGE, write_report
from thyme.data.sources import World
from thyme.data.sources.base import Source
from thyme.types import Problem

logger = logging.getLogger(__name__)


def build(recipe: DataRecipe, out: Path, *, progress: bool) -> Manifest:
    """Run a build, write its report, and say what came of it."""
    asked = Build(recipe, out, named_prompts(recipe.prompts), WORLDS, held_out(recipe))
    made = run_build(asked, progress=progress)
    total = made.kept + made.rejected
    typer.echo(f"{made.kept} records, {made.rejected} rejected, of {made.count}: {out}", err=True)
    write_report(out)
    typer.echo(f"what came in, what went out, and why: {out / PAGE}", err=True)
    if made.state == "spent":
        typer.echo(
            f"thyme: the budget is used up after {total} of {made.count}; the same command with a larger one "
            f"(--set {_budget(recipe)}) goes on from there",
            err=True,
        )
    return made


def _budget(recipe: DataRecipe) -> str:
    """A larger budget of each kind that is bounded."""
    bounds = recipe.budget.model_dump(exclude_none=True)
    return " --set ".join(f"budget.{name}={2 * value:g}" for name, value in bounds.items()) or "budget.usd=..."


def held_out(recipe: DataRecipe) -> HeldOut:
    """Hashes of the pictures of the benchmarks that a recipe names.

    Raises:
        UsageError: There is no such benchmark or file.
        StoreError: A file cannot be read.
    """
    pictures = (image for problem in benchmark_problems(recipe.benchmarks) for image in problem.images)
    return HeldOut.of(pictures, perceptual=recipe.duplicates is not None)


def benchmark_problems(names: Iterable[str]) -> Iterator[Problem]:
    """Problems of benchmarks or files, one at a time.

    Raises:
        UsageError: There is no such benchmark or file.
        StoreError: A file cannot be read.
    """
    from thyme.cli.eval_work import KNOWN
    from thyme.eval.benchmarks.custom import custom
    from thyme.eval.benchmarks.files import data_folders, find_file, read_benchmark

    for name in names:
        known = KNOWN.get(name)
        other, way_out = () if known is None else known.files, "or give the path of the file instead of its name"
        path = find_file(name, data_folders(), other=other, way_out=way_out)
        yield from read_benchmark(known or KNOWN.get(path.stem) or custom(path), path)


def _nano(name: str, settings: SourceSettings, seed: int) -> Source:
    """The embedded world, imported where it is drawn from."""
    from thyme.nano.factory.source import open_nano

    return open_nano(name, settings, seed)


WORLDS: dict[str, World] = {"nano": _nano}
"""Built-in sources by name."""
