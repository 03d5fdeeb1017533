"""What several commands share: options, so that they have one spelling and one help line, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

import typer

from thyme.errors import UsageError

Model = Annotated[
    str,
    typer.Option(
        help="nano (embedded), a checkpoint FOLDER, a HUB_ID such as Qwen/Qwen2.5-VL-7B-Instruct, or URL#NAME, a model "
        "of an OpenAI-compatible server: http://localhost:8000/v1#NAME (its key: THYME_API_KEY). "
        "For tests and demonstrations also scripted:FILE, a JSON list of what to say.",
        metavar="MODEL",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU where there is one.")]
Dtype = Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Number format of the weights.")]
Isolation = Annotated[
    Literal["best", "namespaces", "landlock"],
    typer.Option(help="Level of the sandbox; best takes the strongest this machine offers."),
]
Seed = Annotated[int, typer.Option(help="Seeds every draw and the sandbox.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any other setting, over the options: engine.openai.style=chat, engine.openai.token_timeout_s=300, "
        "engine.max_pixels=3211264, rollout.max_tokens=8192, sandbox.timeout_s=30, … Repeatable.",
        metavar="KEY=VALUE",
    ),
]
Prompts = Annotated[
    Path | None, typer.Option(help="Folder of prompt files, instead of the model's own.", metavar="DIR")
]
Seeds = Annotated[str, typer.Option(help="Different whole numbers from 1 on, separated by commas.")]


def whole_numbers(text: str) -> list[int]:
    """What an option like `Seeds` says.

    Raises:
        UsageError: It is no list of whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of whole numbers, e.g. 1,2,3") from error


@contextmanager
def kept_when_interrupted(what: str) -> Iterator[None]:
    """Say at Ctrl-C that nothing is lost, and end with exit code 130.

    Args:
        what: What is kept, such as ``what is finished``.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(f"thyme: interrupted; {what} is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from error


def check_folder(folder: Path, option: str) -> None:
    """Refuse a file in the place of a folder that is made later.

    Args:
        folder: Need not exist.
        option: How the user named it.

    Raises:
        UsageError: There is a file of that name.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder; name another with {option}")


def make_folder(folder: Path, option: str) -> None:
    """Make the folder that results will go to, before the work that they come from is done.

    Args:
        folder: May exist.
        option: How the user named it.

    Raises:
        UsageError: It cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}); name another folder with {option}") from error
