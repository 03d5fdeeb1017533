"""The local executor: processes of this machine, each with an event loop and a sandbox of its own.

A process gets jobs through a pipe and ends when that pipe does, so none outlives the build, whatever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from thyme.data.factory.build import Build
from thyme.data.factory.chain import Tally
from thyme.data.factory.chunk import Maker, open_maker
from thyme.data.factory.draw import Plan
from thyme.data.factory.jobs import Job, Jobs
from thyme.errors import BudgetError, ThymeError

logger = logging.getLogger(__name__)

_AT_ONCE = 2
"""Jobs that a process has at once: it goes on with the next while the last records of one are made."""
_BEAT_S = 0.5
"""How often processes tell how far they are."""
_PATIENCE_S = 15.0
"""Longest time that a process has to end by itself."""

OnProgress = Callable[[Tally], None]
"""Takes what became of records so far, in all processes of this run."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    jobs: dict[tuple[str, int], Job] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def run_local(build: Build, plan: Plan, jobs: Jobs, processes: int, on_progress: OnProgress) -> None:
    """Do all jobs.

    Args:
        build: What is built.
        plan: Its draw.
        jobs: What is left.
        processes: That work at once.
        on_progress: Hears of progress.

    Raises:
        BudgetError: Nothing is left to spend; what needed nothing more is done.
        ThymeError: What ended the build.
    """
    crew = _Crew(build, plan, jobs, on_progress)
    try:
        crew.run(processes)
    except BaseException:
        crew.stop()
        raise
    crew.stop()


class _Crew:
    """The processes that work."""

    def __init__(self, build: Build, plan: Plan, jobs: Jobs, on_progress: OnProgress) -> None:
        self._build, self._plan, self._jobs, self._on_progress = build, plan, jobs, on_progress
        self._workers: list[_Worker] = []
        self._gone = Tally()
        """Of processes that are gone."""
        self._spent: BudgetError | None = None

    def run(self, processes: int) -> None:
        """Until nothing is left."""
        while not self._jobs.finished:
            if self._spent is None:
                self._hand_out(processes)
            elif not any(worker.jobs for worker in self._workers):
                raise self._spent
            for ready in wait([worker.pipe for worker in self._workers], timeout=_BEAT_S):
                worker = next(one for one in self._workers if one.pipe is ready)
                self._listen(worker)
            self._tell()
        if self._spent is not None:  # the chunks that lacked it were the last ones
            raise self._spent

    def _hand_out(self, processes: int) -> None:
        for turn in range(_AT_ONCE):  # one each before anybody has two
            for place in range(processes):
                if place < len(self._workers) and len(self._workers[place].jobs) > turn:
                    continue
                job = self._jobs.next()
                if job is None:
                    return
                if place >= len(self._workers):
                    self._workers.append(self._started())
                self._give(self._workers[place], job)

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.jobs[job.kind, job.chunk] = job
        with contextlib.suppress(OSError):  # it is gone, which is noticed when it is listened to
            worker.pipe.send(job)

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self._build, self._plan, theirs), daemon=True)
        with _deaf():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _listen(self, worker: _Worker) -> None:
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker)
            return
        if kind == "tally":
            worker.tally = value
        elif kind == "failed":
            raise value
        else:
            self._take_back(worker, *value)

    def _take_back(self, worker: _Worker, job: Job, result: Any) -> None:
        del worker.jobs[job.kind, job.chunk]
        if isinstance(result, BudgetError):
            self._spent = result
            for other in self._workers:
                with contextlib.suppress(OSError):
                    other.pipe.send("drain")
        self._jobs.done(job, result if job.kind == "survey" else None)

    def _lose(self, worker: _Worker) -> None:
        """A process went away by itself: its jobs are given to another, which finds what was journalled."""
        worker.process.join(_PATIENCE_S)
        logger.warning("a process of the build ended (code %s); its chunks are taken up again", worker.process.exitcode)
        self._workers.remove(worker)
        self._gone.add(worker.tally)
        for job in worker.jobs.values():
            self._jobs.lost(job)

    def _tell(self) -> None:
        total = Tally()
        for tally in (self._gone, *(worker.tally for worker in self._workers)):
            total.add(tally)
        self._on_progress(total)

    def stop(self) -> None:
        """End all processes, and what they have begun."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the one that the user sees ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(build: Build, plan: Plan, pipe: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="thyme: %(message)s", level=logging.WARNING)
    try:
        asyncio.run(_serve(build, plan, pipe))
    except BaseException as error:
        with contextlib.suppress(OSError):  # whoever started the build is gone, which may be the error, too
            pipe.send(("failed", portable(error)))


async def _serve(build: Build, plan: Plan, pipe: Connection) -> None:
    inbox: asyncio.Queue[Job | str | None] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(pipe.fileno(), _receive, pipe, inbox)
    await _until_end(build, plan, pipe, inbox)


def _receive(pipe: Connection, inbox: asyncio.Queue[Job | str | None]) -> None:
    try:
        while pipe.poll():
            inbox.put_nowait(pipe.recv())
    except (EOFError, OSError):
        asyncio.get_running_loop().remove_reader(pipe.fileno())
        inbox.put_nowait(None)


async def _until_end(build: Build, plan: Plan, pipe: Connection, inbox: asyncio.Queue[Job | str | None]) -> None:
    """Do jobs until the pipe ends, and then drop what is under way: what is journalled is kept."""
    async with open_maker(build, plan) as maker:
        beat = asyncio.create_task(_beat(maker, pipe))
        tasks = {beat}
        asked = asyncio.create_task(inbox.get())
        try:
            while True:
                done, _ = await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                for task in done & tasks:
                    tasks.discard(task)
                    task.result()
                if asked not in done:
                    continue
                job, asked = asked.result(), asyncio.create_task(inbox.get())
                if job is None:
                    return
                if isinstance(job, Job):
                    tasks.add(asyncio.create_task(_do(maker, job, pipe)))
                else:
                    maker.draining = True
        finally:
            for other in (asked, *tasks):
                other.cancel()
            await asyncio.gather(asked, *tasks, return_exceptions=True)


async def _do(maker: Maker, job: Job, pipe: Connection) -> None:
    result: Any = None
    try:
        if job.kind == "survey":
            result = await maker.survey(job.chunk)
        else:
            await maker.make(job.chunk, job.duplicates)
    except BudgetError as error:
        result = portable(error)
    pipe.send(("tally", maker.tally))
    pipe.send(("done", (job, result)))


async def _beat(maker: Maker, pipe: Connection) -> None:
    while True:
        await asyncio.sleep(_BEAT_S)
        pipe.send(("tally", maker.tally))


def portable(error: BaseException) -> BaseException:
    """An error that can be sent: itself where it can be pickled, else one of ours that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does there
        return ThymeError(f"{type(error).__name__}: {error}")
    return error
