"""No block of code in a document is forgotten: each is run by a test that is named, or it is said why not.

`document_blocks.toml` is the list. Whatever is said there, every command of thyme in a block must be one, every block
of Python must compile and import what there is, and every block of TOML or JSON must be read.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
import tomllib
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from document_blocks import ROOT, SHELL, Block, all_blocks, blocks_of, commands, pages, registry
from typer.main import get_command

from thyme.cli import COMMANDS

BLOCKS = all_blocks()
REASONS = ("checked: ", "shown: ")
"""``checked``: not run, and why; what can be said about it without running it is tested below. ``shown``: no code of
ours that could be run."""


def parse(command: Any, name: str, words: list[str], parent: Any = None) -> None:
    """Read options and arguments as the command does, and run nothing."""
    try:
        context = command.make_context(name, list(words), parent=parent)
    except typer.BadParameter as error:
        if "does not exist" not in str(error):  # the files are the reader's
            raise
        return
    except typer.Exit:  # --help
        return
    rest = [*getattr(context, "_protected_args", ()), *context.args]
    if getattr(command, "commands", None) and rest:
        inner, found, left = command.resolve_command(context, rest)
        parse(found, inner, left, context)


def parse_line(words: list[str]) -> None:
    """A line of thyme, without the program itself."""
    name, *rest = words
    if name != "--help":
        parse(get_command(import_module(COMMANDS[name][0]).app), name, rest)


@cache
def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


LIST = registry()


def named(block: Block) -> list[str]:
    """What the registry says about a block."""
    entries = LIST.get(block.page, {})
    return [how for begin, how in entries.items() if block.text.strip().startswith(begin)]


@cache
def names_of(module: str) -> frozenset[str]:
    """What can be imported from a module of ours; read, since importing it may take torch and seconds."""
    path = ROOT / module.replace(".", "/")
    parts = [found.stem for found in path.glob("*.py")] + [found.parent.name for found in path.glob("*/__init__.py")]
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                parts.append(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.alias(asname=None, name=name) | ast.alias(asname=name):
                parts.append(str(name))
    return frozenset(parts)


def test_every_block_is_in_the_list() -> None:
    lost = {str(block): block.text.strip().splitlines()[0] for block in BLOCKS if len(named(block)) != 1}
    assert not lost, "say in tests/document_blocks.toml how these are run, or why not"


def test_nothing_in_the_list_is_stale() -> None:
    texts = {page: [block.text.strip() for block in BLOCKS if block.page == page] for page in LIST}
    stale = [
        (page, begin)
        for page, entries in LIST.items()
        for begin in entries
        if not any(text.startswith(begin) for text in texts[page])
    ]
    assert not stale


def test_tests_that_are_named_are_there_and_know_the_page() -> None:
    for page, entries in LIST.items():
        for begin, how in entries.items():
            if how.startswith(REASONS):
                assert len(how.split(": ", 1)[1]) >= 10, (page, begin, "a reason says why")
                assert all((ROOT / path).exists() for path in re.findall(r"tests/[\w/.]*\w", how)), how
                continue
            path, _, name = how.partition("::")
            assert re.search(rf"^(?:async )?def {name}\(", source(path), re.MULTILINE), how
            assert Path(page).name in source(path), f"{how} does not name {page}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in SHELL], ids=str)
def test_commands_are_ones(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands(block.text):
        parse_line(words)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_imports_what_there_is(block: Block) -> None:
    tree = compile(textwrap.dedent(block.text), str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "thyme":
            assert {alias.name for alias in node.names} <= names_of(node.module or ""), node.module


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("toml", "json")], ids=str)
def test_settings_can_be_read(block: Block) -> None:
    {"toml": tomllib.loads, "json": json.loads}[block.language](textwrap.dedent(block.text))


def test_links_of_pages_outside_of_the_site_lead_somewhere() -> None:
    """Those of the site are checked where it is built."""
    for page in pages()[:2]:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page.name, link)


def test_blocks_and_commands_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nthyme ask a.png 'x # y'  # why\n```\n\n- item\n\n      $ A=b thyme view x | head &\n\ntext `thyme z`\n"
    )
    found = blocks_of(page)
    assert Counter(block.language for block in found) == {"sh": 1, "": 1}
    assert [block.line for block in found] == [1, 7]
    assert commands(
        "accelerate launch -m thyme sft @a \\\n  --out b\necho 1 | thyme sandbox run -\nsee thyme there\n"
    ) == [
        ["sft", "@a", "--out", "b"],
        ["sandbox", "run", "-"],
    ]
    assert commands(found[1].text) == [["view", "x"]]


@pytest.mark.parametrize("words", [["ask", "--no-such"], ["eval", "liszt"], ["data", "export", "--format"]])
def test_what_is_no_command_is_found_out(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|requires an argument|missing"):
        parse_line(words)
