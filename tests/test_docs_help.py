"""``--help`` of every command shows an example, and each example is one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from document_blocks import ROOT
from document_blocks import commands as calls
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


def test_the_page_of_commands_has_all_of_them() -> None:
    page = commands_page()
    assert len(ALL) >= 31
    assert all(f"\n## {name}\n" in f"\n{page}" for name in ALL)
    assert page.count("```sh\nthyme ") + page.count("```sh\naccelerate ") == len(ALL)
    assert "<code>--isolation &lt;best&#124;namespaces&#124;landlock&gt;</code>" in page
