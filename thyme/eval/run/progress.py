"""How far a run is, and how it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thyme.eval.items import ItemResult


class Tally:
    """Mean score of each arm so far; one step for an item, however many there are."""

    def __init__(self, arms: Sequence[str]) -> None:
        """Count nothing yet."""
        self._sums = dict.fromkeys(arms, 0.0)
        self._scored: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._seen: dict[tuple[str, str], tuple[float | None, bool]] = {}

    def add(self, item: ItemResult) -> None:
        """Count an item, in place of an earlier one of the same problem."""
        key = item.arm, item.problem
        if key in self._seen:
            self._count(item.arm, *self._seen[key], -1)
        self._seen[key] = item.score, item.failed
        self._count(item.arm, item.score, item.failed, 1)

    def _count(self, arm: str, score: float | None, failed: bool, sign: int) -> None:
        if score is None:
            self._counts["failed" if failed else "not scored"] += sign
        elif arm in self._sums:
            self._sums[arm] += sign * score
            self._scored[arm] += sign

    @property
    def items(self) -> int:
        """How many there are."""
        return len(self._seen)

    def tell(self) -> str:
        """Mean scores in percent, and how many failed or could not be scored."""
        means = [
            f"{arm} {100 * total / self._scored[arm]:.1f}" for arm, total in self._sums.items() if self._scored[arm]
        ]
        return ", ".join([*means, *(f"{count} {what}" for what, count in sorted(self._counts.items()) if count)])


class Board:
    """One line for each benchmark: bar, and the mean score of each arm so far."""

    def __init__(self, progress: Progress) -> None:
        """Draw there."""
        self._progress = progress

    def begin(
        self, title: str, total: int, arms: Sequence[str], before: Iterable[ItemResult]
    ) -> Callable[[ItemResult], None]:
        """Start a line.

        Args:
            title: Of the benchmark.
            total: Items that are wanted in all.
            arms: Those that are asked, in order.
            before: Items that are there already.

        Returns:
            Takes each item that is made.
        """
        tally = Tally(arms)
        task = self._progress.add_task(title, total=total, so_far="")

        def advance(item: ItemResult) -> None:
            tally.add(item)
            self._progress.update(task, completed=tally.items, so_far=tally.tell())

        for item in before:
            advance(item)
        return advance


@contextmanager
def board(shown: bool) -> Iterator[Board]:
    """A board on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, TextColumn("{task.fields[so_far]}"), TimeRemainingColumn(), console=console, disable=not shown
    ) as bars:
        yield Board(bars)
