"""`AsyncThyme`: a model and a sandbox, to be asked from an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, overload

from rich.console import Console
from rich.progress import Progress

from thyme.agent.rollout import rollout_events
from thyme.api.result import Result, failure_error
from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.config.load import changed
from thyme.engines.base import Engine
from thyme.errors import EngineError, ThymeError, UsageError
from thyme.events import Event, FinishedEvent
from thyme.images import MAX_PIXELS
from thyme.models import NANO, open_model
from thyme.prompts import PromptSet
from thyme.sandbox import Sandbox, base, open_sandbox
from thyme.sandbox.facade import Images, read_images
from thyme.types import ImageRecord, Problem

logger = logging.getLogger(__name__)

EngineLike: TypeAlias = str | Path | Engine
"""What a user calls a model (see `thyme.models`), or an engine."""
SandboxLike: TypeAlias = SandboxConfig | str | Sandbox | base.Sandbox | None
"""Settings of one to start here, the URL of ``thyme sandbox serve``, or one that is there. None: the best one here."""
Question: TypeAlias = tuple[Images | None, str]
"""Pictures, or None, and what to ask about them."""


@dataclass(frozen=True, slots=True)
class _Opened:
    engine: Engine
    sandbox: base.Sandbox


class AsyncThyme:
    """Asks a model that thinks with images by writing Python.

    It opens at the start of its ``async with`` block or with the first question, belongs to one event loop, and any
    number of tasks may ask at once. What it opened it closes; an engine or a sandbox that was given stays yours.
    """

    def __init__(
        self,
        engine: EngineLike = NANO,
        *,
        sandbox: SandboxLike = None,
        config: RolloutConfig | None = None,
        engine_config: EngineConfig | None = None,
        prompts: PromptSet | str | Path | None = None,
        max_pixels: int = MAX_PIXELS,
        **settings: Any,
    ) -> None:
        """Say what is to be opened; nothing is yet.

        Args:
            engine: ``nano``, a checkpoint folder, a hub id, ``URL#NAME`` of an OpenAI-compatible server, or an
                `Engine` object.
            sandbox: Where code runs: None is the strongest level of this machine; a `SandboxConfig`; the URL of a
                ``thyme sandbox serve`` (its token in THYME_SANDBOX_TOKEN); a `thyme.sandbox.Sandbox`; or an object of
                the contract `thyme.sandbox.base.Sandbox`.
            config: Temperatures and bounds; None is greedy.
            engine_config: How a model that is named is loaded and run.
            prompts: Folder of prompt files; None takes the model's own if it brings any, else the package's.
            max_pixels: Largest input image, pixels.
            settings: Fields of `RolloutConfig`, over those of `config`: ``tools=False``, ``text_temperature=1``, …

        Raises:
            ConfigError: There is no such setting, or not with that value; or the prompts cannot be read.
        """
        self._engine, self._sandbox, self._max_pixels = engine, sandbox, max_pixels
        self._engine_config = engine_config
        self._config = _settled(config or RolloutConfig(), settings)
        self._prompts = PromptSet.load(Path(prompts)) if isinstance(prompts, str | Path) else prompts
        self._gate, self._resources = asyncio.Lock(), AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: _Opened | None = None
        self._closed = False

    # --- asking -------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        images: Images | None,
        question: str,
        *,
        seed: int = 0,
        config: RolloutConfig | None = None,
        **settings: Any,
    ) -> Result:
        """Ask one question.

        Args:
            images: One picture or several: paths, bytes, Pillow images, uint8 arrays of (height, width, 3), or
                records. None for a question in words alone.
            question: What to ask about them.
            seed: Seeds every draw and the sandbox: the same seed gives the same trajectory.
            config: In place of this object's own.
            settings: Fields of `RolloutConfig`, for this question only.

        Returns:
            The answer and the trajectory. A model that runs into a bound gives no answer, which is a result.

        Raises:
            ImageError: A picture cannot be used.
            UsageError: The question is empty; there is no such model or setting.
            EngineError: The model could not be asked.
            SandboxError: The sandbox itself failed; code that fails is part of the trajectory.
        """
        async with aclosing(self.stream(images, question, seed=seed, config=config, **settings)) as events:
            async for event in events:
                if isinstance(event, FinishedEvent):
                    result = Result(event.trajectory)
        if result.trajectory.error is not None:
            raise failure_error(result.trajectory.error)
        return result

    async def stream(
        self,
        images: Images | None,
        question: str,
        *,
        seed: int = 0,
        config: RolloutConfig | None = None,
        **settings: Any,
    ) -> AsyncGenerator[Event, None]:
        """`ask`, told as it happens.

        Closing the generator cancels what still runs.

        Yields:
            A `GeneratedEvent` for each piece of text, an `ExecutionEvent` for each block that ran, and at the end one
            `FinishedEvent` with the trajectory, on which a failure of engine or sandbox is recorded, not raised.
        """
        chosen = _settled(config or self._config, settings)
        if not isinstance(seed, int):
            raise UsageError(f"seed is a {type(seed).__name__}; give a whole number")
        opened = await self._open()
        problem = await asyncio.to_thread(self._problem, opened.engine, images, question)
        rollout = rollout_events(problem, opened.engine, opened.sandbox, chosen, prompts=self._prompts, seed=seed)
        async with aclosing(rollout) as events:
            async for event in events:
                yield event

    @overload
    async def ask_many(
        self,
        questions: Iterable[Question],
        *,
        concurrency: int = ...,
        progress: bool = ...,
        return_exceptions: Literal[False] = ...,
        seed: int = ...,
        config: RolloutConfig | None = ...,
        **settings: Any,
    ) -> list[Result]: ...

    @overload
    async def ask_many(
        self,
        questions: Iterable[Question],
        *,
        concurrency: int = ...,
        progress: bool = ...,
        return_exceptions: bool,
        seed: int = ...,
        config: RolloutConfig | None = ...,
        **settings: Any,
    ) -> list[Result | ThymeError]: ...

    async def ask_many(
        self,
        questions: Iterable[Question],
        *,
        concurrency: int = 8,
        progress: bool = False,
        return_exceptions: bool = False,
        seed: int = 0,
        config: RolloutConfig | None = None,
        **settings: Any,
    ) -> list[Result] | list[Result | ThymeError]:
        """Ask many questions, several at a time.

        Args:
            questions: Pairs of pictures (or None) and question; pictures are read when their turn comes.
            concurrency: Questions that are at work at once.
            progress: Show a bar on stderr, where that is a terminal or a notebook.
            return_exceptions: Put the error of a question that failed in its place, as `asyncio.gather` does; else the
                first one is raised and the rest given up.
            seed: Of the first question; each further one has the next.
            config: In place of this object's own.
            settings: Fields of `RolloutConfig`.

        Returns:
            Results in the order of the questions.

        Raises:
            UsageError: `questions` are no pairs.
            ThymeError: See `ask`.
        """
        pairs = _pairs(questions)
        chosen = _settled(config or self._config, settings)
        if concurrency < 1:
            raise UsageError(f"concurrency is {concurrency}; it must be 1 or more")
        places = asyncio.Semaphore(concurrency)
        with _progress(len(pairs), progress) as advance:

            async def answered(index: int) -> Any:
                async with places:
                    try:
                        return await self.ask(*pairs[index], seed=seed + index, config=chosen)
                    except ThymeError as error:
                        if not return_exceptions:
                            raise
                        return error
                    finally:
                        advance()

            tasks = [asyncio.create_task(answered(index)) for index in range(len(pairs))]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _problem(self, engine: Engine, images: Images | None, question: str) -> Problem:
        if not isinstance(question, str) or not question.strip():
            raise UsageError("the question must be text that is not empty: ask(image, 'What ...?')")
        if not _is_unicode(question):
            raise UsageError(
                "the question holds half of a character (a lone surrogate); decode it with errors='replace'"
            )
        records = () if images is None else tuple(read_images(images, self._max_pixels))
        if engine.info.name == NANO:
            _warn_of_foreign(records)
        return Problem(id="ask", question=question, images=records)

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def _open(self) -> _Opened:
        async with self._gate:
            if self._closed:
                raise EngineError("this Thyme is closed; open another")
            loop = asyncio.get_running_loop()
            if (self._loop or loop) is not loop:
                raise UsageError("this AsyncThyme was opened in another event loop; open one here, or use Thyme")
            if self._opened is None:
                self._loop = loop
                async with AsyncExitStack() as resources:
                    sandbox = await _open_sandbox(self._sandbox, resources)
                    self._opened = _Opened(await self._open_engine(resources), sandbox)
                    self._resources = resources.pop_all()
            return self._opened

    async def _open_engine(self, resources: AsyncExitStack) -> Engine:
        if isinstance(self._engine, str | Path):
            # Weights take seconds to read; the loop goes on meanwhile.
            engine = await asyncio.to_thread(open_model, str(self._engine), self._engine_config)
            return await resources.enter_async_context(aclosing(engine))
        if not isinstance(self._engine, Engine):
            raise UsageError(f"engine is a {type(self._engine).__name__}; give a model's name or folder, or an Engine")
        return self._engine

    async def aclose(self) -> None:
        """Close what was opened. To close twice is no error."""
        async with self._gate:
            self._closed = True
            await self._resources.aclose()

    async def __aenter__(self) -> Self:
        """Open now, so that what is missing is said here."""
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.aclose()

    def __repr__(self) -> str:
        """Model, level of isolation, or that it is closed."""
        if self._closed:
            return "<AsyncThyme closed>"
        if self._opened is None:
            return "<AsyncThyme not open yet>"
        return f"<AsyncThyme {self._opened.engine.info.name}, {self._opened.sandbox.isolation}>"


async def _open_sandbox(sandbox: SandboxLike, resources: AsyncExitStack) -> base.Sandbox:
    if isinstance(sandbox, Sandbox):
        return sandbox.lent()
    if sandbox is None or isinstance(sandbox, SandboxConfig):
        return await resources.enter_async_context(open_sandbox(sandbox or SandboxConfig()))
    if isinstance(sandbox, str):
        from thyme.sandbox.remote import open_remote  # not before it is asked for: it needs an HTTP client

        return await resources.enter_async_context(open_remote(sandbox))
    if isinstance(sandbox, base.Sandbox):
        return sandbox
    raise UsageError(f"sandbox is a {type(sandbox).__name__}; give a SandboxConfig, a URL, or a Sandbox")


def _settled(config: RolloutConfig, settings: dict[str, Any]) -> RolloutConfig:
    return changed(config, settings, "settings of the rollout")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pairs(questions: Iterable[Question]) -> list[Question]:
    pairs = list(questions)
    for index, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UsageError(
                f"question {index + 1} is a {type(pair).__name__}; give pairs: (image or None, 'What ...?')"
            )
    return pairs


@contextmanager
def _progress(total: int, wanted: bool) -> Iterator[Callable[[], None]]:
    """A bar where somebody sees it, and what moves it on by one."""
    console = Console(stderr=True)
    if not wanted or not (console.is_terminal or console.is_jupyter):
        yield lambda: None
        return
    with Progress(console=console) as progress:
        bar = progress.add_task("asking", total=total)
        yield lambda: progress.advance(bar)


def _warn_of_foreign(images: Iterable[ImageRecord]) -> None:
    """Log which pictures are from outside nano's world, so that nobody takes its answer for knowledge."""
    from thyme.nano.foreign import foreign

    for image in images:
        if (reason := foreign(image.image)) is not None:
            logger.warning(
                "%s is no picture of nano's world (%s); its answer means nothing", image.name or "it", reason
            )
