"""``filter.json``: what a filter was run with, and what it found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import thyme
from thyme.config.rl_filter import FilterRecipe
from thyme.data.filter.figures import Figures
from thyme.types import Record


class FilterManifest(Record):
    """What a run was made with, and what it found."""

    recipe: FilterRecipe
    sources: dict[str, str] = Field(default_factory=dict)
    """Fingerprint of what is read, by name."""
    benchmarks: int = 0
    """Pictures of benchmarks that were looked out for."""
    version: str = thyme.__version__
    started: str = ""
    seconds: float = 0.0
    """Of the last run."""
    state: Literal["begun", "finished"] = "begun"
    figures: Figures = Figures()
