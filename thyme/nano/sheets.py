"""Tables of an experiment, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.table import Table


class Sheet(NamedTuple):
    """A table: its first row names the columns."""

    title: str
    rows: Sequence[Sequence[str]]


def as_markdown(sheet: Sheet) -> str:
    """The table, for a page."""
    head, *body = sheet.rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]
    return f"**{sheet.title}**\n\n" + "\n".join(lines) + "\n"


def as_tables(sheets: Iterable[Sheet]) -> Iterator[Table]:
    """The tables, for a terminal."""
    for title, (head, *body) in sheets:
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
        for i, name in enumerate(head):
            table.add_column(name, justify="right" if i else "left")
        for row in body:
            table.add_row(*row)
        yield table
