"""What watches a run from inside: the clock, the points of the curve at checkpoints, and the request to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

from thyme.train.distributed import gather, is_main, world_size


class Clock(TrainerCallback):
    """Seconds of the steps, waiting for data included; logging, validation, checkpoints and other callbacks are not."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """A step begins with the reading of its batches."""
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done; this must come before any other callback."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None


class PointAtCheckpoint(TrainerCallback):
    """Closes the curve's current point before a checkpoint: the mean since the last point is not part of one."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log where a checkpoint follows."""
        if control.should_save:
            control.should_log = True


class EndOnRequest(TrainerCallback):
    """Ends training after the step at hand, with a checkpoint, when the process is asked to end (SIGTERM, Ctrl-C).

    A second Ctrl-C interrupts at once.

    Where there are several processes, they agree after each step: all of them end after the same one.
    """

    def __init__(self) -> None:
        self.asked = False
        self.process = os.getpid()
        self.ended = False
        """Whether training was ended for that reason."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals for a request while the block runs. Only the main thread can; elsewhere nothing changes."""
        # A handler belongs to the whole process, and Python lets only its main thread set one.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _: Any) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if is_main() and os.getpid() == self.process:  # workers that read data get the signal, too
                # Past Python's buffers, which a signal may find half written.
                os.write(2, b"\nending after this step, with a checkpoint; Ctrl-C again ends at once, without\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End if anybody was asked to, unless this was the last step anyway."""
        asked = any(gather(self.asked)) if world_size() > 1 else self.asked
        if asked and state.global_step < state.max_steps:
            self.ended = True
            control.should_save = control.should_training_stop = True
