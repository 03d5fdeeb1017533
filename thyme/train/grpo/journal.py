"""What a run writes down after each step: its record, its alarms, trajectories of some steps, curves for trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text
from transformers import TrainerCallback

from thyme.config.grpo import GRPOSettings
from thyme.train.distributed import is_main
from thyme.train.grpo.alarms import Watch
from thyme.train.grpo.groups import Group
from thyme.train.grpo.kept import FOLDER as TRAJECTORIES
from thyme.train.grpo.kept import keep
from thyme.train.grpo.monitors import observe, tracked
from thyme.train.grpo.records import Alarm, StepRecord, Trained
from thyme.train.run.disk import write_atomically
from thyme.train.run.tracking import Tracker

STEPS_FILE = "steps.jsonl"
"""In the folder of a run: a record a line."""


def read_steps(out: Path, *, until: int | None = None) -> list[StepRecord]:
    """The records in the folder of a run, in order.

    A line that is none ends them: a run that was killed while it wrote leaves half a line behind.

    Args:
        out: The folder.
        until: The last step that counts; None: all.
    """
    records: list[StepRecord] = []
    file = out / STEPS_FILE
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            record = StepRecord.model_validate_json(line)
        except ValidationError:
            break
        if record.step != len(records) + 1 or (until is not None and record.step > until):
            break
        records.append(record)
    return records


class Journal:
    """Takes each step; every process has one, and the main one writes."""

    def __init__(
        self,
        settings: GRPOSettings,
        out: Path,
        records: Sequence[StepRecord],
        *,
        trackers: Sequence[Tracker],
        counters: Callable[[], Mapping[str, int]],
        console: Console,
    ) -> None:
        """Begin, or go on behind some records; what is written down of later steps is dropped.

        Args:
            settings: Alarms, advantages, and how often something is kept.
            out: Folder of the run.
            records: Of the steps that count.
            trackers: Started ones.
            counters: What this process's roller counted in the step.
            console: Where alarms are shown.
        """
        self._settings, self._out, self._counters = settings, out, counters
        self._trackers, self._console = trackers, console
        self.records = list(records)
        self._watch = Watch(settings.alarms, records)
        self.ended_by: Alarm | None = None
        """The alarm that is to end the run."""
        if is_main():
            lines = "".join(record.model_dump_json() + "\n" for record in records)
            write_atomically(out / STEPS_FILE, lines)
            for file in (out / TRAJECTORIES).glob("step-*.jsonl"):
                if int(file.name[5:11]) > len(records):
                    file.unlink()

    def tell(self, step: int, trained: Trained, groups: Sequence[Group], seconds: Mapping[str, float]) -> None:
        """Take a step; see `thyme.train.grpo.train_grpo`. All processes call it together."""
        record = observe(step, trained, groups, seconds, self._settings, self._counters())
        alarms = self._watch.look(record)
        record = record.model_copy(update={"alarms": alarms})
        self.records.append(record)
        if alarms and self._settings.alarms.stop:
            self.ended_by = alarms[0]
        if step == 1 or step % self._settings.keep_trajectories == 0:
            keep(self._out, step, groups, self._settings)
        if not is_main():
            return
        with (self._out / STEPS_FILE).open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
        for alarm in alarms:
            self._console.print(_shown(alarm), soft_wrap=True)
        if step == 1 or step % self._settings.log_steps == 0:
            self.send(tracked(record), step)

    def send(self, values: Mapping[str, float], step: int) -> None:
        """Send figures of a step to the trackers."""
        for tracker in self._trackers if values else ():
            tracker.log(values, step)

    def so_far(self) -> str:
        """The last step in a few words, for a line of progress."""
        if not self.records:
            return ""
        metrics = self.records[-1].metrics
        shown = (("reward", "reward/mean"), ("right", "result/right"), ("code", "code/tool_rate"))
        words = [f"{word} {_figure(name, metrics.get(name))}" for word, name in shown]
        active = f", alarms: {', '.join(self._watch.active)}" if self._watch.active else ""
        return ", ".join(words) + active


class EndAtAlarm(TrainerCallback):
    """Ends a run with a checkpoint, where the settings want that, after the step that raised an alarm."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer has told the journal by now; all processes have the same records, so they end together."""
        if self._journal.ended_by is not None and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if name.startswith("reward") else f"{value:.0%}"


def _shown(alarm: Alarm) -> Text:
    text = Text(f"alarm at step {alarm.step}, {alarm.name}: ", style="bold red")
    text.append(alarm.message, style="red")
    return text.append(f"\n  {alarm.advice}", style="not bold")
