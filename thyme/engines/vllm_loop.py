"""The thread that runs vLLM: spans come and go between its steps, and so do new weights."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from thyme.engines.local import token_chunk
from thyme.engines.outbox import Delivery, Outbox, deliver
from thyme.engines.span_text import SpanText
from thyme.engines.vllm_load import Weights, load_weights, stop_vllm
from thyme.errors import EngineError

_log = logging.getLogger(__name__)
_numbers = itertools.count()
_only = threading.Lock()
"""Held while vLLM runs: it keeps state for the whole process, which a second one would tear down."""


@dataclass(eq=False)
class Span:
    """A request, made ready for vLLM's thread."""

    ids: tuple[int, ...]
    """Everything before the first token to generate, image placeholders expanded."""
    prompt: dict[str, Any]
    """The same as vLLM takes it: one placeholder an image, and the images."""
    sampling: Any
    """vLLM's sampling parameters."""
    text: SpanText
    max_tokens: int
    outbox: Outbox
    id: str = field(default_factory=lambda: f"span-{next(_numbers)}")
    written: int = 0
    """Tokens generated so far."""


@dataclass
class VllmCounters:
    """What was run, since the engine was made."""

    steps: int = 0
    """Steps of vLLM."""
    prompt_tokens: int = 0
    """Tokens that stood before the spans."""
    cached_tokens: int = 0
    """Those of them that the prefix cache had, so that they were not run again."""
    generated_tokens: int = 0


