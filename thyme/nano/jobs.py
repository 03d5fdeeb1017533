"""Experiments of many jobs: each leaves a result file, and an interrupted run does those that have none."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from thyme.errors import ConfigError, UsageError

RESULT = "result.json"
R = TypeVar("R", bound=BaseModel)


class Job(Protocol):
    """One job; passed to another process as it is."""

    @property
    def name(self) -> str:
        """Among the jobs of the run, in words."""
        ...

    @property
    def folder(self) -> Path:
        """Where its result lies."""
        ...

    @property
    def after(self) -> Path | None:
        """Folder of the job whose end it starts from."""
        ...


J = TypeVar("J", bound=Job)


def is_done(folder: Path) -> bool:
    """Whether the job of a folder has its result."""
    return (folder / RESULT).exists()


def write_result(folder: Path, result: BaseModel) -> None:
    """Write a job's result, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{RESULT}.part"
    part.write_text(result.model_dump_json() + "\n", encoding="utf-8")
    os.replace(part, folder / RESULT)


def read_result_as(form: type[R], folder: Path) -> R:
    """The result of a job.

    Raises:
        ConfigError: It is damaged or of another version.
    """
    try:
        return form.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{folder.name}/{RESULT} cannot be read; remove the folder to have it done anew") from error


def keep_settings(path: Path, described: dict[str, Any]) -> None:
    """Write down what a run was begun with, or check that it goes on with just that.

    Args:
        path: A file in the folder of the run.
        described: Plain values.

    Raises:
        ConfigError: The folder holds a run with other settings.
    """
    text = json.dumps(described, indent=2) + "\n"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"'{path.parent.name}' holds a run with other settings or demonstrations; choose another --out"
        )


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that are not positive or come twice.

    Raises:
        UsageError: They are.
    """
    if min(seeds, default=0) < 1 or len(set(seeds)) < len(seeds):
        raise UsageError("seeds are different whole numbers from 1 on, e.g. --seeds 1,2,3")


def do_all(
    todo: Sequence[J],
    do: Callable[[J], None],
    *,
    workers: int,
    console: Console,
    total: int,
    doing: str,
    told: Callable[[J], str],
) -> None:
    """Do the jobs, each after the one that it starts from, and show how far they are.

    Args:
        todo: Jobs, none before the one that it starts from.
        do: Does one and writes its result; a function of a module, where it runs in other processes.
        workers: Jobs that run at a time; several of them in a process each.
        console: Where progress is shown.
        total: Jobs of the run, those that are done already among them.
        doing: What stands before the bar.
        told: What is said of a job that has its result.
    """
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task(doing, total=total, completed=total - len(todo))

        def finished(job: J) -> None:
            bar.advance(task)
            bar.console.print(f"{job.name}: {told(job)}")

        if workers == 1:
            for job in todo:
                do(job)
                finished(job)
        else:
            _do_in_processes(todo, do, workers, finished)


def _do_in_processes(todo: Sequence[J], do: Callable[[J], None], workers: int, finished: Callable[[J], None]) -> None:
    waiting, running = list(todo), dict[Future[None], J]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        while waiting or running:
            while len(running) < workers and (job := next(filter(_ready, waiting), None)) is not None:
                waiting.remove(job)
                running[pool.submit(do, job)] = job
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                finished(running.pop(future))


def _ready(job: Job) -> bool:
    return job.after is None or is_done(job.after)
