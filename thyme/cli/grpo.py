"""``thyme grpo``: train a model by reinforcement as a recipe says, or look at what a recipe would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thyme.cli.training import (
    Out,
    Quiet,
    Recipe,
    Trackers,
    hush,
    missing_extra,
    named_prompts,
    read_recipe,
    run_folder,
    run_name,
    starting_checkpoint,
)
from thyme.config.grpo_recipe import GRPORecipe

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False)


@app.command()
def grpo(
    recipe: Recipe,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Over the recipe: train.max_steps=20, train.learning_rate=1e-4, rollout.code_temperature=0.3, "
            "rewards.tool_cost=0.05, rewards.own.NAME.function=FILE.py:FUNCTION, "
            "data.NAME.limit=100, evaluation.every_steps=50, … Repeatable.",
        ),
    ] = None,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on at the last checkpoint in the folder.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check recipe, data and judge, show steps and memory, roll one group out with its rewards, "
            "advantages and what is trained on; train nothing. With --out the group is written there as a page too.",
        ),
    ] = False,
    tracker: Trackers = None,
    quiet: Quiet = False,
) -> None:
    """Train a model by reinforcement: it writes code, is paid for answers, and learns when code is worth it.

    Example: thyme grpo @nano_grpo --out runs/nano_grpo

    Example: accelerate launch --config_file FILE -m thyme grpo @thyme_7b --out runs/thyme_7b_grpo
    """
    read, name = read_recipe(recipe, settings, tracker, GRPORecipe), run_name(recipe)
    folder = run_folder(out, read, name)
    try:
        work = _Work(read, name, folder, quiet=quiet)
    except ImportError as error:
        raise missing_extra(error, "training by GRPO") from error
    if dry_run:
        work.check(page=folder if out is not None else None)
    else:
        work.run(resume=resume)


class _Work:
    """One call of the command, everything that needs torch behind it."""

    def __init__(self, recipe: GRPORecipe, name: str, out: Path, *, quiet: bool) -> None:
        from rich.console import Console

        import thyme.train.grpo.run  # noqa: F401  # what the extra brings is missing here or nowhere
        from thyme.nano.rl_problems import training_problems
        from thyme.nano.sources import NANO, nano_problems
        from thyme.train.distributed import is_main

        self.recipe, self.name, self.out = recipe, name, out
        self.console: Console = Console(stderr=True, quiet=quiet or not is_main())
        self.model = starting_checkpoint(recipe.model)
        self.prompts = named_prompts(recipe.prompts)
        self.readers = {NANO: training_problems}
        self.problem_readers = {NANO: nano_problems}

    def run(self, *, resume: bool) -> None:
        """Train."""
        from thyme.train.grpo.run import run_grpo

        hush()
        run_grpo(
            self.recipe,
            self.name,
            self.out,
            model=self.model,
            prompts=self.prompts,
            readers=self.readers,
            problem_readers=self.problem_readers,
            resume=resume,
            console=self.console,
        )
        told = f"the model lies in {self.out / 'model'}, the report in {self.out / 'report.html'}"
        self.console.print(told, markup=False, soft_wrap=True)

    def check(self, *, page: Path | None) -> None:
        """Show what a run would do; the folder, where there is one, gets the group as a page."""
        from rich.console import Console

        from thyme.train.grpo.dry_run import dry_run

        hush()
        told = Console(quiet=self.console.quiet)  # what was asked for: on stdout
        dry_run(
            self.recipe,
            self.name,
            model=self.model,
            prompts=self.prompts,
            readers=self.readers,
            problem_readers=self.problem_readers,
            console=told,
            page=page,
        )
