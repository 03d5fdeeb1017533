"""Rollouts for many clients at once: a bounded number at work, a bounded line before them, a bounded time for each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from contextvars import ContextVar

from thyme.agent.rollout import rollout_events
from thyme.config.rollout import RolloutConfig
from thyme.config.serve import ServeConfig
from thyme.engines.base import Engine
from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.serve.auth import ApiKeys
from thyme.serve.metrics import Metrics
from thyme.serve.refusal import Refusal
from thyme.types import Problem, Trajectory

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 2.0

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""What `x-request-id` says of the request that is being answered; set by `thyme.serve.guard`."""

_Inbox = asyncio.Queue[Event | None]


class AgentRuntime:
    """An engine and a sandbox, shared by all requests. One event loop; the caller owns engine and sandbox."""

    def __init__(self, engine: Engine, sandbox: Sandbox, config: ServeConfig) -> None:
        """Take requests.

        Raises:
            ConfigError: The prompts cannot be read.
        """
        self.engine, self.sandbox, self.config = engine, sandbox, config
        self.keys, self.metrics = ApiKeys(config.api_keys), Metrics()
        self.model_name = config.model_name or engine.info.name
        self.draining = False
        self._prompts = None if config.prompts is None else PromptSet.load(config.prompts)
        self._places = asyncio.Semaphore(config.max_concurrent)
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work = self._arriving = 0
        self.metrics.watch(lambda: self.running, lambda: self.queued)

    @property
    def running(self) -> int:
        """Rollouts at work."""
        return self._at_work

    @property
    def queued(self) -> int:
        """Requests in line."""
        return len(self._tasks) - self._at_work

    async def events(
        self,
        problem: Problem,
        rollout_config: RolloutConfig,
        *,
        seed: int = 0,
        trajectory_id: str | None = None,
        on_end: Callable[[Trajectory], None] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """`thyme.agent.rollout.rollout_events`, when there is a place for it.

        Closing the generator, or cancelling who iterates it, cancels the rollout and frees its place, its sandbox
        session and its row in the engine.

        Args:
            problem: Question and images, pixels loaded.
            rollout_config: Temperatures and bounds, taken as they are.
            seed: Seeds draws and sandbox.
            trajectory_id: Unique among running rollouts; None makes one up.
            on_end: Called with the record, also of a rollout that is cancelled.

        Raises:
            Refusal: The line is full (429, at the first step), no place became free in time (429), the server shuts
                down (503), or the rollout took too long (504).
        """
        self.refuse_if_full()
        inbox: _Inbox = asyncio.Queue()
        task = asyncio.create_task(self._run(inbox, problem, rollout_config, seed, trajectory_id, on_end))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._done(task, inbox))
        try:
            while (event := await inbox.get()) is not None:
                yield event
            if task.cancelled():  # by `drain`: whoever iterates was not
                raise _shutting_down()
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    def refuse_if_full(self) -> None:
        """See whether a request could be taken now.

        Raises:
            Refusal: It could not: the line is full, or the server shuts down.
        """
        if self.draining:
            raise _shutting_down()
        if self._arriving + len(self._tasks) >= self.config.max_concurrent + self.config.max_queued:
            self.metrics.requests.labels("queue_full").inc()
            raise self._no_place()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Count a request that is still being read among those in line, as its body takes memory, too.

        Raises:
            Refusal: There is no room for it.
        """
        self.refuse_if_full()
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    async def drain(self, seconds: float) -> None:
        """Take no new requests, wait for those that run at most so long, and cancel the rest."""
        self.draining = True
        self.metrics.draining.set(1)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _done(self, task: asyncio.Task[None], inbox: _Inbox) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody asks any more
        inbox.put_nowait(None)

    async def _run(
        self,
        inbox: _Inbox,
        problem: Problem,
        config: RolloutConfig,
        seed: int,
        trajectory_id: str | None,
        on_end: Callable[[Trajectory], None] | None,
    ) -> None:
        """One rollout, from the line to its end, in a task of its own, so that it is cancelled as one."""
        arrived, outcome = time.perf_counter(), "error"

        def ended(trajectory: Trajectory) -> None:
            self.metrics.ended(trajectory)
            if on_end is not None:
                on_end(trajectory)

        try:
            async with self._place(), self._in_time():
                rollout = rollout_events(
                    problem,
                    self.engine,
                    self.sandbox,
                    config,
                    prompts=self._prompts,
                    seed=seed,
                    trajectory_id=trajectory_id,
                    on_end=ended,
                )
                async with aclosing(rollout) as events:
                    async for event in self._counted(events, arrived):
                        inbox.put_nowait(event)
                        if isinstance(event, FinishedEvent):
                            outcome = _outcome(event.trajectory)
        except Refusal as refusal:
            outcome = refusal.code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.metrics.requests.labels(outcome).inc()
            self.metrics.seconds.observe(time.perf_counter() - arrived)

    async def _counted(self, events: AsyncGenerator[Event, None], arrived: float) -> AsyncIterator[Event]:
        silent = True
        async for event in events:
            if silent and isinstance(event, GeneratedEvent):
                self.metrics.first_text.observe(time.perf_counter() - arrived)
                silent = False
            elif isinstance(event, ExecutionEvent):
                self.metrics.ran(event.observation.execution)
            yield event

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.config.queue_s):
                await self._places.acquire()
        except TimeoutError:
            raise self._no_place() from None
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            self._places.release()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        clock = asyncio.timeout(self.config.request_s)
        try:
            async with clock:
                yield
        except TimeoutError:
            if not clock.expired():
                raise
            message = f"the request took longer than {self.config.request_s:g} s; ask for fewer tokens or rounds"
            raise Refusal(504, message, code="timeout") from None

    def _no_place(self) -> Refusal:
        message = f"all {self.config.max_concurrent} places are taken, and {self.queued} requests wait; ask again later"
        return Refusal(429, message, code="queue_full", retry_after_s=_RETRY_AFTER_S)


def _outcome(trajectory: Trajectory) -> str:
    """What the metric calls a rollout that came to its end; a failure is also told to whoever runs the server."""
    if trajectory.error is None:
        return "ok"
    error = trajectory.error
    log.warning("request %s (%s): the %s failed: %s", request_id.get(), trajectory.id, error.where, error.message)
    return "error"


def _shutting_down() -> Refusal:
    return Refusal(
        503, "this server is shutting down; ask again, or ask another", code="shutting_down", retry_after_s=5
    )
