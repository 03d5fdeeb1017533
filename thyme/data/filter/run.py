"""Run a filter: look at rows, ask the model, write what is kept, and report.

::

    OUT/filter.json       recipe, fingerprints of sources, versions, state, figures
    OUT/problems/         what is kept, as `thyme grpo` reads it
    OUT/kept.jsonl        what is known of it, one `Seen` a line
    OUT/rejected.jsonl    the others, with step, reason and detail
    OUT/report.html       funnel, distributions, examples
    OUT/scan/, OUT/attempts.sqlite   what a later run goes on from

The same recipe and sources give the same files, whatever ended an earlier run, and in however many processes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from thyme.config.rl_filter import FilterRecipe
from thyme.data.filter import output
from thyme.data.filter.attempts import Attempts
from thyme.data.filter.balance import balanced, without_surplus
from thyme.data.filter.benchmarks import Benchmarks
from thyme.data.filter.difficulty import Asking, Measuring, OpenModel, Waiting, unmeasured, with_pass_rates
from thyme.data.filter.duplicates import without_duplicates
from thyme.data.filter.figures import Counting
from thyme.data.filter.manifest import FilterManifest
from thyme.data.filter.progress import Progress
from thyme.data.filter.records import Seen
from thyme.data.filter.report import write_report
from thyme.data.filter.scan import Scan, open_scan
from thyme.data.filter.sources import Rows, open_rows, problems_of
from thyme.data.filter.steps import Rules
from thyme.data.folders import alone
from thyme.data.sources import World
from thyme.prompts import PromptSet
from thyme.store import write_text

MANIFEST, KEPT, REJECTED, REPORT = "filter.json", "kept.jsonl", "rejected.jsonl", "report.html"


@dataclass(frozen=True)
class Filter:
    """A run: recipe, folder, and what the parts above bring."""

    recipe: FilterRecipe
    out: Path
    open_model: OpenModel
    words: PromptSet | None = None
    """Of the model that is asked; None: its own."""
    model_fingerprint: str = ""
    """Hash of its files."""
    worlds: Mapping[str, World] = field(default_factory=dict)
    benchmarks: Benchmarks = field(default_factory=Benchmarks)

    @property
    def asking(self) -> Asking | None:
        """Who is asked; None where nobody is."""
        settings = self.recipe.difficulty
        return Asking(settings, self.recipe.seed, self.words, self.model_fingerprint) if settings.model else None


def run_filter(job: Filter, *, progress: bool = False) -> FilterManifest:
    """Filter; what an earlier run in the folder found is used.

    Args:
        job: What is filtered.
        progress: Whether to show it on stderr.

    Returns:
        What the folder holds now.

    Raises:
        UsageError: A source, world or model is named wrongly, or somebody works in the folder.
        EngineError: The model cannot be asked; what was answered is kept.
        SandboxError: There is no sandbox.
        StoreError: Something cannot be read or written.
        MissingExtraError: A library is not installed.
    """
    started = time.monotonic()
    rows = open_rows(job.recipe, job.worlds)
    scan = open_scan(job.out, rows, Rules(job.recipe, job.benchmarks))
    with alone(job.out), Progress(progress) as shown:
        manifest = _begun(job, rows)
        write_text(job.out / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        total = sum(map(len, rows.values()))
        with shown.bar("rows", total, "still in") as on_progress:
            scan.run(job.recipe.processes or len(os.sched_getaffinity(0)), on_progress)
        with ExitStack() as held:
            chain = _Chain(job, rows, scan, held)
            chain.measure(shown)
            counting = chain.write(shown)
        update = {
            "state": "finished",
            "figures": counting.figures(),
            "seconds": round(time.monotonic() - started, 1),
        }
        manifest = manifest.model_copy(update=update)
        write_report(job.out / REPORT, manifest, counting.examples(), rows)
        write_text(job.out / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _begun(job: Filter, rows: Mapping[str, Rows]) -> FilterManifest:
    return FilterManifest(
        recipe=job.recipe,
        sources={name: one.fingerprint for name, one in rows.items()},
        benchmarks=len(job.benchmarks.pictures.ids),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class _Chain:
    """The steps that compare rows with each other, one behind the other; rows go by, few are in memory."""

    def __init__(self, job: Filter, rows: Mapping[str, Rows], scan: Scan, held: ExitStack) -> None:
        self._job, self._rows, self._scan, self._asking = job, rows, scan, job.asking
        self._attempts = None if self._asking is None else held.enter_context(closing(Attempts(job.out)))

    def different(self) -> Iterator[Seen]:
        """All rows, without duplicates."""
        return without_duplicates(self._scan.read(), self._job.recipe.duplicates)

    def measured(self) -> Iterator[Seen]:
        """All rows, as hard as asked for."""
        if self._asking is None or self._attempts is None:
            return self.different()
        return with_pass_rates(self.different(), self._asking, self._attempts)

    def measure(self, shown: Progress) -> None:
        """Ask the model for what was not asked yet."""
        asking, attempts = self._asking, self._attempts
        if asking is None or attempts is None:
            return
        missing = sum(len(samples) for _, _, samples in unmeasured(self.different(), asking, attempts))
        if not missing:
            return
        with shown.bar("rollouts", missing) as on_progress:
            measuring = Measuring(asking, attempts, lambda done: on_progress(done, 0))
            asyncio.run(measuring.run(self._waiting(asking, attempts), self._job.open_model))

    def _waiting(self, asking: Asking, attempts: Attempts) -> Waiting:
        asked: dict[str, tuple[str, list[int]]] = {}

        def rows() -> Iterator[Seen]:
            for seen, key, samples in unmeasured(self.different(), asking, attempts):
                asked[seen.id] = key, samples
                yield seen

        for seen, problem in problems_of(self._rows, rows()):
            yield seen, problem, *asked.pop(seen.id)

    def write(self, shown: Progress) -> Counting:
        """Write what is kept, and what is known of all."""
        recipe, out = self._job.recipe, self._job.out
        kept = balanced(self.measured(), recipe.balance, recipe.seed)
        counting = Counting()
        with ExitStack() as held:
            writer = held.enter_context(output.replacing(out, recipe.format))
            keep = held.enter_context(output.lines(out / KEPT))
            reject = held.enter_context(output.lines(out / REJECTED))
            on_progress = held.enter_context(shown.bar("written"))
            for seen, problem in problems_of(self._rows, self._counted(kept, counting, keep, reject), pixels=False):
                writer.add(output.finished(problem, seen))
                on_progress(1, 0)
        return counting

    def _counted(
        self, kept: set[str] | None, counting: Counting, keep: output.Line, reject: output.Line
    ) -> Iterator[Seen]:
        for seen in without_surplus(self.measured(), kept, self._job.recipe.balance):
            counting.add(seen)
            (keep if seen.kept else reject)(seen)
            if seen.kept:
                yield seen
