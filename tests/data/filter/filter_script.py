"""A filter in a process of its own, slow enough to be killed: ``filter_script.py FOLDER OUT``."""

from __future__ import annotations

import sys
from pathlib import Path

import filter_parts as parts

from thyme.config import EngineConfig
from thyme.config.load import overridden
from thyme.config.rl_filter import FilterRecipe
from thyme.engines.scripted import ScriptedEngine

ROWS = 60


def recipe_of(folder: Path) -> FilterRecipe:
    path = folder / "rows.jsonl"
    if not path.exists():
        rows = [parts.row(seed, question=f"Which colour? right {seed % 5} times") for seed in range(ROWS)]
        parts.write_lines(path, rows)
    told = ("difficulty.model=scripted", "difficulty.samples=4", "balance.ratio=1", "processes=2", "duplicates.bits=-1")
    return overridden(parts.recipe(path), told)


def slow(model: str, config: EngineConfig) -> ScriptedEngine:
    engine = parts.sometimes(model, config)
    engine._delay_s = 0.005
    return engine


if __name__ == "__main__":
    parts.run(recipe_of(Path(sys.argv[1])), Path(sys.argv[2]), slow)
