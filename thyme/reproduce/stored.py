"""The results that the documentation of this repository shows, as the beginning of a run."""

from __future__ import annotations

from pathlib import Path

from thyme.errors import UsageError
from thyme.reproduce.graph import Store, write_whole

DOCS = Path(__file__).parents[2] / "docs"
"""Of a checkout."""


def take_stored(store: Store, docs: Path = DOCS) -> list[str]:
    """Copy results that a run does not have yet; which of them hold for it, the plan decides.

    Returns:
        Names of those that were copied.

    Raises:
        UsageError: There are none, outside of a checkout.
    """
    found = sorted(docs.glob("results/[!_]*.json"))
    if not found:
        raise UsageError("no docs/results here to begin with; leave out --stored, or work in a checkout")
    lacking = [path for path in found if not store.path(path.stem).exists()]
    for path in lacking:
        write_whole(store.path(path.stem), path.read_text(encoding="utf-8"))
    return [path.stem for path in lacking]
