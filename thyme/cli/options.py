"""Options that several commands share, so that they have one spelling and one help line."""

from __future__ import annotations

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
