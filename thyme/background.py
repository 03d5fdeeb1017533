"""An event loop in a thread of its own, for callers who have none: where `Sandbox` and `Thyme` really live."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Generic, TypeVar

from thyme.errors import ThymeError

S = TypeVar("S")
T = TypeVar("T")


class Held(Generic[T]):
    """An asynchronous context, held open by a task of its own until it is let go."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: AbstractAsyncContextManager[T], closed_meanwhile: ThymeError
    ) -> None:
        """Prepare; `begin` opens it."""
        self._loop, self._context, self._closed_meanwhile = loop, context, closed_meanwhile
        self._task: asyncio.Task[None] | None = None
        self.opened: Future[T] = Future()
        """What the context gave, or why it did not."""
        self.closed: Future[None] = Future()
        """Done once nothing of it is left."""

    def begin(self) -> asyncio.Task[None]:
        """Start to open it; in the loop's thread."""
        self._task = self._loop.create_task(self._hold())
        self._task.add_done_callback(self._settle)
        return self._task

    async def _hold(self) -> None:
        async with self._context as value:
            self.opened.set_result(value)
            await self._loop.create_future()  # until this task is cancelled

    def _settle(self, task: asyncio.Task[None]) -> None:
        """Tell those who wait how it ended."""
        error = None if task.cancelled() else task.exception()
        if not self.opened.done():
            self.opened.set_exception(error or self._closed_meanwhile)
            error = None
        self.closed.set_exception(error) if error else self.closed.set_result(None)

    def let_go(self) -> None:
        """Have it closed, without waiting; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it whatever lived there
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Threads(ThreadPoolExecutor):
    """Does the work at once when the interpreter ends and no more can be handed to a thread."""

    def submit(self, fn: Callable[..., S], /, *args: Any, **kwargs: Any) -> Future[S]:
        """See `ThreadPoolExecutor.submit`."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            done: Future[S] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:  # as a pool would: whoever waits for the future meets it
                done.set_exception(error)
            return done


class Background(Generic[T]):
    """An event loop in a thread of its own, and what lives in it: a sandbox, say.

    The processes of a sandbox end with the thread that started them, so that this one lives as long as the sandbox.
    """

    def __init__(self, context: AbstractAsyncContextManager[T], what: str, error: type[ThymeError]) -> None:
        """Open it.

        Args:
            context: Gives what is to live there. What opening it raises is raised here.
            what: What messages call it: ``sandbox``.
            error: Raised where it is used after its end.
        """
        self._what, self._error = what, error
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Threads(thread_name_prefix=f"thyme-{what}"))
        self._main = Held(self._loop, context, self._closed_meanwhile())
        self._process, self._ended = os.getpid(), False
        self._gate = threading.RLock()
        """Work is handed over before the order to end, or not at all."""
        self._thread = threading.Thread(target=self._serve, name=f"thyme-{self._what}", daemon=True)
        self._thread.start()
        try:
            self.value: T = self._main.opened.result()
        except BaseException:
            self.end()
            raise

    def _serve(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(asyncio.wait([self._main.begin()]))
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        finally:
            loop.close()

    def require_open(self) -> None:
        """Raise where nothing can run any more."""
        if os.getpid() != self._process:
            raise self._error(f"this {self._what} belongs to the process that this one was forked from; open one here")
        if self._ended:
            raise self._error(f"the {self._what} is closed")

    def _closed_meanwhile(self) -> ThymeError:
        return self._error(f"the {self._what} was closed meanwhile")

    def hold(self, context: AbstractAsyncContextManager[S]) -> Held[S]:
        """Open a context there, without waiting for it."""
        self.require_open()
        with self._gate:
            self.require_open()
            held = Held(self._loop, context, self._closed_meanwhile())
            self._loop.call_soon_threadsafe(held.begin)
        return held

    def submit(self, function: Callable[[], Coroutine[Any, Any, S]]) -> Future[S]:
        """Start a coroutine there; cancelling the future cancels it."""
        self.require_open()
        with self._gate:
            self.require_open()
            return asyncio.run_coroutine_threadsafe(function(), self._loop)

    def call(self, function: Callable[[], Coroutine[Any, Any, S]]) -> S:
        """Run a coroutine there and wait for it; an interrupt cancels it."""
        return self.result(self.submit(function))

    def result(self, future: Future[S]) -> S:
        """Wait for what `submit` gave; an interrupt cancels it."""
        try:
            return future.result()
        except CancelledError:
            raise self._closed_meanwhile() from None
        except BaseException:
            future.cancel()
            raise

    def iterate(self, make: Callable[[], AsyncGenerator[S, None]]) -> Generator[S, None, None]:
        """Iterate from here what is generated there, by one task; leaving the loop cancels it and waits for its end.

        Args:
            make: Gives the generator.
        """
        inbox = queue.SimpleQueue[tuple[S] | None]()

        async def follow() -> None:
            async with aclosing(make()) as items:
                async for item in items:
                    inbox.put((item,))

        async def start() -> asyncio.Task[None]:
            task = asyncio.create_task(follow())
            task.add_done_callback(lambda _: inbox.put(None))  # also of a task that is cancelled before its first step
            return task

        task = self.call(start)
        ended = False
        try:
            while (item := inbox.get()) is not None:
                yield item[0]
            ended = True
            if task.cancelled():
                raise self._closed_meanwhile()
            task.result()
        finally:
            if not ended:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and with it whatever lived there
                    self._loop.call_soon_threadsafe(task.cancel)
                while not self.is_here and inbox.get() is not None:
                    pass

    def wait_closed(self, held: Held[Any]) -> None:
        """Have a context closed and wait until it is, unless that would be waiting for oneself."""
        if os.getpid() == self._process:
            held.let_go()
            if not self.is_here:
                held.closed.result()

    @property
    def is_here(self) -> bool:
        """Whether this is the thread itself, which must not wait for what it has to do."""
        return threading.current_thread() is self._thread

    def end(self) -> None:
        """Close what lives there and everything that is left, and end the thread."""
        if os.getpid() != self._process:
            return
        with self._gate:
            self._ended = True
            self._main.let_go()
        if not self.is_here:  # what is forgotten is closed wherever that is noticed
            self._thread.join()
            self._main.closed.result()
