"""Write the accepted records of a build in a format that others read, each one looked at once more."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from thyme.config.sandbox import SandboxConfig
from thyme.data.drafts import Draft
from thyme.data.export import checks
from thyme.data.export.checks import Fault
from thyme.data.export.origins import Origins
from thyme.data.export.reviews import Review, read_reviews
from thyme.data.export.writers import open_writer
from thyme.data.factory.folder import load, read_outcomes
from thyme.data.factory.held_out import Gate, HeldOut
from thyme.data.folders import new_folder
from thyme.errors import StoreError
from thyme.sandbox.base import Sandbox
from thyme.sandbox.broker import open_sandbox
from thyme.store import write_text
from thyme.types import Record

REPORT = "export.json"
"""Beside the rows: what was written, what was left out and why."""
_LISTED = 1000
"""Records that were left out and are named one by one."""


@dataclass(frozen=True)
class Export:
    """What is written, and what is looked at."""

    out: Path
    """Folder of the build."""
    to: Path
    """Folder that is made."""
    format: str
    """One of `thyme.data.export.writers.FORMATS`."""
    replay: float = 1.0
    """Share of the records whose code runs again."""
    reviewed: bool = False
    """Whether only what people accepted is written, as they left it."""
    scenarios: tuple[str, ...] = ()
    """Whose records alone are written; empty: all."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Pictures of benchmarks."""
    bits: int | None = 4
    """In which perceptual hashes of nearly equal pictures differ at most."""
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    concurrency: int = 8
    """Records that are looked at at once."""


class LeftOut(Record):
    """A record that was not written."""

    id: str
    reason: str
    note: str = ""


class Summary(Record):
    """What came of an export."""

    format: str
    written: int = 0
    replayed: int = 0
    """Of those written, how many had code that ran again and gave the same."""
    blocks: int = 0
    """Code blocks of those."""
    without_code: int = 0
    """Of those written."""
    share: float = 1.0
    """Of the records that were to be replayed."""
    scenarios: dict[str, int] = Field(default_factory=dict)
    """Written, by scenario."""
    held_out: int = 0
    """Pictures of benchmarks that were compared with."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """Left out, by reason."""
    left_out: tuple[LeftOut, ...] = ()
    """The first of them, by name."""


def run_export(export: Export, progress: Callable[[int, int], None] | None = None) -> Summary:
    """Write the records.

    The folder is made whole or not at all: what is begun lies beside it under a hidden name.

    Args:
        export: What to write.
        progress: Called after each record with how many were written and left out.

    Returns:
        What came of it; it lies in `REPORT`, too.

    Raises:
        UsageError: There is no build, or the folder is in use.
        MissingExtraError: The format needs the extra ``data``.
        StoreError: The build is damaged, or the folder cannot be written.
        SandboxError: The sandbox failed.
    """
    with new_folder(export.to) as begun:
        summary = asyncio.run(_write(export, begun, progress or (lambda written, left: None)))
        write_text(begun / REPORT, summary.model_dump_json(indent=2) + "\n")
    return summary


@dataclass
class _Count:
    """What is counted while records are written."""

    written: int = 0
    replayed: int = 0
    blocks: int = 0
    without_code: int = 0
    scenarios: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    named: list[LeftOut] = field(default_factory=list)

    def leave(self, id: str, fault: Fault) -> None:
        """A record is not written."""
        self.reasons[fault.reason] += 1
        if len(self.named) < _LISTED:
            self.named.append(LeftOut(id=id, reason=fault.reason, note=fault.note))

    def write(self, draft: Draft, blocks: int, *, replayed: bool) -> None:
        """A record is written."""
        self.written += 1
        self.scenarios[draft.scenario] += 1
        self.without_code += not blocks
        self.replayed += bool(blocks) and replayed
        self.blocks += blocks if replayed else 0


async def _write(export: Export, folder: Path, progress: Callable[[int, int], None]) -> Summary:
    count = _Count()
    async with AsyncExitStack() as stack:
        writer = stack.enter_context(closing(open_writer(export.format, folder)))
        sandbox = await stack.enter_async_context(open_sandbox(export.sandbox)) if export.replay > 0 else None
        async for draft, fault in _examined(export, sandbox):
            if fault is None and draft.trajectory is not None:
                writer.add(draft, draft.trajectory)
                blocks = len(draft.trajectory.observations)
                count.write(draft, blocks, replayed=checks.is_drawn(draft.id, export.replay))
            elif fault is not None:
                count.leave(draft.id, fault)
            progress(count.written, sum(count.reasons.values()))
    return Summary(
        format=export.format,
        written=count.written,
        replayed=count.replayed,
        blocks=count.blocks,
        without_code=count.without_code,
        share=export.replay,
        scenarios=dict(sorted(count.scenarios.items())),
        held_out=len(export.held_out.ids),
        reasons=dict(count.reasons.most_common()),
        left_out=tuple(count.named),
    )


async def _examined(export: Export, sandbox: Sandbox | None) -> AsyncIterator[tuple[Draft, Fault | None]]:
    """Records in order, and what is wrong with them; a few are looked at at once."""
    gate = Gate(export.held_out, export.bits)
    under_way: deque[asyncio.Task[tuple[Draft, Fault | None]]] = deque()
    try:
        for draft, fault in _chosen(export):
            under_way.append(asyncio.create_task(_examine(export, gate, sandbox, draft, fault)))
            if len(under_way) >= export.concurrency:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _examine(
    export: Export, gate: Gate, sandbox: Sandbox | None, draft: Draft, fault: Fault | None
) -> tuple[Draft, Fault | None]:
    if fault is not None:
        return draft, fault
    try:
        loaded = await asyncio.to_thread(load, export.out, draft)
    except StoreError as error:
        return draft, Fault(checks.IMAGE_DAMAGED, str(error))
    if not isinstance(loaded, Draft) or loaded.trajectory is None:
        return draft, Fault(checks.UNFINISHED)
    fault = await asyncio.to_thread(checks.check, loaded.trajectory, gate)
    if fault is None and sandbox is not None and checks.is_drawn(loaded.id, export.replay):
        fault = await checks.replay(loaded.trajectory, sandbox)
    return loaded, fault


def _chosen(export: Export) -> Iterator[tuple[Draft, Fault | None]]:
    """Records without pixels, as people left them, and what they said against them."""
    reviews: Mapping[str, Review] = {}
    origins = Origins(export.out, export.held_out, export.bits)
    if export.reviewed:
        reviews = {review.id: review for review in read_reviews(export.out)}
    for outcome in read_outcomes(export.out):
        draft = outcome.record()
        assert isinstance(draft, Draft)  # it was accepted
        if export.scenarios and draft.scenario not in export.scenarios:
            continue
        if told := origins.refuses(outcome.index, draft):
            yield draft, Fault(checks.BENCHMARK, told)
            continue
        if not export.reviewed:
            yield draft, None
            continue
        review = reviews.get(draft.id)
        if review is None:
            yield draft, Fault(checks.NOT_REVIEWED)
        elif review.verdict == "reject":
            yield draft, Fault(checks.REVIEW, review.reason)
        else:
            yield review.record or draft, None
