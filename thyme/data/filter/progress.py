"""How far a filter is: a bar on stderr for what is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

OnProgress = Callable[[int, int], None]
"""Takes how many are done, and how many of them are still in."""


class Progress:
    """Bars, one below the other."""

    def __init__(self, shown: bool) -> None:
        """Show them or not."""
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def bar(self, what: str, total: int | None = None, note: str = "") -> Iterator[OnProgress]:
        """A bar.

        Args:
            what: Is done.
            total: How many there are, where it is known.
            note: What the second figure is; empty: there is none.
        """
        task, kept = self._bars.add_task(what, total=total, note=""), 0

        def advance(done: int, still: int) -> None:
            nonlocal kept
            kept += still
            self._bars.update(task, advance=done, note=f"{kept} {note}" if note and kept else "")

        yield advance