class VllmLoop:
    """Runs spans on vLLM, many at a time, on a thread of its own."""

    def __init__(self, start: Callable[[], Any], end_ids: frozenset[int], max_context: int, numbers: int) -> None:
        """Start vLLM and wait until it is ready.

        Args:
            start: Makes vLLM's engine; called on the thread.
            end_ids: Tokens that end a turn.
            max_context: Tokens that a trajectory may have.
            numbers: How many numbers the model's weights are.

        Raises:
            EngineError: What kept vLLM from starting, or it runs in this process already.
        """
        self._start, self._end_ids, self._max_context, self._numbers = start, end_ids, max_context, numbers
        self._commands: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._spans: dict[str, Span] = {}
        self._held: deque[Span] = deque()
        """Spans that wait for new weights."""
        self._updates: deque[tuple[Weights, Future[str | None]]] = deque()
        self._out: list[Delivery] = []
        self._ended: EngineError | None = None
        """Why nothing runs any more."""
        self._lock = threading.Lock()
        """Held to ask for something and to end: what was asked for is answered."""
        self._engine: Any = None
        self.counters = VllmCounters()
        if not _only.acquire(blocking=False):
            raise EngineError("vLLM runs in this process already, and it can do so once; close that engine first")
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="thyme-vllm", daemon=True)
        self._thread.start()
        ready.result()

    # --- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, span: Span) -> None:
        """Begin a span with the next step.

        Raises:
            EngineError: The engine was closed, or broke down.
        """
        self._ask(partial(self._admit, span))

    def cancel(self, span: Span) -> None:
        """Stop a span, if it still runs."""
        self._commands.put(partial(self._cancel, span))

    def update(self, weights: Weights) -> Future[str | None]:
        """Change the weights as soon as no span runs; spans that come meanwhile wait. Gives their fingerprint.

        Raises:
            EngineError: The engine was closed, or broke down.
        """
        done: Future[str | None] = Future()
        self._ask(partial(self._updates.append, (weights, done)))
        return done

    @property
    def ended(self) -> bool:
        """Whether nothing runs any more."""
        return self._ended is not None

    def close(self) -> None:
        """End what runs, stop vLLM, and wait for it."""
        self._commands.put(partial(self._end, EngineError("the engine was closed")))
        self._thread.join()

    def _ask(self, command: Callable[[], object]) -> None:
        with self._lock:
            if self._ended is not None:
                raise EngineError(str(self._ended))  # one of its own: an error keeps the frames it was raised through
            self._commands.put(command)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self, ready: Future[None]) -> None:
        try:
            self._engine = self._start()
        except BaseException as error:  # belongs to whoever waits
            _only.release()
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while self._ended is None:
                self._obey()
                self._change_weights()
                self._step()
                self._deliver()
        except Exception as error:  # whatever vLLM raises: nobody may wait for a thread that is gone
            _log.exception("vLLM broke down")
            self._end(EngineError(f"vLLM broke down: {type(error).__name__}: {error}"))
        self._refuse()
        try:
            stop_vllm(self._engine)
        finally:
            self._engine = None
            _only.release()

    def _obey(self) -> None:
        """Carry out what was asked for, and wait for it where there is nothing else to do."""
        wait = not self._spans and not self._updates
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return
            command()
            wait = False

    def _end(self, error: EngineError) -> None:
        with self._lock:
            self._ended = self._ended or error

    def _refuse(self) -> None:
        """Tell everybody who waits why nothing runs any more."""
        while not self._commands.empty():
            self._commands.get()()
        error = self._ended or EngineError("the engine was closed")
        self._out += [(span.outbox, error) for span in (*self._spans.values(), *self._held)]
        for _, done in self._updates:
            if done.set_running_or_notify_cancel():
                done.set_exception(error)
        self._spans.clear()
        self._held.clear()
        self._updates.clear()
        self._deliver()

    def _admit(self, span: Span) -> None:
        if self._updates or self._ended is not None:
            self._held.append(span)
            return
        try:
            self._engine.add_request(span.id, span.prompt, span.sampling)
        except Exception as error:  # vLLM refuses by several kinds of errors; this span alone is over
            self._out.append((span.outbox, EngineError(f"vLLM refused the request: {error}")))
            return
        self._spans[span.id] = span

    def _cancel(self, span: Span) -> None:
        if span in self._held:
            self._held.remove(span)
        if self._spans.pop(span.id, None) is not None and self._ended is None:
            self._engine.abort_request([span.id])

    def _change_weights(self) -> None:
        """Between spans only: the tokens of one span all come from the same weights."""
        while self._updates and not self._spans:
            weights, done = self._updates.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                fingerprint = load_weights(self._engine, weights, self._numbers)
            except BaseException as error:
                broken = EngineError(f"the weights were not taken, and are neither old nor new now: {error}")
                done.set_exception(broken)
                raise broken from error
            done.set_result(fingerprint)
        if not self._updates:
            held, self._held = self._held, deque()
            for span in held:
                self._admit(span)

    def _step(self) -> None:
        if not self._spans:
            return
        self.counters.steps += 1
        for output in self._engine.step():
            span = self._spans.get(output.request_id)
            if span is not None:
                self._take(span, output)

    def _take(self, span: Span, output: Any) -> None:
        """Hand on the tokens of a span that a step gave."""
        (written,) = output.outputs
        if not span.written and tuple(output.prompt_token_ids) != span.ids:
            self._fail(span, "vLLM makes other image tokens of these images than this package; check its pixel limits")
            return
        if not span.written:
            self.counters.prompt_tokens += len(span.ids)
            self.counters.cached_tokens += output.num_cached_tokens or 0
        for token, entry in zip(written.token_ids, written.logprobs or (), strict=True):
            span.written += 1
            self.counters.generated_tokens += 1
            chunk = token_chunk(
                span.text,
                token,
                entry[token].logprob,
                end=token in self._end_ids,
                full=len(span.ids) + span.written >= self._max_context,
                last=span.written >= span.max_tokens,
            )
            self._out.append((span.outbox, chunk))
            if chunk.stop is not None:
                self._cancel(span)
                return
        if output.finished:
            self._fail(span, f"vLLM ended the span by itself ({written.finish_reason})")

    def _fail(self, span: Span, why: str) -> None:
        self._cancel(span)
        self._out.append((span.outbox, EngineError(why)))

    def _deliver(self) -> None:
        """Hand out what the step gave; spans that nobody waits for any more end."""
        out, self._out = self._out, []
        gone = deliver(out)
        for span in [span for span in self._spans.values() if span.outbox in gone]:
            self._cancel(span)
