"""The loop: the model writes, its code runs, it reads what came of it, and goes on until it answers.

A round samples text at its temperature until ``<code>``, ``</answer>`` or the end of the turn; after ``<code>`` it
samples code at its own until ``</code>``, runs it, and appends the observation. tests/agent/test_rollout_semantics.py
numbers the rules. Two that are easily got wrong:

- A block that the model does not close (end of turn, or a bound on tokens) stays in the trajectory as a code segment
  and never runs: half a program is not what the model decided to run.
- An observation is appended whole or not at all; one that would break a bound is left out, and the rollout ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from thyme.agent.draft import Draft, SpanDraft, seen_pixels
from thyme.agent.repetition import make_detector
from thyme.agent.temperature import Span, TemperatureSchedule
from thyme.config import RolloutConfig
from thyme.engines.base import Chunk, ChunkStop, Engine, Request, written_last
from thyme.errors import ContextFullError, ThymeError
from thyme.events import Event, ExecutionEvent, FinishedEvent, GeneratedEvent
from thyme.markup import ANSWER_CLOSE, CODE_OPEN, extract_code
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox, Session
from thyme.types import Generated, Observation, Problem, Prompt, SeenImage, StopReason, Trajectory

log = logging.getLogger(__name__)

DEFAULT_CONFIG = RolloutConfig()
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which servers may send as JSON; no record with it could be written as UTF-8."""


