"""Does the steps that are not done, each in a fresh process, and ends in good order."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from thyme.errors import ConfigError, ThymeError, TrainingError, UsageError
from thyme.reproduce import machine
from thyme.reproduce.graph import How, Result, Step, Store, done, key_of, write_whole

KEY = "key.txt"
"""In the folder of a step: what the files there were begun for."""


@dataclass(frozen=True)
class Doing:
    """What a step is given to work with."""

    step: Step
    store: Store
    before: Mapping[str, Result]
    """Results of the steps that it builds on."""

    @property
    def settings(self) -> dict[str, Any]:
        """Of the step."""
        return self.step.settings

    @property
    def folder(self) -> Path:
        """Its own; what an interrupted attempt left there is still there."""
        return self.store.work(self.step.name)


Do = Callable[[Doing], dict[str, Any]]
"""Does a step, and gives its figures."""


@dataclass
class Sitting:
    """What became of one call."""

    did: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Steps that failed, and why."""
    left: list[str] = field(default_factory=list)
    """Steps that are still to be done, for whatever reason."""


@dataclass(frozen=True)
class Runner:
    """How steps are done."""

    store: Store
    command: str
    """What is written into the results."""
    workers: int = 1
    """Steps at a time."""
    until_s: float | None = None
    """No step is begun that is expected to end later than this, seconds from now."""
    tell: Callable[[str], None] = lambda line: None
    where: str = "thyme.reproduce.doing"
    """Module whose ``DO`` has the kinds of step."""

    def run(self, steps: Sequence[Step]) -> Sitting:
        """Do what is not done; one that fails stops those behind it and no other.

        Args:
            steps: In an order in which none stands before one that it builds on.

        Raises:
            UsageError: Another process works on the same folder.
            TrainingError: The process of a step was killed.
        """
        sitting = Sitting()
        begun = time.monotonic()
        context = multiprocessing.get_context("spawn")
        with (
            _alone(self.store.folder),
            # A process for each step: its memory and its seconds are its own.
            ProcessPoolExecutor(self.workers, mp_context=context, max_tasks_per_child=1, initializer=_settle) as pool,
        ):
            running: dict[Future[None], Step] = {}
            while True:
                self._begin(steps, sitting, running, pool, begun)
                if not running:
                    break
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._end(running.pop(future), future, sitting)
        holding = done(steps, self.store)
        sitting.left = [step.name for step in steps if step.name not in holding]
        return sitting

    def _begin(
        self,
        steps: Sequence[Step],
        sitting: Sitting,
        running: dict[Future[None], Step],
        pool: ProcessPoolExecutor,
        begun: float,
    ) -> None:
        holding = done(steps, self.store)
        busy = {step.name for step in running.values()}
        for step in steps:
            if len(running) >= self.workers:
                return
            if step.name in holding or step.name in busy or step.name in sitting.failed:
                continue
            if set(step.inputs) <= set(holding) and self._fits(step, begun, max(1.0, pace(steps, holding))):
                self.tell(f"{step.name}: {step.title}")
                running[pool.submit(do, step, self.store.folder, self.command, self.where)] = step

    def _fits(self, step: Step, begun: float, slower: float) -> bool:
        return self.until_s is None or time.monotonic() - begun + 60 * slower * step.minutes <= self.until_s

    def _end(self, step: Step, future: Future[None], sitting: Sitting) -> None:
        try:
            future.result()
        except BrokenExecutor as error:
            raise TrainingError(
                f"the process of '{step.name}' was killed, perhaps for want of memory; all that is done is kept: "
                "run the command again, with fewer --workers"
            ) from error
        except (ThymeError, OSError) as error:
            sitting.failed[step.name] = str(error)
            self.tell(f"{step.name} failed: {error}")
        else:
            sitting.did.append(step.name)
            result = self.store.read(step.name)
            took = "" if result is None or result.how.wall_s is None else f", {result.how.wall_s:.0f} s"
            self.tell(f"{step.name}: done{took}")


