"""The model's thread: every step feeds all rows that have something to feed, whatever state each is in.

A row reads (prompt, observation, or what a cancelled span left behind), then writes, one token a step. Rows come and go
between steps. What a row knows stays cached by trajectory when its span ends, until the trajectory is released.
"""

from __future__ import annotations

import logging
import queue
import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from thyme.config.engine import EngineConfig
from thyme.engines.outbox import Delivery, deliver
from thyme.engines.transformers_cache import RowCache
from thyme.engines.transformers_model import Features, Feed, PackedModel
from thyme.engines.transformers_pictures import Look, Pictures
from thyme.engines.transformers_rows import Job, Reading, Row
from thyme.engines.transformers_sampling import choose
from thyme.engines.transformers_sharing import reads_the_same, start_from_others
from thyme.errors import EngineError, ThymeError
from thyme.families import Family
from thyme.types import ImageRecord

_log = logging.getLogger(__name__)


@dataclass
class Counters:
    """What was run, since the engine was made."""

    steps: int = 0
    """Forward passes of the language model."""
    fed_tokens: int = 0
    """Tokens fed in them: no padding, and nothing that was cached."""
    images_seen: int = 0
    """Passes of the vision tower."""


class Scheduler:
    """Runs jobs on one model, many at a time, on a thread of its own."""

    def __init__(self, model: PackedModel, family: Family, config: EngineConfig, max_context: int) -> None:
        """Prepare; the thread starts with the first job.

        Args:
            model: The model; nobody else runs it meanwhile.
            family: The checkpoint's family.
            config: Batch and prefill limits.
            max_context: Tokens that a trajectory may have.
        """
        self._model, self._family, self._config, self._max_context = model, family, config, max_context
        self._never = torch.tensor(
            sorted({*family.never_sampled, *range(len(family.token_bytes), model.vocabulary)}), device=model.device
        )
        self._end_ids = frozenset(family.end_ids)
        self._commands: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pictures = Pictures(lambda patches, grid: model.see(patches, grid), family)
        self._waiting: deque[Job] = deque()
        self._rows: list[Row] = []
        self._idle: OrderedDict[str, RowCache] = OrderedDict()
        """Caches of trajectories that are not being generated, the longest unused first."""
        self._out: list[Delivery] = []
        self._ended: EngineError | None = None
        """Why nothing runs any more."""
        self._lock = threading.Lock()
        """Held to ask for something and to end: what was asked for is answered."""
        self._stalled = False
        """Whether all that wait do so for what a row is reading."""
        self.counters = Counters()

    # --- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Begin a span as soon as there is a place.

        Raises:
            EngineError: The engine was closed, or broke down.
        """
        self._ask(partial(self._waiting.append, job))

    def cancel(self, job: Job) -> None:
        """Stop a span, if it still runs; what it wrote so far stays cached."""
        self._commands.put(partial(self._cancel, job))

    def release(self, trajectory_id: str) -> None:
        """Forget a trajectory."""
        self._commands.put(partial(self._release, trajectory_id))

    def forget(self) -> Future[None]:
        """Forget everything cached. Gives an EngineError, and forgets nothing, where a span waits or runs.

        Raises:
            EngineError: The engine was closed, or broke down.
        """
        done: Future[None] = Future()
        self._ask(partial(self._forget, done))
        return done

    @property
    def ended(self) -> bool:
        """Whether nothing runs any more."""
        return self._ended is not None

    def close(self) -> None:
        """Stop the thread, end what runs, free the caches."""
        self._end(EngineError("the engine was closed"))
        if self._thread is not None:  # none starts any more
            self._commands.put(_nothing)
            self._thread.join()
        self._pictures.close()

    def _ask(self, command: Callable[[], object]) -> None:
        with self._lock:
            if self._ended is not None:
                raise EngineError(str(self._ended))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="thyme-engine", daemon=True)
                thread.start()
                self._thread = thread
            self._commands.put(command)

    def _end(self, error: EngineError) -> None:
        with self._lock:
            self._ended = self._ended or error

    # --- the thread ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            if self._config.threads is not None:
                torch.set_num_threads(self._config.threads)
            while self._ended is None:
                self._obey()
                self._admit()
                self._advance()
                self._deliver()
        except Exception as error:  # a mistake of ours; nobody may wait for a thread that is gone
            _log.exception("the engine broke down")
            self._end(EngineError(f"the engine broke down: {type(error).__name__}: {error}"))
        self._refuse()

    def _obey(self) -> None:
        """Carry out what was asked for, and wait for it where there is nothing else to do."""
        stalled = self._stalled and any(not row.reading.done for row in self._rows)
        admissible = self._waiting and len(self._rows) < self._config.max_batch and not stalled
        wait = not admissible and not any(row.reading.ready for row in self._rows)
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return
            command()
            wait = False

    def _refuse(self) -> None:
        """Tell everybody who waits why nothing runs any more, and free the caches."""
        error = self._ended or EngineError("the engine was closed")
        self._out += [(row.job.outbox, error) for row in self._rows]
        self._rows.clear()
        while not self._commands.empty():  # there are no rows left for them to touch
            self._commands.get()()
        self._out += [(job.outbox, error) for job in self._waiting]
        self._waiting.clear()
        self._deliver()
        self._idle.clear()
        self._pictures.forget()
        self._model.close()

    def _cancel(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
        for row in [row for row in self._rows if row.job is job]:
            self._retire(row)

    def _release(self, trajectory_id: str) -> None:
        for job in [job for job in self._waiting if job.trajectory_id == trajectory_id]:
            self._waiting.remove(job)
            self._out.append((job.outbox, EngineError(f"trajectory {trajectory_id} was released")))
        for row in [row for row in self._rows if row.job.trajectory_id == trajectory_id]:
            self._fail(row, EngineError(f"trajectory {trajectory_id} was released"))
        self._idle.pop(trajectory_id, None)
        if not self._rows and not self._idle:
            self._model.forget()
            self._pictures.forget()

    def _forget(self, done: Future[None]) -> None:
        if not done.set_running_or_notify_cancel():
            return
        if count := len(self._rows) + len(self._waiting):
            done.set_exception(EngineError(f"spans are being written ({count}): nothing is forgotten before they end"))
            return
        self._idle.clear()
        self._model.forget()
        self._pictures.forget()
        done.set_result(None)

    def _admit(self) -> None:
        """Give free places to those who wait longest, except where a row is reading what they would read, too."""
        held: list[Job] = []
        while self._waiting and len(self._rows) < self._config.max_batch:
            job = self._waiting.popleft()
            known = self._idle.pop(job.trajectory_id, None)
            if any(row.job.trajectory_id == job.trajectory_id for row in self._rows):
                error = EngineError(f"trajectory {job.trajectory_id} is being generated already; one span at a time")
                self._out.append((job.outbox, error))
            elif known is None and reads_the_same(job.sequence, self._rows, self._idle.values()):
                held.append(job)
            else:
                self._try_to_place(job, known or RowCache(self._model.cache_shape))
        self._stalled = bool(held) and len(self._rows) < self._config.max_batch
        self._waiting.extendleft(reversed(held))

    def _try_to_place(self, job: Job, cache: RowCache) -> None:
        try:
            self._place(job, cache)
        except Exception as error:  # no memory for what it begins with, mostly; this job alone is over
            self._out.append((job.outbox, _as_engine_error(error)))

    def _place(self, job: Job, cache: RowCache) -> None:
        """Give a job a place in the batch."""
        if len(cache):
            cache.align(job.sequence, self._family)
        else:
            others = (*(row.cache for row in self._rows), *self._idle.values())
            start_from_others(cache, job.sequence, others, self._family)
        self._rows.append(Row(job, cache, Reading(cache, job.sequence, self._family, self._prepare)))

    def _prepare(self, image: ImageRecord) -> Look:
        """Begin to make the patches of an image, away from the model's thread, and wake that when they are there."""
        return self._pictures.prepare(image, lambda: self._commands.put(_nothing))

    def _advance(self) -> None:
        """One step: one token of every row that writes, and some of what others read."""
        fed = self._feeds()
        if not fed:
            return
        try:
            logits = self._model.step([feed for _, feed in fed])
            writers = [row for row, feed in fed if feed.wants_logits]
            tokens, logprobs = choose(logits, writers, self._never) if writers else ([], [])
        except Exception as error:  # whatever torch raises (out of memory, mostly) ends these rows, not the engine
            for row, _ in fed:
                self._fail(row, _as_engine_error(error))
            self._model.forget()
            return
        self.counters.steps += 1
        self.counters.fed_tokens += sum(len(feed.ids) for _, feed in fed)
        for row, token, logprob in zip(writers, tokens, logprobs, strict=True):
            chunk = row.write(token, logprob, end_ids=self._end_ids, max_context=self._max_context)
            self._out.append((row.job.outbox, chunk))
            if chunk.stop is not None:
                self._retire(row)

    def _feeds(self) -> list[tuple[Row, Feed]]:
        fed: list[tuple[Row, Feed]] = []
        budget = self._config.prefill_tokens
        seen, writing = self.counters.images_seen, any(row.reading.done for row in self._rows)
        for row in tuple(self._rows):
            if row.reading.done:
                position = row.cache.next_position
                fed.append((row, Feed(row.cache, (row.last,), np.full((3, 1), position), position + 1)))
            elif budget > 0 and row.reading.ready:
                if writing and self.counters.images_seen > seen:
                    continue  # one reader looks at pictures in a step, so that writers never wait for more
                try:
                    feed = row.reading.take(budget, self._see)
                except Exception as error:  # a picture that cannot be processed ends its own row only
                    self._fail(row, _as_engine_error(error))
                    continue
                budget -= len(feed.ids)
                fed.append((row, feed))
        return fed

    def _see(self, look: Look) -> Features:
        features = self._pictures.see(look)
        self.counters.images_seen = self._pictures.passes
        return features

    def _retire(self, row: Row) -> None:
        """Take a row out of the batch and keep what it knows, if there is memory for it."""
        self._rows.remove(row)
        row.reading.drop()
        try:
            row.cache.leave()
        except Exception as error:  # out of memory, mostly; it is read again when it goes on
            _log.warning("what trajectory %s knows is not kept: %s", row.job.trajectory_id, error)
            row.cache.drop()
            return
        self._idle[row.job.trajectory_id] = row.cache
        limit = self._config.max_cached_tokens
        while limit is not None and sum(map(len, self._idle.values())) > limit:
            self._idle.popitem(last=False)

    def _fail(self, row: Row, error: ThymeError) -> None:
        """Take a row out of the batch, forget it, and say why."""
        self._rows.remove(row)
        row.reading.drop()
        row.cache.drop()
        self._out.append((row.job.outbox, error))

    def _deliver(self) -> None:
        """Hand out what the step gave; rows that nobody waits for any more end."""
        out, self._out = self._out, []
        gone = deliver(out)
        for row in [row for row in self._rows if row.job.outbox in gone]:
            self._retire(row)


def _nothing() -> None:
    """Wakes the thread."""


def _as_engine_error(error: Exception) -> ThymeError:
    if isinstance(error, ThymeError):
        return error
    wrapped = EngineError(f"the model failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    traceback.clear_frames(error.__traceback__)  # or tensors of what failed live as long as the error
    return wrapped
