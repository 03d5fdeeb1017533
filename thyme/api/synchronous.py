"""`Thyme`: `AsyncThyme` for scripts, notebooks and threads; no event loop to keep."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from thyme.api.asynchronous import AsyncThyme, EngineLike, Question, SandboxLike
from thyme.api.result import Result
from thyme.background import Background
from thyme.config import EngineConfig, RolloutConfig
from thyme.errors import EngineError, ThymeError
from thyme.events import Event
from thyme.images import MAX_PIXELS
from thyme.models import NANO
from thyme.prompts import PromptSet
from thyme.sandbox.facade import Images


class Thyme:
    """Asks a model that thinks with images by writing Python.

    It opens when it is made and closes with its ``with`` block, with `close`, when it is forgotten, or with the
    program. It works where an event loop runs already (Jupyter), and any number of threads may ask at once. What it
    opened it closes; an engine or a sandbox that was given stays yours. It does not survive a fork.
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
        """Open model and sandbox; the arguments are those of `AsyncThyme`.

        Raises:
            UsageError: There is no such model, setting, or level of isolation here.
            MissingExtraError: What the model needs is not installed.
            EngineError: The model's server cannot be asked.
            SandboxError: The sandbox's server cannot be reached.
        """
        thyme = AsyncThyme(
            engine,
            sandbox=sandbox,
            config=config,
            engine_config=engine_config,
            prompts=prompts,
            max_pixels=max_pixels,
            **settings,
        )
        self._background = Background(thyme, "Thyme", EngineError)
        self._finalizer = weakref.finalize(self, self._background.end)

    def ask(
        self,
        images: Images | None,
        question: str,
        *,
        seed: int = 0,
        config: RolloutConfig | None = None,
        **settings: Any,
    ) -> Result:
        """Ask one question and wait for the answer; see `AsyncThyme.ask`. Ctrl-C cancels it."""
        thyme = self._background.value
        return self._background.call(lambda: thyme.ask(images, question, seed=seed, config=config, **settings))

    def stream(
        self,
        images: Images | None,
        question: str,
        *,
        seed: int = 0,
        config: RolloutConfig | None = None,
        **settings: Any,
    ) -> Generator[Event, None, None]:
        """`ask`, told as it happens; see `AsyncThyme.stream`. Leaving the loop cancels what still runs."""
        thyme = self._background.value
        yield from self._background.iterate(
            lambda: thyme.stream(images, question, seed=seed, config=config, **settings)
        )

    @overload
    def ask_many(
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
    def ask_many(
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

    def ask_many(
        self, questions: Iterable[Question], *, return_exceptions: bool = False, **options: Any
    ) -> list[Result] | list[Result | ThymeError]:
        """Ask many questions, several at a time, and wait for all; see `AsyncThyme.ask_many`. Ctrl-C cancels them."""
        thyme, pairs = self._background.value, list(questions)
        return self._background.call(lambda: thyme.ask_many(pairs, return_exceptions=return_exceptions, **options))

    def close(self) -> None:
        """Close model and sandbox; questions that are at work fail. To close twice is no error."""
        self._finalizer()

    def __enter__(self) -> Self:
        """The object itself; it is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Model and level of isolation, or that it is closed."""
        opened = repr(self._background.value).removeprefix("<AsyncThyme ").removesuffix(">")
        return f"<Thyme {opened if self._finalizer.alive else 'closed'}>"
