"""Write the report of a run into its folder: a page, markdown, figures as JSON, files for leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from thyme.errors import UsageError
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.items import ItemResult
from thyme.eval.report.markdown import render_markdown
from thyme.eval.report.page import render_page
from thyme.eval.report.picks import pick
from thyme.eval.results import Results, make_results
from thyme.eval.run.folder import Run, Trajectories, find_trajectories, read_run
from thyme.eval.submission import write_submissions
from thyme.store import write_text
from thyme.types import Trajectory

PAGE, MARKDOWN, RESULTS, SUBMISSION = "report.html", "report.md", "results.json", "submission"
"""In the folder of a run."""


def write_report(folder: Path, *, benchmarks: Mapping[str, Benchmark] | None = None) -> Results:
    """Write ``results.json``, ``report.md``, ``submission/`` and ``report.html``; a run may be unfinished.

    Args:
        folder: Of the run.
        benchmarks: By name; None takes the package's.

    Returns:
        The figures.

    Raises:
        UsageError: The folder holds no run, or nothing was asked yet.
        StoreError: What it holds cannot be read.
    """
    run = read_run(folder)
    if not run.items:
        raise UsageError(f"{folder} holds no item yet; there is nothing to report")
    results = make_results(run.manifest, run.items, benchmarks)
    write_text(folder / RESULTS, results.model_dump_json(indent=2) + "\n")
    write_text(folder / MARKDOWN, render_markdown(results))
    write_submissions(folder / SUBMISSION, run.manifest, run.items)
    write_text(folder / PAGE, render_page(results, pick(run.items, seed=run.manifest.seed), Finder(run)))
    return results


class Finder:
    """Looks up stored trajectories; those of a benchmark are sought when one of them is first wanted."""

    def __init__(self, run: Run) -> None:
        """Nothing is read yet.

        Args:
            run: Whose.
        """
        self._run = run
        self._known: dict[str, Trajectories] = {}

    def __call__(self, item: ItemResult) -> Trajectory | None:
        """The trajectory of an item with its pixels; None where it is not to be had. It may lie with another arm."""
        if item.benchmark not in self._known:
            self._known[item.benchmark] = find_trajectories(self._run.folder, item.benchmark, self._run.manifest.arms)
        return self._known[item.benchmark].read(item.trajectory)
