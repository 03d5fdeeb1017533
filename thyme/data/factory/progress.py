"""How far a build is: a bar for its records, and a line for each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from thyme.data.factory.chain import Tally
from thyme.data.factory.chunk import STAGE

_EVERY_S = 0.5


def stage_table(stages: Sequence[str], tally: Tally) -> Table:
    """What came into each stage in this run, went on, was rejected, is under way; mean seconds of a record in it."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("stage")
    for name in ("in", "on", "rejected", "under way", "seconds each"):
        table.add_column(name, justify="right")
    for name in (STAGE, *stages):
        entered, passed, rejected = tally.entered[name], tally.passed[name], tally.rejected[name]
        mean = f"{tally.seconds[name] / (passed + rejected):.3f}" if passed + rejected and name != STAGE else ""
        table.add_row(name, str(entered), str(passed), str(rejected), str(entered - passed - rejected), mean)
    return table


def ended(stages: Sequence[str], tally: Tally) -> int:
    """Records that have come to an end, one way or the other."""
    last = list(stages)[-1] if stages else STAGE
    return tally.rejected.total() + tally.passed[last]


@contextmanager
def board(shown: bool, stages: Sequence[str], count: int, before: int) -> Iterator[Callable[[Tally], None]]:
    """Show progress on stderr.

    Args:
        shown: Whether to.
        stages: Their names, in order.
        count: Records of the build.
        before: Records that had their outcome when this run began.

    Yields:
        Takes what became of records in this run so far.
    """
    if not shown:
        yield lambda tally: None
        return
    bar = Progress(
        TextColumn("records"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rejected]} rejected"),
        TimeRemainingColumn(),
    )
    task = bar.add_task("", total=count, completed=before, rejected=0)
    live = Live(Group(bar, stage_table(stages, Tally())), console=Console(stderr=True), refresh_per_second=4)
    drawn = float("-inf")

    def show(tally: Tally) -> None:
        nonlocal drawn
        done = before + ended(stages, tally)
        bar.update(task, completed=done, rejected=tally.rejected.total())
        if time.monotonic() - drawn > _EVERY_S or done == count:
            drawn = time.monotonic()
            live.update(Group(bar, stage_table(stages, tally)))

    with live:
        yield show
