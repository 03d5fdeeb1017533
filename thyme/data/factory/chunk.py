"""A chunk of a build: surveyed for duplicates, made, journalled, and rolled into its shards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from thyme.data.drafts import Draft, Rejection
from thyme.data.factory import folder
from thyme.data.factory.build import Build
from thyme.data.factory.chain import Chain, Tally
from thyme.data.factory.draw import Draw, Plan
from thyme.data.factory.held_out import Gate
from thyme.data.factory.journal import Journal, Outcome, open_journal, outcomes
from thyme.data.factory.shard import write_shard
from thyme.data.factory.survey import Surveyed, write_survey
from thyme.data.hashes import perceptual_hash
from thyme.data.sources.base import Source
from thyme.data.stages.base import Context
from thyme.errors import BudgetError, EncodeError
from thyme.types import Problem

STAGE = "draw"
"""Stage of the rejections that are made here."""
UNSUITED = "unsuited"
"""Reason: none of the rows that the item might take has what the scenario needs."""
BENCHMARK = "benchmark"
"""Reason: it shows a picture of a benchmark, or nearly one."""
DUPLICATE = "duplicate"
"""Reason: an earlier item asks the same of nearly the same picture."""


@dataclass
class Counts:
    """Outcomes of a chunk."""

    kept: int = 0
    rejected: int = 0


@asynccontextmanager
async def open_maker(build: Build, plan: Plan) -> AsyncIterator[Maker]:
    """What makes chunks in this process, with a sandbox of its own.

    Raises:
        IsolationError: The sandbox's level is not to be had here.
        ConfigError: A source cannot be read.
    """
    sources = await asyncio.to_thread(build.sources)
    async with build.context() as context:
        yield Maker(build, plan, sources, Chain(build.chain(), context))


class Maker:
    """Surveys and makes chunks; several at once, so that none waits for the slowest record of another."""

    def __init__(self, build: Build, plan: Plan, sources: Mapping[str, Source], chain: Chain) -> None:
        """Bring together what is open; use `open_maker`."""
        self._build, self._plan, self._sources, self._chain = build, plan, sources, chain
        self._making = asyncio.Semaphore(build.recipe.concurrency)
        self._storing = asyncio.Semaphore(build.recipe.concurrency)
        self._gate = Gate(build.held_out, build.recipe.duplicates)
        self.draining = False
        """Whether no more items are begun."""

    @property
    def context(self) -> Context:
        """What stages use in this process."""
        return self._chain.context

    @property
    def tally(self) -> Tally:
        """What became of records in this process."""
        return self._chain.tally

    async def survey(self, chunk: int) -> list[Surveyed]:
        """Hash the pictures of a chunk's items, and note the hashes in the build's folder.

        Raises:
            StoreError: A source is damaged, or nothing can be written.
            MissingExtraError: The library for hashes is not installed.
        """
        found = [one for index in self._plan.indices(chunk) if (one := await self._surveyed(index)) is not None]
        await asyncio.to_thread(write_survey, self._build.out, chunk, found)
        return found

    async def _surveyed(self, index: int) -> Surveyed | None:
        async with self._making:
            return await asyncio.to_thread(self._hashed, self._plan.draw(index))

    def _hashed(self, draw: Draw) -> Surveyed | None:
        draft = self._drawn(draw)
        if isinstance(draft, Rejection):
            return None
        hashes = tuple(perceptual_hash(image.image) for image in draft.origin.images)
        return Surveyed(draw.index, draw.scenario, draft.origin.question, hashes)

    async def make(self, chunk: int, duplicates: Mapping[int, int]) -> Counts:
        """Make what has no outcome yet, and roll the chunk when everything has one.

        Args:
            chunk: Its number.
            duplicates: Items that are dropped, and the earlier ones that they are like.

        Returns:
            Outcomes that were added.

        Raises:
            BudgetError: Nothing is left to spend; what needed nothing more has its outcome.
            EngineError: A teacher or the check cannot be asked.
            SandboxError: The sandbox failed.
            StoreError: Nothing can be written.
        """
        path = folder.chunk_file(self._build.out, folder.JOURNAL, chunk)
        counts = Counts()
        if folder.finished(self._build.out, chunk):
            return counts
        with open_journal(path) as journal:
            if folder.finished(self._build.out, chunk):  # by whoever had the journal until now
                return counts
            done = await asyncio.to_thread(outcomes, path)
            left = [index for index in self._plan.indices(chunk) if index not in done]
            await self._all(left, duplicates, journal, counts)
            if len(done) + counts.kept + counts.rejected == len(self._plan.indices(chunk)):
                await asyncio.to_thread(roll, self._build, chunk)
        return counts

    async def _all(self, left: list[int], duplicates: Mapping[int, int], journal: Journal, counts: Counts) -> None:
        """Make items; where the budget ends, those that are under way may still come to an end."""
        spent: list[BudgetError] = []

        async def one(index: int) -> None:
            try:
                await self._outcome(index, duplicates.get(index), journal, counts)
            except BudgetError as error:
                self.draining = True
                spent.append(error)

        try:
            async with asyncio.TaskGroup() as group:
                for index in left:
                    group.create_task(one(index))
        except ExceptionGroup as errors:
            raise _first(errors) from errors
        if spent:
            raise spent[0]

    async def _outcome(self, index: int, duplicate: int | None, journal: Journal, counts: Counts) -> None:
        async with self._making:
            if self.draining:
                return
            record = await self._record(self._plan.draw(index), duplicate)
            await self._storing.acquire()  # before the next record is begun, so that few wait with their pixels
        try:
            outcome = await asyncio.to_thread(self._stored, index, record)
        finally:
            self._storing.release()
        journal.add(outcome)
        counts.kept += outcome.kept
        counts.rejected += not outcome.kept

    def _stored(self, index: int, record: Draft | Rejection) -> Outcome:
        stored = folder.stored(self._build.out, record)
        return Outcome.of(index, stored, folder.image_ids(stored))

    async def _record(self, draw: Draw, duplicate: int | None) -> Draft | Rejection:
        tally = self.tally
        tally.entered[STAGE] += 1
        draft = await asyncio.to_thread(self._drawn, draw)
        if isinstance(draft, Draft) and duplicate is not None:
            draft = Rejection.of(draft, STAGE, DUPLICATE, f"nearly the same as item {duplicate}")
        if isinstance(draft, Rejection):
            tally.rejected[STAGE] += 1
            return draft
        tally.passed[STAGE] += 1
        return await self._chain.run(draft)

    def _drawn(self, draw: Draw) -> Draft | Rejection:
        """The draft of an item, its problem read."""
        for source, row in draw.rows():
            try:
                if not self._sources[source].facts(row).meets(draw.part.needs):
                    continue
                draft = _draft(draw, source, self._sources[source].problem(row))
            except EncodeError as error:
                return Rejection.of(_draft(draw, source, None), STAGE, error.reason, str(error))
            told = self._gate.refuses(draft.origin.images)
            return draft if told is None else Rejection.of(draft, STAGE, BENCHMARK, told)
        nothing = _draft(draw, draw.part.sources[0], None)
        return Rejection.of(nothing, STAGE, UNSUITED, f"no row with {', '.join(sorted(draw.part.needs))} was met")


def _draft(draw: Draw, source: str, problem: Problem | None) -> Draft:
    id = draw.id(source)
    problem = problem or Problem(id=id, question="")
    return Draft(id=id, scenario=draw.scenario, seed=draw.seed_of(id), source=source, origin=problem, problem=problem)


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def roll(build: Build, chunk: int) -> None:
    """Put a chunk's outcomes into its shards, in the order of the draw, and drop its journal.

    The accepted are written last, so that a chunk counts as finished when both are there.

    Raises:
        StoreError: They cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    journal = folder.chunk_file(build.out, folder.JOURNAL, chunk)
    found = [outcome for _, outcome in sorted(outcomes(journal).items())]
    for kind, kept in ((folder.REJECTED, False), (folder.RECORDS, True)):
        path = folder.chunk_file(build.out, kind, chunk)
        write_shard(path, (outcome for outcome in found if outcome.kept is kept), kept=kept)
    journal.unlink(missing_ok=True)
