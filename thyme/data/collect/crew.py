"""Processes that look at files, all cores at once: results come in the order of the files, whoever was ready first.

A decoder that ends its process costs that file, not the run. The processes end with the one that started them, whatever
ends it, and together they decode no more pixels at a time than fit into memory.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Final, TypeAlias

from thyme.data.collect.reasons import CRASHED
from thyme.data.collect.records import Collected, Refused
from thyme.data.collect.work import Job, Room, take
from thyme.view.terminal import clean

Result: TypeAlias = Collected | Refused
_PIXEL_BYTES: Final = 12
"""Memory for a pixel while it is worked on: Pillow's four bytes, four of the second reading, and the encoded file."""
_AHEAD: Final = 4
"""Files a process that are given out before the first of them is back."""

_room: Room | None = None
"""Of a process; set when it starts."""


def memory() -> int:
    """Bytes that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def results(jobs: Iterable[Job], processes: int) -> Iterator[tuple[Job, Result]]:
    """Do jobs in processes; gives each with what came of it, in order.

    Raises:
        OSError: Something cannot be written.
    """
    left = iter(jobs)
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(processes))
        while True:
            for job in islice(left, _AHEAD * processes - len(waiting)):
                waiting.append((job, _given(job, pool)))
            if not waiting:
                return
            job, future = waiting[0]
            try:
                result = future.result()
            except BrokenProcessPool:
                waiting = deque((other, _again(other, asked)) for other, asked in waiting)
                pool = stack.enter_context(_pool(processes))
                continue
            waiting.popleft()
            yield job, result


def _given(job: Job, pool: ProcessPoolExecutor) -> Future[Result]:
    """What will come of a job, also where the processes have ended since they were last looked at."""
    try:
        return pool.submit(_do, job)
    except BrokenProcessPool as error:
        lost: Future[Result] = Future()
        lost.set_exception(error)
        return lost


def _again(job: Job, asked: Future[Result]) -> Future[Result]:
    """What came of a job of processes that have ended; if it is not known, it is done once more, alone."""
    if asked.done() and not asked.cancelled() and asked.exception() is None:
        return asked
    shutil.rmtree(job.staging, ignore_errors=True)
    made: Future[Result] = Future()
    with _pool(1) as pool:
        try:
            made.set_result(pool.submit(_do, job).result())
        except BrokenProcessPool:
            made.set_result(Refused(file=job.name, reason=CRASHED, detail="decoding it ended the process"))
    return made


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes; those that were not begun are dropped at the end, also after an error."""
    context = multiprocessing.get_context("forkserver")  # imports once, for all processes and for those that follow
    context.set_forkserver_preload([__name__])
    shared = (memory() // 2 // _PIXEL_BYTES, context.Value("q", 0, lock=False), context.Condition())
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=shared)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(most: int, used: Any, changed: Any) -> None:
    """Make a process ready.

    Args:
        most: Pixels that all processes may hold decoded.
        used: Those that they hold, shared.
        changed: Condition over it.
    """
    global _room
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that the user sees ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    handler = logging.StreamHandler()
    handler.setFormatter(_Clean("thyme: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)

    @contextlib.contextmanager
    def room(pixels: int) -> Iterator[None]:
        with changed:
            changed.wait_for(lambda: not used.value or used.value + pixels <= most)
            used.value += pixels
        try:
            yield
        finally:
            with changed:
                used.value -= pixels
                changed.notify_all()

    _room = room


class _Clean(logging.Formatter):
    """Names of files are strangers' words: no control code reaches the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        sys.stderr.flush()
        os._exit(1)


def _do(job: Job) -> Result:
    assert _room is not None  # the process was begun
    job.staging.mkdir(parents=True)
    return take(job, _room)
