"""The commands of ``thyme``: one module each, imported when it is called, so that ``thyme --help`` needs no torch.

Every error is one line on stderr: exit code 2 where the caller asked for something that cannot be, 1 for any other.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from thyme import __version__
from thyme.errors import ThymeError, UsageError

COMMANDS = {
    "demo": ("thyme.cli.demo", "Show the embedded model at work on fresh scenes."),
    "ask": ("thyme.cli.ask", "Ask a model a question about images, and watch it think."),
    "view": ("thyme.cli.view", "Look at stored trajectories."),
    "replay": ("thyme.cli.replay", "Run the code of a stored trajectory again, and compare."),
    "serve": ("thyme.cli.serve", "Serve a model that thinks with images to any OpenAI client."),
    "eval": ("thyme.cli.eval", "Measure a model on benchmarks, and what tools are worth to it."),
    "sft": ("thyme.cli.sft", "Fine-tune a model on trajectories, as a recipe says."),
    "grpo": ("thyme.cli.grpo", "Train a model by reinforcement, as a recipe says."),
    "data": ("thyme.cli.data", "Make training data from images and a teacher: verified records."),
    "rl-data": ("thyme.cli.rl_data", "Find and annotate problems for reinforcement."),
    "studio": ("thyme.cli.studio", "Pages for people: review records of a build, annotate images."),
    "nano": ("thyme.cli.nano", "The embedded model and its world: look, measure, train."),
    "reproduce": ("thyme.cli.reproduce", "Repeat the paper's claims in miniature, with a verdict each."),
    "sandbox": ("thyme.cli.sandbox", "Run code as a model's code is run."),
    "doctor": ("thyme.cli.doctor", "Look at this machine, and say how to mend what is missing."),
}
"""Module (its `app` is the command) and help line of each command, in the order of the help."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room for a file: whatever was to be written, that is no fault of the program."""
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""A file that may not be touched: no fault of the program either, where it is known which."""


class Commands(TyperGroup):
    """Knows its commands by name, and imports one only to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in that has a name and a help line; enough for the overview and for suggestions."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself, imported now."""
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, None, rest
        command = get_command(import_module(COMMANDS[name][0]).app)
        command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run, and turn an error of ours into its line and its exit code."""
        try:
            return super().invoke(ctx)
        except ThymeError as error:
            typer.echo(f"thyme: {error}", err=True)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error
        except OSError as error:
            told = _outside(error)
            if not told:
                raise
            typer.echo(f"thyme: {told}", err=True)
            raise typer.Exit(1) from error


def _outside(error: OSError) -> str:
    """What is wrong with the machine, and the way out; empty where the program may be at fault."""
    if error.errno in _FULL:
        from thyme.store import unwritten

        return str(unwritten(Path(os.fsdecode(error.filename or gettempdir())), error))
    if error.errno in _FORBIDDEN and isinstance(error.filename, str | bytes | os.PathLike):
        path = os.fsdecode(error.filename)
        return f"{path} cannot be used ({error.strerror}); check its permissions and its folder's, or name another one"
    return ""


app = typer.Typer(
    cls=Commands,
    help="A vision-language model thinks with images by writing Python.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"thyme {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    logging.basicConfig(format="thyme: %(message)s", level=logging.WARNING)


def main() -> None:
    """Run the command; the entry point of the package."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a model writes what it likes, and not every terminal has all of it
            stream.reconfigure(errors="replace")
    app()
