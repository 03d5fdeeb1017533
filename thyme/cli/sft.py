"""``thyme sft``: fine-tune on trajectories as a recipe says, or look at what a recipe would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thyme.cli.training import (
    Out,
    Quiet,
    Recipe,
    Trackers,
    embedded_prompts,
    hush,
    missing_extra,
    named_prompts,
    read_recipe,
    run_folder,
    run_name,
    starting_checkpoint,
)
from thyme.config.sft_recipe import SFTRecipe

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False)


@app.command()
def sft(
    recipe: Recipe,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Over the recipe: train.epochs=1 (all stages), stages.images.train.learning_rate=2e-5, "
            "stages.images.data.NAME.limit=100, evaluation.every_steps=50, … Repeatable.",
        ),
    ] = None,
    out: Out = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip finished stages, go on with an unfinished one.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this stage; the one before must be finished.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check recipe and data, show first samples, steps, memory and cost; train nothing."
        ),
    ] = False,
    tracker: Trackers = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on trajectories: stage after stage, each from the end of the one before.

    Example: thyme sft @nano_sft --out runs/nano_sft

    Example: accelerate launch --config_file FILE -m thyme sft @thyme_7b --out runs/thyme_7b
    """
    read, name = read_recipe(recipe, settings, tracker, SFTRecipe), run_name(recipe)
    folder = run_folder(out, read, name)
    try:
        work = _Work(read, name, folder, quiet=quiet)
    except ImportError as error:
        raise missing_extra(error, "fine-tuning") from error
    if dry_run:
        work.check(stage)
    else:
        work.run(resume=resume, stage=stage)


class _Work:
    """One call of the command, everything that needs torch behind it."""

    def __init__(self, recipe: SFTRecipe, name: str, out: Path, *, quiet: bool) -> None:
        from rich.console import Console

        import thyme.train.sft.run  # noqa: F401  # what the extra brings is missing here or nowhere
        from thyme.nano import checkpoint_path
        from thyme.nano.sources import NANO, nano_problems, nano_readers
        from thyme.prompts import PromptSet
        from thyme.train.distributed import is_main

        self.recipe, self.name, self.out = recipe, name, out
        self.console: Console = Console(stderr=True, quiet=quiet or not is_main())
        self.model = starting_checkpoint(recipe.model)
        self.prompts = named_prompts(recipe.prompts)
        words = PromptSet.load(self.prompts or embedded_prompts())
        self.readers: dict[str, Any] = nano_readers(
            out / "data", checkpoint_path("base"), words, lambda line: self.console.print(f"nano: {line}")
        )
        self.problem_readers = {NANO: nano_problems}

    def run(self, *, resume: bool, stage: str | None) -> None:
        """Train."""
        from thyme.train.report.summary import run_table
        from thyme.train.sft.run import run_sft

        hush()
        report = run_sft(
            self.recipe,
            self.name,
            self.out,
            model=self.model,
            prompts=self.prompts,
            readers=self.readers,
            problem_readers=self.problem_readers,
            resume=resume,
            only_stage=stage,
            console=self.console,
        )
        self.console.print(run_table(report))
        last = report.stages[-1].name
        told = f"the model lies in {self.out / last}, the report in {self.out / 'report.html'}"
        self.console.print(told, markup=False, soft_wrap=True)

    def check(self, stage: str | None) -> None:
        """Show what a run would do."""
        from rich.console import Console

        from thyme.train.sft.dry_run import dry_run

        told = Console(quiet=self.console.quiet)  # what was asked for: on stdout
        dry_run(self.recipe, self.model, self.readers, self.problem_readers, only=stage, console=told)
