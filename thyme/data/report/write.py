"""Write the report of a build into its folder: a page, and its figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from thyme.config.data import BudgetSettings
from thyme.data import spending
from thyme.data.factory.folder import read_outcomes, require_build
from thyme.data.factory.manifest import Manifest, read_manifest
from thyme.data.report.counts import Counting, Funnel
from thyme.data.report.examples import Picks
from thyme.data.report.page import render_page
from thyme.store import write_text

PAGE, FIGURES = "report.html", "funnel.json"
"""In the folder of a build."""


def write_report(out: Path) -> Funnel:
    """Write ``report.html`` and ``funnel.json``; the build may be unfinished.

    Every record is read once, few are in memory at a time.

    Args:
        out: Folder of the build.

    Returns:
        The figures.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing or damaged, or nothing can be written.
        MissingExtraError: pyarrow is not installed.
    """
    funnel, picks, manifest = read_funnel(out)
    write_text(out / FIGURES, funnel.model_dump_json(indent=2) + "\n")
    write_text(out / PAGE, render_page(funnel, manifest, picks, out))
    return funnel


def read_funnel(out: Path) -> tuple[Funnel, Picks, Manifest]:
    """The figures of a build, records of each kind to show, and what it was made with.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing or damaged.
        MissingExtraError: pyarrow is not installed.
    """
    require_build(out)
    manifest = read_manifest(out)
    assert manifest is not None  # the folder holds one
    counting, picks = Counting(), Picks()
    for rejected in (False, True):
        for outcome in read_outcomes(out, rejected=rejected):
            record = json.loads(outcome.json)
            counting.add(outcome.kept, record)
            picks.add(outcome, record)
    return counting.funnel(manifest, out.resolve().name, _spent(out)), picks, manifest


def _spent(out: Path) -> dict[str, spending.Spent]:
    """What was spent, by who was asked; nobody where nothing was ever sent."""
    path = out / spending.FILE
    if not path.exists():
        return {}
    ledger = spending.Ledger(path, BudgetSettings())
    try:
        return ledger.spent()
    finally:
        ledger.close()
