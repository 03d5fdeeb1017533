"""One record's way through the stages."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from thyme.data.drafts import Draft, Rejection
from thyme.data.stages import REPEATED
from thyme.data.stages.base import Context, Stage, Workbench
from thyme.data.stages.reasons import TOO_MANY_ROUNDS
from thyme.errors import EncodeError, ImageError, IsolationError, MarkupError, SandboxError, ThymeError

logger = logging.getLogger(__name__)

BROKEN = "broken"
"""Reason where a stage itself fails at a record; the note says how."""
_ATTEMPTS = 3
"""Times a record is tried whose sandbox fails."""
_OF_THE_RECORD = (EncodeError, ImageError, MarkupError)
"""Errors of this package that are the record's own fault; any other of its errors stops the build."""


@dataclass
class Tally:
    """What became of records so far, by stage."""

    entered: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of wall clock, of all records together."""

    def add(self, other: Tally) -> None:
        """Count another's in."""
        self.entered.update(other.entered)
        self.passed.update(other.passed)
        self.rejected.update(other.rejected)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds


@dataclass
class Chain:
    """The stages, and what they use."""

    stages: Mapping[str, Stage]
    context: Context
    tally: Tally = field(default_factory=Tally)

    async def run(self, draft: Draft) -> Draft | Rejection:
        """Take a draft through all stages.

        Raises:
            BudgetError: Nothing is left to spend.
            EngineError: A teacher or the check cannot be asked.
            SandboxError: The sandbox failed time and again.
        """
        for _ in range(_ATTEMPTS):
            try:
                return await self._once(draft)
            except IsolationError:
                raise
            except SandboxError as error:  # nothing is lost: what teachers said is recorded
                logger.warning("%s: the sandbox failed (%s)", draft.id, error)
                failure = error
        raise failure

    async def _once(self, draft: Draft) -> Draft | Rejection:
        bench, seconds = Workbench(), defaultdict[str, float](float)
        self.context.benches[draft.id] = bench
        try:
            record = await self._through(draft, seconds)
        finally:
            self.context.benches.pop(draft.id, None)
            await bench.aclose()
        return _timed(record, seconds)

    async def _through(self, draft: Draft, seconds: defaultdict[str, float]) -> Draft | Rejection:
        names = list(self.stages)
        places = [names.index(name) for name in REPEATED if name in names]
        first, last = (min(places), max(places)) if places else (len(names), len(names))
        record = await self._each(names[:first], draft, seconds)
        if places and isinstance(record, Draft):
            record = await self._rounds(names[first : last + 1], record, seconds)
        return record if isinstance(record, Rejection) else await self._each(names[last + 1 :], record, seconds)

    async def _each(self, names: list[str], draft: Draft, seconds: defaultdict[str, float]) -> Draft | Rejection:
        for name in names:
            record = await self._step(name, draft, seconds)
            if isinstance(record, Rejection):
                return record
            draft = record
        return draft

    async def _rounds(self, names: list[str], draft: Draft, seconds: defaultdict[str, float]) -> Draft | Rejection:
        """Repeat some stages until the teacher has answered; one turn more than it may write blocks."""
        for _ in range(self.context.recipe.max_rounds + 1):
            for name in names:
                record = await self._step(name, draft, seconds)
                if isinstance(record, Rejection) or record.finished:
                    return record
                draft = record
        return Rejection.of(
            draft, names[0], TOO_MANY_ROUNDS, f"no answer after {self.context.recipe.max_rounds} rounds"
        )

    async def _step(self, name: str, draft: Draft, seconds: defaultdict[str, float]) -> Draft | Rejection:
        self.tally.entered[name] += 1
        started = time.perf_counter()
        try:
            record = await self._guarded(name, draft)
            (self.tally.rejected if isinstance(record, Rejection) else self.tally.passed)[name] += 1
            return record
        finally:
            took = time.perf_counter() - started
            seconds[name] += took
            self.tally.seconds[name] += took

    async def _guarded(self, name: str, draft: Draft) -> Draft | Rejection:
        try:
            return await self.stages[name](draft, self.context)
        except ThymeError as error:
            if not isinstance(error, _OF_THE_RECORD):
                raise
            failure: Exception = error
        except Exception as error:  # one record in a million must not end the build; it is counted, and told
            failure = error
            logger.warning("%s: the stage %s failed at it", draft.id, name, exc_info=True)
        return Rejection.of(draft, name, BROKEN, f"{type(failure).__name__}: {failure}")


def _timed(record: Draft | Rejection, seconds: Mapping[str, float]) -> Draft | Rejection:
    draft = record.draft if isinstance(record, Rejection) else record
    rounded = {name: round(value, 4) for name, value in seconds.items()}
    draft = draft.model_copy(update={"costs": draft.costs.model_copy(update={"seconds": rounded})})
    return record.model_copy(update={"draft": draft}) if isinstance(record, Rejection) else draft
