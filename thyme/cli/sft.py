"""``thyme sft``: fine-tune on trajectories as a recipe says, or look at what a recipe would do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thyme.config.load import load, overridden
from thyme.config.sft_recipe import SFTRecipe
from thyme.errors import ConfigError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False)


class TrackerName(StrEnum):
    """Trackers; typer takes lists of an enumeration only."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"


@app.command()
def sft(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="@NAME of a shipped recipe, or @FILE.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Over the recipe: train.epochs=1 (all stages), stages.images.train.learning_rate=2e-5, "
            "stages.images.data.NAME.limit=100, evaluation.every_steps=50, … Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run.  [default: runs/ and the recipe's name]")
    ] = None,
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
    tracker: Annotated[
        list[TrackerName] | None, typer.Option(help="Send curves there too. Repeatable.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing but errors.")] = False,
) -> None:
    """Fine-tune a model on trajectories: stage after stage, each from the end of the one before.

    Example: thyme sft @nano_sft --out runs/nano_sft

    Example: accelerate launch --config_file FILE -m thyme sft @thyme_7b --out runs/thyme_7b
    """
    read = load(recipe, settings or [], SFTRecipe)
    if tracker:
        read = overridden(read, [f"tracking.trackers={[name.value for name in dict.fromkeys(tracker)]}"])
    name = Path(recipe.removeprefix("@")).stem
    folder = out or Path(read.out or f"runs/{name}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder; name another with --out")
    try:
        work = _Work(read, name, folder, quiet=quiet)
    except ImportError as error:
        raise _missing(error) from error
    if dry_run:
        work.check(stage)
    else:
        work.run(resume=resume, stage=stage)


def _missing(error: ImportError) -> ImportError:
    """The error where the extra is missing; any other as it is."""
    if isinstance(error, MissingExtraError) or (error.name or "").startswith("thyme"):
        return error
    return MissingExtraError("fine-tuning", "train")


class _Work:
    """One call of the command, everything that needs torch behind it."""

    def __init__(self, recipe: SFTRecipe, name: str, out: Path, *, quiet: bool) -> None:
        from rich.console import Console

        import thyme.train.sft.run  # noqa: F401  # what the extra brings is missing here or nowhere
        from thyme.models import NANO_CHECKPOINTS, checkpoint_folder
        from thyme.nano.sources import NANO, nano_problems, nano_readers
        from thyme.prompts import PromptSet
        from thyme.train.distributed import is_main

        self.recipe, self.name, self.out = recipe, name, out
        self.console: Console = Console(stderr=True, quiet=quiet or not is_main())
        nano = recipe.model in NANO_CHECKPOINTS
        self.model: str | Path = checkpoint_folder(recipe.model) if nano else recipe.model
        self.prompts = self._prompts(recipe.prompts, checkpoint_folder("nano") / "prompts")
        base = self.model if isinstance(self.model, Path) else Path(recipe.model)
        words = PromptSet.load(self.prompts or checkpoint_folder("nano") / "prompts")
        self.readers: dict[str, Any] = nano_readers(
            out / "data", base, words, lambda line: self.console.print(f"nano: {line}")
        )
        self.problem_readers = {NANO: nano_problems}

    def _prompts(self, named: str, embedded: Path) -> Path | None:
        if not named:
            return None
        folder = embedded if named == "nano" else Path(named).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"prompts: there is no folder '{named}'; name one with the prompt files, or nano")
        return folder

    def run(self, *, resume: bool, stage: str | None) -> None:
        """Train."""
        import warnings

        from thyme.train.distributed import is_main
        from thyme.train.report.summary import run_table
        from thyme.train.sft.run import run_sft

        # peft asks transformers by the old name; nothing that who trains could do about it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*is deprecated", category=FutureWarning)
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
        if is_main():
            self.console.print(run_table(report))
            last = report.stages[-1].name
            self.console.print(f"the model lies in {self.out / last}, the report in {self.out / 'report.html'}")

    def check(self, stage: str | None) -> None:
        """Show what a run would do."""
        from rich.console import Console

        from thyme.train.sft.dry_run import dry_run

        told = Console(quiet=self.console.quiet)  # what was asked for: on stdout
        dry_run(self.recipe, self.model, self.readers, self.problem_readers, only=stage, console=told)