async def rollout(
    problem: Problem,
    engine: Engine,
    sandbox: Sandbox,
    config: RolloutConfig = DEFAULT_CONFIG,
    *,
    prompts: PromptSet | None = None,
    seed: int = 0,
    trajectory_id: str | None = None,
    on_end: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Let the model answer one problem.

    Args:
        problem: The question and its images, pixels loaded.
        engine: The model.
        sandbox: Runs its code; a session is opened when the first block is complete, not before.
        config: Temperatures and bounds.
        prompts: The words to ask with; None takes those of the checkpoint if it brings any, else the package's.
        seed: Seeds every span's draws and the sandbox session: the same seed gives the same trajectory.
        trajectory_id: Name of the record, unique among the rollouts that share the engine; None makes one up.
        on_end: Called once with the record, also when the rollout is cancelled and nothing is returned.

    Returns:
        The record, whatever happened: failures of engine and sandbox are on it (`StopReason.ERROR`).

    Raises:
        ConfigError: The prompts cannot be read.
        asyncio.CancelledError: The task was cancelled; cache and session are released first.
    """
    trajectory: Trajectory | None = None
    events = rollout_events(
        problem, engine, sandbox, config, prompts=prompts, seed=seed, trajectory_id=trajectory_id, on_end=on_end
    )
    async with aclosing(events):
        async for event in events:
            if isinstance(event, FinishedEvent):
                trajectory = event.trajectory
    assert trajectory is not None  # the last event of every rollout that was not cancelled
    return trajectory


async def rollout_events(
    problem: Problem,
    engine: Engine,
    sandbox: Sandbox,
    config: RolloutConfig = DEFAULT_CONFIG,
    *,
    prompts: PromptSet | None = None,
    seed: int = 0,
    trajectory_id: str | None = None,
    on_end: Callable[[Trajectory], None] | None = None,
) -> AsyncGenerator[Event, None]:
    """`rollout`, told as it happens; the last event carries the trajectory.

    Closing the iterator (``aclose``) cancels the rollout and releases what it holds.
    """
    words = prompts or _default_prompts(engine)
    draft = Draft(trajectory_id or uuid.uuid4().hex, problem, config, seed)
    loop = _Loop(draft, engine, sandbox)
    try:
        async with aclosing(loop.run(words)) as events:
            async for event in events:
                yield event
    except (GeneratorExit, asyncio.CancelledError):
        draft.stop = draft.stop or StopReason.CANCELLED
        raise
    finally:
        await loop.close()
        if draft.stop is not None:  # else a bug is on its way to the caller
            trajectory = draft.trajectory(engine.info, words.fingerprint)
            if on_end is not None:
                on_end(trajectory)
    yield FinishedEvent(trajectory)


def span_seed(seed: int, index: int) -> int:
    """Seed of one span's draws: 31 bits, by hash, so that neighbouring seeds share nothing."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def _default_prompts(engine: Engine) -> PromptSet:
    own = engine.info.prompts
    return PromptSet.load(None if own is None else Path(own))


class _Loop:
    """One rollout at work."""

    def __init__(self, draft: Draft, engine: Engine, sandbox: Sandbox) -> None:
        self._draft, self._engine, self._sandbox = draft, engine, sandbox
        self._schedule = TemperatureSchedule.of(draft.config)
        self._detector = make_detector(draft.config.repetition)
        self._resources = AsyncExitStack()
        self._session: Session | None = None
        self._opened: Span | None = None
        """The span whose opening tag ended the last text."""
        self._overhang = ""
        """Text after the last tag, within the token that completed it; it belongs to the next span's content."""

    async def run(self, prompts: PromptSet) -> AsyncGenerator[Event, None]:
        """Generate and execute in turn until the draft has a reason to stop."""
        self._resources.push_async_callback(self._engine.release, self._draft.id)
        self._ask(prompts)
        span: Span | None = None
        while self._draft.stop is None:
            async with aclosing(self._generate(span)) as events:
                async for event in events:
                    yield event
            if self._draft.stop is None and span is not None and span.kind == "code":
                observation = await self._execute()
                if observation is not None:
                    yield ExecutionEvent(observation)
            span = self._opened if span is None else None

    async def close(self) -> None:
        """Give back the sandbox session and the engine's cache. Failing at that spoils no finished trajectory."""
        try:
            await self._resources.aclose()
        except ThymeError as error:
            log.warning("rollout %s could not be closed cleanly: %s", self._draft.id, error)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask(self, prompts: PromptSet) -> None:
        """Make the prompt, or end the draft with the reason why there is none."""
        draft, engine = self._draft, self._engine
        images = draft.problem.images
        try:
            seen = [engine.seen_size(*image.size) for image in images]
            system, user = prompts.render(draft.problem, seen)
            draft.prompt = Prompt(  # what the record shows where the engine cannot make its own
                system=system,
                user=user,
                images=tuple(
                    SeenImage(image=image, seen_width=size[0], seen_height=size[1])
                    for image, size in zip(images, seen, strict=True)
                ),
            )
            with draft.clock("engine"):
                draft.prompt = engine.prompt(system, user, images)
        except ContextFullError:
            draft.end(StopReason.CONTEXT)
        except ThymeError as error:
            draft.fail("prompt", error)

    # --- generating ---------------------------------------------------------------------------------------------------

    async def _generate(self, span: Span | None) -> AsyncGenerator[Event, None]:
        """Sample one span; afterwards the draft has its segment, and a reason to stop if there is one."""
        draft = self._draft
        self._opened = None
        if draft.tokens_left <= 0:
            draft.end(draft.token_bound)
            return
        request = self._request(span)
        writer = SpanDraft("text" if span is None else span.kind, request.temperature)
        ending = _Ending(request.stop, self._overhang)
        try:
            async with _closing(self._engine.stream(request)) as chunks:
                while (chunk := await self._next(chunks)) is not None:
                    writer.add(chunk)
                    if chunk.text:
                        yield GeneratedEvent(writer.kind, chunk.text)
                    if self._detector is not None and self._detector.feed(chunk.text):
                        draft.end(StopReason.REPETITION)
                    if ending.reached(chunk) or draft.stop is not None:
                        break
        except ContextFullError:
            draft.end(StopReason.CONTEXT)
        except ThymeError as error:
            draft.fail("engine", error)
        finally:
            bound = draft.token_bound
            draft.add_span(writer)
        if draft.stop is None:
            self._conclude(ending, bound)

    async def _next(self, chunks: AsyncIterator[Chunk]) -> Chunk | None:
        with self._draft.clock("engine"):
            chunk = await anext(chunks, None)
        if chunk is None or chunk.text.isascii():
            return chunk
        return replace(chunk, text=_HALF_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", chunk.text))

    def _request(self, span: Span | None) -> Request:
        draft = self._draft
        tools = draft.config.tools
        request = Request(
            trajectory_id=draft.id,
            prompt=draft.prompt,
            segments=tuple(draft.segments),
            temperature=self._schedule.temperature(span),
            stop=self._schedule.stops(span, tools=tools),
            blocked=() if tools else (CODE_OPEN,),
            max_tokens=draft.tokens_left,
            seed=span_seed(draft.seed, draft.spans),
        )
        draft.spans += 1
        return request

    def _conclude(self, ending: _Ending, bound: StopReason) -> None:
        """What follows from how a span ended: a reason to stop, or the span that comes next."""
        draft, tag = self._draft, ending.stop_string
        self._overhang = ""
        if ending.stop == "context":
            draft.end(StopReason.CONTEXT)
        elif ending.stop == "length":
            draft.end(bound)
        elif ending.stop == "end" or tag is None:
            draft.end(StopReason.END)
        elif tag == ANSWER_CLOSE:
            draft.end(StopReason.ANSWER)
        else:
            self._opened = self._schedule.opened_by(tag)
            written = written_last(draft.segments)
            self._overhang = written[written.rfind(tag) + len(tag) :]
            if self._opened is not None and self._opened.kind == "code" and draft.rounds >= draft.config.max_rounds:
                draft.end(StopReason.MAX_ROUNDS)

    # --- executing ----------------------------------------------------------------------------------------------------

    async def _execute(self) -> Observation | None:
        """Run the block that was just closed; None if the draft ended instead."""
        draft = self._draft
        draft.rounds += 1
        try:
            with draft.clock("sandbox"):
                session = await self._open_session()
                execution = await session.run(self._code())
        except ThymeError as error:
            draft.fail("sandbox", error)
            return None
        try:
            with draft.clock("engine"):
                observation = self._engine.observation(execution)
        except ContextFullError:
            draft.end(StopReason.CONTEXT)
            return None
        except ThymeError as error:
            draft.fail("engine", error)
            return None
        broken = self._broken_bound(observation)
        if broken is not None:
            draft.end(broken)
            return None
        draft.add_observation(observation)
        self._overhang = ""
        return observation

    async def _open_session(self) -> Session:
        if self._session is None:
            session = self._sandbox.session(self._draft.problem.images, self._draft.seed)
            self._session = await self._resources.enter_async_context(session)
        return self._session

    def _code(self) -> str:
        """The source of the last block: all that follows its opening tag, which may end in the middle of a token."""
        *before, code = self._draft.segments
        assert isinstance(code, Generated)
        text = written_last(before)
        return extract_code(text[text.rfind(CODE_OPEN) :] + code.text)

    def _broken_bound(self, observation: Observation) -> StopReason | None:
        """The bound that appending this observation would break."""
        draft, config = self._draft, self._draft.config
        limit = self._engine.info.capabilities.max_context
        if draft.images + len(observation.execution.images) > config.max_images:
            return StopReason.MAX_IMAGES
        if draft.pixels + seen_pixels(observation) > config.max_pixels:
            return StopReason.MAX_PIXELS
        if limit is not None and observation.token_ids and draft.context_tokens + len(observation.token_ids) >= limit:
            return StopReason.CONTEXT
        return None


class _Ending:
    """How a span ends: by what the engine says, or by a stop string that it could not see.

    An engine looks for stop strings in the span it generates. The one exception that real tokenizers produce is a tag
    that begins inside the token which completed the tag before (``></`` in ``<code></code>``).
    """

    def __init__(self, stops: tuple[str, ...], overhang: str) -> None:
        self.stop: ChunkStop = "end"
        self.stop_string: str | None = None
        self._stops = stops
        self._border = len(overhang)
        self._head = overhang
        """Overhang and what followed, until no tag that began in the overhang can be completed any more."""

    def reached(self, chunk: Chunk) -> bool:
        """Take a chunk; whether the span is over with it."""
        if chunk.stop is not None:
            self.stop, self.stop_string = chunk.stop, chunk.stop_string
            return True
        if len(self._head) > self._border + max(map(len, self._stops)):
            return False
        self._head += chunk.text
        for stop in self._stops:
            if 0 <= self._head.find(stop) < self._border:
                self.stop, self.stop_string = "stop", stop
                return True
        return False


@asynccontextmanager
async def _closing(chunks: AsyncIterator[Chunk]) -> AsyncIterator[AsyncIterator[Chunk]]:
    """Close an engine's stream at the end, which cancels what is still being generated."""
    try:
        yield chunks
    finally:
        aclose = getattr(chunks, "aclose", None)
        if aclose is not None:
            await aclose()
