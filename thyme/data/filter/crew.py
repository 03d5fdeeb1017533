"""Do independent jobs in processes of this machine.

A process gets jobs through a pipe and ends when that pipe does, so none outlives whoever started it, even if that is
killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from thyme.data.factory.local import portable
from thyme.errors import ThymeError

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[tuple[Job, Result]]:
    """Do jobs; results come as jobs end.

    Args:
        work: Can be pickled.
        jobs: Can be pickled.
        processes: How many; with one, the work is done in this process.

    Raises:
        ThymeError: A process went away, or what `work` raised.
    """
    if processes == 1:
        for job in jobs:
            yield job, work(job)
        return
    crew: dict[Connection, BaseProcess] = {}
    under_way: dict[Connection, Job] = {}
    waiting = deque(jobs)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < processes:
                pipe = next((one for one in crew if one not in under_way), None) or _started(work, crew)
                under_way[pipe] = waiting.popleft()
                with contextlib.suppress(OSError):  # its process is gone, which is noticed when it is listened to
                    pipe.send(under_way[pipe])
            for ready in wait(list(under_way)):
                assert isinstance(ready, Connection)
                yield under_way[ready], _received(ready, crew[ready])
                del under_way[ready]
    finally:
        for pipe, process in crew.items():
            pipe.close()
            process.terminate()
            process.join()


def _started(work: Callable[[Job], Result], crew: dict[Connection, BaseProcess]) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    crew[ours] = process
    return ours


def _received(pipe: Connection, process: BaseProcess) -> Any:
    try:
        told, value = pipe.recv()
    except (EOFError, OSError) as error:
        process.join()
        raise ThymeError(
            f"a process that looked at rows ended (code {process.exitcode}; is there memory left?); what is finished "
            "is kept, and the same command goes on from there"
        ) from error
    if told == "failed":
        raise value
    return value


def _serve(work: Callable[[Job], Result], pipe: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            try:
                result = ("done", work(job))
            except BaseException as error:
                pipe.send(("failed", portable(error)))
                return
            pipe.send(result)
