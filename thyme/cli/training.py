"""What the commands that train share: trackers, the folder of a run, the model and the prompts that a recipe names."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thyme.cli import options
from thyme.config.base import Config
from thyme.config.load import ConfigT, load, overridden
from thyme.errors import ConfigError, MissingExtraError


class TrackerName(StrEnum):
    """Trackers; typer takes lists of an enumeration only."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"


Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="@NAME of a shipped recipe, or @FILE.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the run.", show_default="runs/ and the recipe's name")
]
Trackers = Annotated[
    list[TrackerName] | None,
    typer.Option("--tracker", help="Send curves there too. Repeatable.", show_default=False),
]

Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing but errors.")]


def read_recipe(
    recipe: str, settings: list[str] | None, tracker: list[TrackerName] | None, schema: type[ConfigT]
) -> ConfigT:
    """The recipe with what the command line says over it.

    Raises:
        ConfigError: There is none, or something in it is wrong.
    """
    read = load(recipe, settings or [], schema)
    if tracker:
        read = overridden(read, [f"tracking.trackers={[name.value for name in dict.fromkeys(tracker)]}"])
    return read


def run_name(recipe: str) -> str:
    """What a run is called: as its recipe."""
    return Path(recipe.removeprefix("@")).stem


def run_folder(given: Path | None, recipe: Config, name: str) -> Path:
    """Folder of a run.

    Raises:
        UsageError: There is a file of that name.
    """
    folder = given or Path(getattr(recipe, "out", None) or f"runs/{name}")
    options.check_folder(folder, "--out")
    return folder


def missing_extra(error: ImportError, what: str) -> ImportError:
    """The error where the extra is missing; any other as it is.

    Args:
        error: Of an import.
        what: What needs the extra.
    """
    if isinstance(error, MissingExtraError) or (error.name or "").startswith("thyme"):
        return error
    return MissingExtraError(what, "train")


def starting_checkpoint(model: str) -> str | Path:
    """What a recipe's ``model`` stands for: the folder of an embedded checkpoint, or itself."""
    from thyme.models import NANO_CHECKPOINTS, checkpoint_folder

    return checkpoint_folder(model) if model in NANO_CHECKPOINTS else model


def embedded_prompts() -> Path:
    """The prompt files of the embedded model."""
    from thyme.models import checkpoint_folder

    return checkpoint_folder("nano") / "prompts"


def named_prompts(named: str) -> Path | None:
    """The folder that a recipe's ``prompts`` names; None where it names none.

    Raises:
        ConfigError: There is no such folder.
    """
    if not named:
        return None
    folder = embedded_prompts() if named == "nano" else Path(named).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"prompts: there is no folder '{named}'; name one with the prompt files, or nano")
    return folder


def hush() -> None:
    """Keep libraries' warnings to ourselves that who trains could do nothing about."""
    # peft asks transformers by the old name.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*is deprecated", category=FutureWarning)
