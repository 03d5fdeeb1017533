"""Where the examples of extensions are, and how a test gets at one. Not a test."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "extend"
sys.path += [str(FOLDER), str(ROOT / "tests" / "data" / "factory")]  # examples import each other, as programs do


def example(name: str) -> Any:
    """The module of that name."""
    return import_module(name)
