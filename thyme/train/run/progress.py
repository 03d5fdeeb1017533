"""What a run shows while it trains: a bar on a terminal, lines in a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback


class ProgressBar(TrainerCallback):
    """A bar with the last logged loss; where the console is no terminal, a line for each point of the curve."""

    def __init__(self, console: Console, title: str, note: Callable[[], str] | None = None) -> None:
        """Make it.

        Args:
            console: Where it is shown.
            title: Stands before it.
            note: What is shown in place of the loss.
        """
        self._console, self._title, self._note = console, title, note
        self._since, self._first = time.perf_counter(), 0
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, loss="")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar, at the step from which the run goes on."""
        self._since, self._first = time.perf_counter(), state.global_step
        self._bar.update(self._task, total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move on."""
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the loss."""
        if logs and "loss" in logs:
            loss = f"loss {float(logs['loss']):.4f}" if self._note is None else self._note()
            self._bar.update(self._task, loss=loss)
            if not self._console.is_terminal:
                step = f"step {state.global_step} of {state.max_steps}"
                self._console.print(f"{self._title}: {step}, {loss}, {self._left(state)} left", soft_wrap=True)

    def _left(self, state: Any) -> str:
        """Time that the remaining steps take at the pace so far, all that happens between steps included."""
        done = max(1, state.global_step - self._first)
        seconds = (time.perf_counter() - self._since) / done * (state.max_steps - state.global_step)
        hours, minutes = divmod(round(seconds / 60), 60)
        if not hours and not minutes:
            return "less than a minute"
        return f"about {hours} h {minutes} min" if hours else f"about {minutes} min"

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the terminal as it was."""
        self.close()

    def close(self) -> None:
        """Stop, also after a failure."""
        self._bar.stop()
