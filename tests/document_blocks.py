"""Every code block of README, CONTRIBUTING and docs, and what each line of a shell is in it."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from scripts.record import MEASURED

ROOT = Path(__file__).parents[1]
REGISTRY = Path(__file__).with_suffix(".toml")

SHELL = ("sh", "bash", "console", "")
"""Languages of blocks that may hold commands; a block without a language may as well show a folder or an output."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code."""

    page: str
    """Path from the root of the repository."""
    line: int
    language: str
    """As the fence says it; empty where it says none, and for an indented block."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """What people read."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order, but those that show what was measured."""
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    text = MEASURED.sub(lambda measured: "\n" * measured[0].count("\n"), page.read_text(encoding="utf-8"))
    tokens = MarkdownIt().enable("table").parse(text)
    return [
        Block(name, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


def all_blocks() -> list[Block]:
    """Of all pages."""
    return [block for page in pages() for block in blocks_of(page)]


def registry() -> dict[str, dict[str, str]]:
    """By page: how a block begins, and how it is run or why not."""
    return tomllib.loads(REGISTRY.read_text(encoding="utf-8"))


def commands(text: str) -> list[list[str]]:
    """The words of each ``thyme`` that a block of a shell calls, behind a launcher or in a pipe too."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if not re.search(r"(?:^|\s)thyme\s", line):
            continue
        lexer = shlex.shlex(re.sub(r"\s#.*", "", line), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        part: list[str] = []
        for word in (*lexer, ";"):
            if set(word) <= set("|&;<>"):
                found.extend([part[part.index("thyme") + 1 :]] if _calls(part) else [])
                part = []
            else:
                part.append(word)
    return found


def _calls(words: list[str]) -> bool:
    """Whether these are a call, and not a name among other words: first, behind settings or a prompt, or behind -m."""
    if "thyme" not in words:
        return False
    before = words[: words.index("thyme")]
    return before[-1:] == ["-m"] or all(word == "$" or re.match(r"\w+=", word) for word in before)
