"""``--help`` of every command shows an example, and each example is one."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
from document_blocks import ROOT
from document_blocks import commands as calls
from rich.text import Text
from test_docs_blocks import parse_line

sys.path.insert(0, str(ROOT / "scripts"))

from docs_commands import commands, commands_page, examples

ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_help_has_an_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command: Any = ALL[name]
    shown = examples(command)
    assert shown, f"add a line 'Example: {name} …' to the docstring"
    for line in shown:
        assert name in line
        (words,) = calls(line)
        parse_line(words)


@pytest.mark.parametrize("name", ALL)
def test_a_terminal_shows_what_the_help_says(name: str) -> None:
    """Rich leaves out ``[words in brackets]`` as markup, and breaks paragraphs where the source does."""
    command: Any = ALL[name]
    for text in (command.help, *(parameter.help for parameter in command.params if parameter.help)):
        assert Text.from_markup(text).plain == text
    _, *others = inspect.cleandoc(command.help).split("\n\n")
    assert all("\n" not in paragraph for paragraph in others), "let each paragraph but the first be one line"


def test_the_page_of_commands_has_all_of_them() -> None:
    page = commands_page()
    assert len(ALL) >= 31
    assert all(f"\n## {name}\n" in f"\n{page}" for name in ALL)
    assert page.count("```sh\nthyme ") + page.count("```sh\naccelerate ") == len(ALL)
    assert "<code>--isolation &lt;best&#124;namespaces&#124;landlock&gt;</code>" in page