def pace(steps: Sequence[Step], results: Mapping[str, Result]) -> float:
    """How many times as long steps took here as they were expected to; 1 where nothing is known yet."""
    took = [(step.minutes, results[step.name].how) for step in steps if step.name in results]
    known = [(minutes, how.wall_s) for minutes, how in took if how.wall_s is not None and not how.resumed]
    expected = 60 * sum(minutes for minutes, _ in known)
    return sum(wall for _, wall in known) / expected if expected else 1.0


def _settle() -> None:
    """One thread for the process of a step, and its end with that of the one that started it, also where it was killed.

    A model this small is no quicker on two, and what it learns must not depend on how many cores there are.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, which is later
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def do(step: Step, folder: Path, command: str, where: str) -> None:
    """Do one step and write its result; in a process of its own.

    Raises:
        ThymeError: It failed.
        OSError: It failed.
    """
    store = Store(folder)
    before = {name: _result(store, name) for name in step.inputs}
    key = key_of(step, {name: result.digest for name, result in before.items()})
    with _alone(store.folder / "locks" / step.name, wait=True):  # a process of a killed run may still be at it
        found = store.read(step.name)
        if found is None or found.key != key or not store.kept(step, found):
            _do(step, store, before, key, command, where)


@dataclass(frozen=True)
class _Begun:
    """How things stood when a step began."""

    resumed: bool
    at: float = field(default_factory=time.monotonic)
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    commit: str | None = field(default_factory=machine.commit)
    """Of the code that was read then, whatever is committed while it runs."""


def _do(step: Step, store: Store, before: Mapping[str, Result], key: str, command: str, where: str) -> None:
    resumed = _make_folder(store.work(step.name), key)
    begun = _Begun(resumed)
    figures = _figures(Doing(step, store, before), where)
    store.write(
        Result(
            step=step.name,
            kind=step.kind,
            settings=step.settings,
            inputs={name: result.digest for name, result in before.items()},
            key=key,
            figures=figures,
            how=_how(step, command, begun),
        )
    )


def _how(step: Step, command: str, begun: _Begun) -> How:
    cpu_s, peak = machine.spent()
    return How(
        command=command,
        commit=begun.commit,
        seeds=step.seeds,
        processor=machine.processor(),
        cores=machine.cores(),
        memory_gib=machine.memory_gib(),
        gpu=machine.gpu(),
        load=round(begun.load, 2),
        wall_s=round(time.monotonic() - begun.at, 1),
        cpu_s=round(cpu_s, 1),
        peak_memory_mib=round(peak, 1),
        resumed=begun.resumed,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=machine.versions(),
    )


def _result(store: Store, name: str) -> Result:
    result = store.read(name)
    if result is None:
        raise ConfigError(f"results/{name}.json is gone; run the command again")
    return result


def _figures(doing: Doing, where: str) -> dict[str, Any]:
    try:
        work: Do = import_module(where).DO[doing.step.kind]
        plain: dict[str, Any] = json.loads(json.dumps(work(doing), allow_nan=False))  # as it will be read
    except (ThymeError, OSError) as error:
        raise TrainingError(str(error)) from error  # some errors cannot be unpickled by the process that waits
    except Exception as error:
        raise TrainingError(f"{type(error).__name__}: {error}") from error
    return plain


def _make_folder(folder: Path, key: str) -> bool:
    """Make the folder of a step, remove what was begun there for something else, and say whether this was begun."""
    path = folder / KEY
    if folder.exists() and (not path.exists() or path.read_text(encoding="utf-8") != key):
        shutil.rmtree(folder)
    begun = path.exists()
    write_whole(path, key)
    return begun


@contextmanager
def _alone(folder: Path, *, wait: bool = False) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UsageError(f"another process works in '{folder.name}'; wait for it, or name another --out") from error
        yield
