"""Every command of ``thyme`` with its options, as Markdown: what ``--help`` says, on one page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from html import escape
from importlib import import_module
from typing import Any

from typer.main import get_command

from thyme.cli import COMMANDS

EXAMPLE = re.compile(r"^Example: (.+)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be run, under its whole name."""
    for name, (module, _) in COMMANDS.items():
        yield from _below(f"thyme {name}", get_command(import_module(module).app))


def commands_page() -> str:
    """The body of the page."""
    return "\n\n".join(_section(name, command) for name, command in commands())


def examples(command: Any) -> list[str]:
    """The lines that the help of a command gives to be copied."""
    return EXAMPLE.findall(inspect.cleandoc(command.help or ""))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", {})
    if not inside or command.invoke_without_command:
        yield name, command
    for part, found in inside.items():
        yield from _below(f"{name} {part}", found)


def _section(name: str, command: Any) -> str:
    about = EXAMPLE.sub("", inspect.cleandoc(command.help or "")).strip()
    context = command.context_class(command, info_name=name)
    records = [parameter.get_help_record(context) for parameter in command.params if not parameter.hidden]
    rows = [f"| {_code(record[0])} | {_cell(record[1])} |" for record in records if record]
    table = "\n".join(("| argument or option | |", "|---|---|", *rows)) if rows else ""
    return "\n\n".join((f"## {name}", _plain(about), "```sh\n" + "\n".join(examples(command)) + "\n```", table))


def _code(text: str) -> str:
    """As HTML: between backticks, a stroke would end the cell, or show its backslash."""
    return f"<code>{escape(' '.join(text.split())).replace('|', '&#124;')}</code>"


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Without what Markdown would take for a tag."""
    return text.replace("<", "&lt;").replace("[", "&#91;")
