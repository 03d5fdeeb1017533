"""Run a build: all of it that its folder does not hold yet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thyme.data.factory import folder
from thyme.data.factory.build import Build
from thyme.data.factory.draw import Plan
from thyme.data.factory.jobs import Jobs
from thyme.data.factory.local import OnProgress, run_local
from thyme.data.factory.manifest import Manifest, State, agreed, manifest_of, write_manifest
from thyme.data.factory.progress import board
from thyme.data.folders import IMAGES, alone
from thyme.errors import BudgetError

Execute = Callable[[Build, Plan, Jobs, int, OnProgress], None]
"""Does the jobs of a build in so many processes, as `thyme.data.factory.local.run_local` does."""

_AHEAD = 3
"""Chunks for each process that are looked through for duplicates before they are made."""


def run_build(build: Build, *, progress: bool = False, execute: Execute | None = None) -> Manifest:
    """Make every record that has no outcome yet.

    Args:
        build: Recipe, folder, and what the parts above bring.
        progress: Whether to show it on stderr.
        execute: How; None is what the recipe's ``executor`` names.

    Returns:
        What the folder holds now; its state is ``finished`` or ``spent``.

    Raises:
        UsageError: The folder holds another build, or somebody works on it; a source or a teacher is named wrongly.
        EngineError: A teacher or the check cannot be asked; what was made is kept.
        SandboxError: The sandbox failed; what was made is kept.
        StoreError: Something cannot be read or written.
        MissingExtraError: A library is not installed.
    """
    sources = build.sources()
    plan = build.plan(sources)
    with alone(build.out):
        manifest = agreed(build.out, manifest_of(build, plan, sources))
        write_manifest(build.out, manifest)
        _tidy(build.out)
        with _noted(build, manifest) as note:
            try:
                _run(build, plan, progress, execute or executor(build.recipe.executor))
            except BudgetError:
                return note("spent")
            except KeyboardInterrupt:
                note("interrupted")
                raise
            return note("finished")


def _run(build: Build, plan: Plan, progress: bool, execute: Execute) -> None:
    processes = build.recipe.processes or len(os.sched_getaffinity(0))
    before = sum(folder.count_records(build.out))
    jobs = Jobs(build, plan, ahead=_AHEAD * processes)
    try:
        with board(progress, list(build.chain()), plan.count, before) as on_progress:
            execute(build, plan, jobs, processes, on_progress)
    finally:
        jobs.close()


def executor(name: str) -> Execute:
    """Who does the jobs.

    Args:
        name: ``local`` or ``ray``.
    """
    if name == "local":
        return run_local
    from thyme.data.factory.ray import run_ray

    return run_ray


def _tidy(out: Path) -> None:
    """Remove what a process left behind that was killed between two steps: journals of finished chunks, torn files."""
    for path in (out / folder.JOURNAL).glob("[0-9]*.jsonl"):
        if folder.finished(out, int(path.stem)):
            path.unlink()
    for path in (out / folder.JOURNAL).glob(".*.tries"):  # of an executor on Ray
        path.unlink()
    for kind in (folder.DRAW, folder.RECORDS, folder.REJECTED):
        for path in (out / kind).glob(".*.tmp"):
            path.unlink()
    for path in (out / IMAGES).glob("*/.*.tmp"):
        path.unlink()


@contextmanager
def _noted(build: Build, manifest: Manifest) -> Iterator[Callable[[State], Manifest]]:
    """Write down how far a build is when somebody stops working on it, for whatever reason."""
    started = time.monotonic()
    noted: list[Manifest] = []

    def note(state: State) -> Manifest:
        kept, rejected = folder.count_records(build.out)
        seconds = round(manifest.seconds + time.monotonic() - started, 1)
        update = {"state": state, "kept": kept, "rejected": rejected, "seconds": seconds}
        noted.append(manifest.model_copy(update=update))
        write_manifest(build.out, noted[-1])
        return noted[-1]

    try:
        yield note
    except BaseException:
        if not noted:
            note("failed")
        raise
