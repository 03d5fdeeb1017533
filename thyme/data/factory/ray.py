"""The executor on Ray Data: chunks are the rows of a dataset, and a pool of actors makes them. Extra ``cluster``.

Each actor does what a process of `thyme.data.factory.local` does, with an event loop and a sandbox of its own, and
writes into the same folder, which every node must see under the same path. Ray Data deals the chunks out, starts more
actors while the cluster has room, and gives a chunk to another actor where one dies.

There are two passes: chunks are surveyed for duplicates, and then made; what was surveyed before is not surveyed again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import secrets
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thyme.data.factory import folder
from thyme.data.factory.build import Build
from thyme.data.factory.chain import Tally
from thyme.data.factory.chunk import Maker, open_maker
from thyme.data.factory.draw import Plan
from thyme.data.factory.jobs import Job, Jobs
from thyme.data.factory.local import OnProgress, portable
from thyme.data.factory.survey import read_survey
from thyme.errors import BudgetError, MissingExtraError, SandboxError, ThymeError, UsageError

logger = logging.getLogger(__name__)

_AT_ONCE = 2
"""Chunks that an actor has at once: it goes on with the next while the last records of one are made."""
_ATTEMPTS = 3
"""Times a chunk is begun whose actor dies; Ray Data by itself would begin it for ever."""
_TRIES = ".*.tries"
"""Files beside the journals with a byte for each time that a chunk was begun and not ended."""


@dataclass(frozen=True)
class _Done:
    """What an actor tells of a chunk."""

    actor: str
    chunk: int
    tally: Tally
    """Of the actor, since it was started."""
    error: BaseException | None


def run_ray(build: Build, plan: Plan, jobs: Jobs, processes: int, on_progress: OnProgress) -> None:
    """Do all jobs, on the cluster that Ray is connected to or finds, else on a Ray of this machine.

    Args:
        build: What is built. Its folder, sources and prompts lie where every node finds them under the same path.
        plan: Its draw.
        jobs: What is left.
        processes: Not looked at; there are as many actors as ``DataRecipe.processes`` says, or as the cluster has
            processors.
        on_progress: Hears of progress, a chunk at a time.

    Raises:
        BudgetError: Nothing is left to spend; what needed nothing more is done.
        MissingExtraError: Ray Data is not installed.
        SandboxError: Actors died time and again.
        ThymeError: What else ended the build.
    """
    ray = _ray()
    with _connected(ray):
        room = max(1, int(ray.cluster_resources().get("CPU", 1)))
        crew = _Crew(ray, build, plan, room, on_progress)
        jobs.ahead = plan.chunks
        with _counted(build.out):
            while not jobs.finished:
                wave = list(iter(jobs.next, None))
                for job in crew.run(wave):
                    jobs.done(job, read_survey(build.out, job.chunk) if job.kind == "survey" else None)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("building data on Ray", "cluster") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Ray as it is, or connected for as long as the build takes."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, logging_level="ERROR")
    except Exception as error:  # Ray raises whatever it met, bare exceptions among them
        raise ThymeError(
            f"Ray could not be started or reached ({str(error)[:500]}); start it with 'ray start --head', or name a "
            "running one in RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


class _Crew:
    """The actors that work, anew for each pass."""

    def __init__(self, ray: Any, build: Build, plan: Plan, room: int, on_progress: OnProgress) -> None:
        self._ray, self._build, self._plan, self._on_progress = ray, build, plan, on_progress
        self._most = build.recipe.processes or room
        self._first = min(self._most, room)
        self._tallies: dict[str, Tally] = {}

    def run(self, wave: list[Job]) -> Iterator[Job]:
        """Do jobs; gives each when it is done.

        Raises:
            BudgetError: Nothing is left to spend; all jobs were looked at.
            SandboxError: Actors died time and again.
            ThymeError: What ended the build.
        """
        job_of = {job.chunk: job for job in wave}
        spent: BudgetError | None = None
        for done in self._rows(wave):
            self._tallies[done.actor] = done.tally
            self._tell()
            if isinstance(done.error, BudgetError):
                spent = done.error
            elif done.error is not None:
                raise done.error
            yield job_of[done.chunk]
        if spent is not None:
            raise spent

    def _rows(self, wave: list[Job]) -> Iterator[_Done]:
        """Let Ray Data deal the jobs out, one block each."""
        data = self._ray.data
        pool = data.ActorPoolStrategy(
            min_size=min(self._first, len(wave)),
            max_size=min(self._most, len(wave)),
            max_tasks_in_flight_per_actor=2 * _AT_ONCE,  # with fewer, Ray Data never starts another actor
            max_concurrent_calls_per_actor=_AT_ONCE,
            enable_true_multi_threading=True,
        )
        rows = data.from_items([{"job": pickle.dumps(job)} for job in wave], override_num_blocks=len(wave)).map(
            Hand,
            fn_constructor_args=(self._build, self._plan, str(Path.cwd())),
            compute=pool,
            num_cpus=1,
        )
        try:
            with closing(iter(rows.iter_rows())) as found:
                for row in found:
                    yield pickle.loads(row["done"])
        except self._ray.exceptions.RayError as error:
            raise SandboxError(
                f"Ray could not go on with the build: {str(error)[:1000]}; see 'ray logs', lower concurrency if memory "
                "was short, and start the same command again"
            ) from error

    def _tell(self) -> None:
        total = Tally()
        for tally in self._tallies.values():
            total.add(tally)
        self._on_progress(total)


class Hand:
    """What Ray Data calls for a chunk, in an actor: several at once, all on one event loop."""

    def __init__(self, build: Build, plan: Plan, place: str) -> None:
        """Prepare; sandbox and sources are opened with the first chunk.

        Args:
            build: What is built.
            plan: Its draw.
            place: Folder that relative paths stand in.
        """
        self._build, self._plan, self._place = build, plan, place
        self._name = secrets.token_hex(8)
        self._loop = asyncio.new_event_loop()
        self._opening = asyncio.Lock()
        self._maker: Maker | None = None
        self._open = AsyncExitStack()
        self._over = False
        """Whether the build has ended with an error, so that nothing more is begun here."""
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the job of a row; its errors are told, not raised, so that they come through as they are."""
        job: Job = pickle.loads(row["job"])
        error = asyncio.run_coroutine_threadsafe(self._done(job), self._loop).result()
        tally = Tally() if self._maker is None else self._maker.tally
        return {"done": pickle.dumps(_Done(self._name, job.chunk, tally, error))}

    async def _done(self, job: Job) -> BaseException | None:
        try:
            maker = await self._ready()
            if self._over or maker.draining:
                return None
            with _tried(self._build.out, job):
                if job.kind == "survey":
                    await maker.survey(job.chunk)
                else:
                    await maker.make(job.chunk, job.duplicates)
        except Exception as error:
            self._over = not isinstance(error, BudgetError)
            return portable(error)
        return None

    async def _ready(self) -> Maker:
        async with self._opening:
            if self._maker is None:
                _enter(self._place)
                self._maker = await self._open.enter_async_context(open_maker(self._build, self._plan))
            return self._maker

    def __del__(self) -> None:
        """End the sandbox, where the actor ends in peace; one that is killed takes it along."""
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._open.aclose(), self._loop).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def _counted(out: Path) -> Iterator[None]:
    """Count how often chunks are begun for as long as a run takes."""
    try:
        yield
    finally:
        for path in (out / folder.JOURNAL).glob(_TRIES):
            path.unlink(missing_ok=True)


@contextmanager
def _tried(out: Path, job: Job) -> Iterator[None]:
    """Note that a chunk was begun, so that one that ends its actors is known.

    Raises:
        SandboxError: It has ended too many.
    """
    path = out / folder.JOURNAL / _TRIES.replace("*", f"{job.chunk:06d}-{job.kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if file.tell() >= _ATTEMPTS:
            raise SandboxError(
                f"{_ATTEMPTS} actors ended while they had chunk {job.chunk}, perhaps for want of memory; lower "
                "concurrency, and start the same command again"
            )
        file.write(b".")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _enter(place: str) -> None:
    try:
        os.chdir(place)
    except OSError as error:
        raise UsageError(
            f"the node {os.uname().nodename} has no folder {place} ({error.strerror}); a build on a cluster needs one "
            "that all nodes share"
        ) from error
