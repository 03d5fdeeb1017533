"""The questions that were asked on the page: at work in tasks of their own, kept in memory, up to a bound.

What happens to a question is kept as a log of patches, so that a page that lost its connection, or was loaded again,
goes on where it was. A question that nobody watches any more is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from jinja2 import Environment

from thyme.config.rollout import RolloutConfig
from thyme.errors import ThymeError
from thyme.events import ExecutionEvent
from thyme.serve.refusal import Refusal
from thyme.serve.runtime import AgentRuntime
from thyme.types import ImageRecord, Problem, Trajectory
from thyme.view.live import LiveView, Patch
from thyme.view.pictures import Linked

logger = logging.getLogger(__name__)

State = Literal["running", "done", "stopped", "failed"]

STOPPED = "you stopped it"
_UNWATCHED = "nobody watched any more"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    questions: int = 200
    """Of all sessions together."""
    questions_a_session: int = 20
    image_bytes: int = 512 << 20
    """Decoded pixels and files of all images together; the oldest finished questions go first."""
    unwatched_s: float = 20.0
    """Seconds that a question goes on when no page follows it."""


@dataclass(slots=True, eq=False)
class Question:
    """One question, and what came of it so far."""

    id: str
    session: str
    problem: Problem
    config: RolloutConfig
    seed: int
    asked: float = field(default_factory=time.time)
    """Seconds since 1970."""
    state: State = "running"
    message: str = ""
    """Why it failed, for people."""
    notes: tuple[str, ...] = ()
    """What a person should know about the question before the answer."""
    patches: list[Patch] = field(default_factory=list)
    images: dict[str, ImageRecord] = field(default_factory=dict)
    """Every image it is about or that its code made, by id."""
    trajectory: Trajectory | None = None
    """As far as it came, also of a question that was stopped."""
    task: asyncio.Task[None] | None = None
    watchers: int = 0
    timer: asyncio.TimerHandle | None = None
    """Stops it when nobody has watched for a while."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by a new one, whenever there is more to tell."""

    @property
    def path(self) -> str:
        """Where its page is."""
        return f"/ui/questions/{self.id}"

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self.state == "running"

    @property
    def image_bytes(self) -> int:
        """Memory that its images take, about."""
        return sum(3 * image.width * image.height + len(image.encoded or b"") for image in self.images.values())

    def tell(self, patches: Iterable[Patch] = ()) -> None:
        """Add to the log, and wake who follows it."""
        self.patches += patches
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def keep(self, images: Iterable[ImageRecord]) -> None:
        """Have these images at hand for the page."""
        self.images.update((image.id, image) for image in images)


class Questions:
    """All questions of all browser sessions; one event loop."""

    def __init__(self, runtime: AgentRuntime, templates: Environment, bounds: Bounds | None = None) -> None:
        """Ask through this runtime."""
        self._runtime, self._templates, self._bounds = runtime, templates, bounds or Bounds()
        self._questions: dict[str, Question] = {}

    def ask(
        self, session: str, problem: Problem, config: RolloutConfig, seed: int, notes: Iterable[str] = ()
    ) -> Question:
        """Start a question.

        Args:
            session: Whose it is.
            problem: Question and images, pixels loaded.
            config: Temperatures and bounds.
            seed: Seeds draws and sandbox.
            notes: What a person should know about the question.

        Raises:
            Refusal: The server takes no more questions now.
        """
        self._runtime.refuse_if_full()
        question = Question(secrets.token_urlsafe(16), session, problem, config, seed, notes=tuple(notes))
        question.keep(problem.images)
        self._questions[question.id] = question
        self._forget(session)
        question.task = asyncio.create_task(self._run(question))
        self._left(question)
        return question

    def find(self, session: str, id: str) -> Question | None:
        """A question of this session; nobody else's is found."""
        question = self._questions.get(id)
        return question if question is not None and secrets.compare_digest(question.session, session) else None

    def recent(self, session: str) -> list[Question]:
        """Questions of this session, the last one first."""
        return [question for question in reversed(self._questions.values()) if question.session == session]

    async def stop(self, question: Question, reason: str = STOPPED) -> None:
        """Cancel it; its sandbox session is free when this returns."""
        task = question.task
        if task is not None and not task.done():
            task.cancel(reason)
            await asyncio.wait({task})

    async def follow(self, question: Question, start: int) -> AsyncGenerator[tuple[int, list[Patch]], None]:
        """What happens to a question, from a place in its log on, until it ends.

        Args:
            question: The question.
            start: How many patches are known already.

        Yields:
            How many patches are known now, and the new ones; none where nothing happened for a while.
        """
        question.watchers += 1
        if question.timer is not None:
            question.timer.cancel()
        try:
            while True:
                changed, running = question.changed, question.running
                if new := question.patches[start:]:
                    start += len(new)
                    yield start, new
                    continue
                if not running:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), self._runtime.config.keep_alive_s)
                except TimeoutError:
                    yield start, []
        finally:
            question.watchers -= 1
            self._left(question)

    async def aclose(self) -> None:
        """Stop all that run."""
        await asyncio.gather(*(self.stop(question, "the server shuts down") for question in self._questions.values()))

    # --- at work ------------------------------------------------------------------------------------------------------

    async def _run(self, question: Question) -> None:
        view = LiveView(self._templates, Linked(f"{question.path}/images"))
        try:
            await self._follow_rollout(question, view)
            error = None if question.trajectory is None else question.trajectory.error
            question.state, question.message = ("done", "") if error is None else ("failed", error.message)
        except asyncio.CancelledError as cancelled:
            question.state = "stopped"
            question.tell(view.broken_off(str(cancelled) or STOPPED))
        except (Refusal, ThymeError) as refused:
            self._failed(question, view, str(refused))
        except Exception:
            logger.exception("question %s failed", question.id)
            self._failed(question, view, "something went wrong on the server; its log says what")
        question.tell()

    def _failed(self, question: Question, view: LiveView, message: str) -> None:
        question.state, question.message = "failed", message
        question.tell(view.broken_off(message))

    async def _follow_rollout(self, question: Question, view: LiveView) -> None:
        def ended(trajectory: Trajectory) -> None:
            question.trajectory = trajectory

        name = f"ui-{question.id}"
        rollout = self._runtime.events(
            question.problem, question.config, seed=question.seed, trajectory_id=name, on_end=ended
        )
        async with aclosing(rollout) as events:
            async for event in events:
                if isinstance(event, ExecutionEvent):
                    question.keep(event.observation.execution.images)
                question.tell(view.feed(event))

    # --- bounds -------------------------------------------------------------------------------------------------------

    def _left(self, question: Question) -> None:
        """Stop it after a while, unless somebody watches again."""
        if question.running and not question.watchers:
            assert question.task is not None
            loop = asyncio.get_running_loop()
            question.timer = loop.call_later(self._bounds.unwatched_s, question.task.cancel, _UNWATCHED)

    def _forget(self, session: str) -> None:
        """Drop the oldest finished questions that are over the bounds."""
        own = [question for question in self._questions.values() if question.session == session]
        over = {question.id for question in own[: -self._bounds.questions_a_session]}
        kept, used = 0, 0
        for question in reversed(self._questions.values()):
            kept, used = kept + 1, used + question.image_bytes
            if kept > self._bounds.questions or used > self._bounds.image_bytes:
                over.add(question.id)
        for id in over:
            if not self._questions[id].running:
                del self._questions[id]
