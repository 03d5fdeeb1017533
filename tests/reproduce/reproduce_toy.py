"""Kinds of step for tests of the machinery: quick, and without a model."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from thyme.errors import UsageError
from thyme.reproduce.graph import Step
from thyme.reproduce.runner import Doing


def number(doing: Doing) -> dict[str, Any]:
    """The settings' number, and those of all before; counts how often it was done."""
    log = Path(doing.settings["log"])
    with log.open("a") as lines:
        lines.write(f"{doing.step.name}\n")
    (doing.folder / "kept").touch()
    total = doing.settings.get("number", 0) + sum(before.figures["total"] for before in doing.before.values())
    return {"total": total % 10}


def fail(doing: Doing) -> dict[str, Any]:
    """Fail as a user's mistake does."""
    raise UsageError("it cannot be")


def crash(doing: Doing) -> dict[str, Any]:
    """Fail as a mistake of ours does."""
    return {"not a number": float("nan")}


def stuck(doing: Doing) -> dict[str, Any]:
    """Leave something half done and never come back; with that there, be done."""
    half = doing.folder / "half"
    if not half.exists():
        half.write_text(str(os.getpid()))
        time.sleep(600)
    return {"total": 1}


DO = {"stuck": stuck, "number": number, "fail": fail, "crash": crash}


def steps(log: Path, *, first: int = 1) -> list[Step]:
    """A chain of two, and one beside them."""
    told = {"log": str(log)}
    return [
        Step(name="a", kind="number", title="first", settings={**told, "number": first}, keeps=("kept",), minutes=1),
        Step(name="b", kind="number", title="second", settings=told, inputs=("a",), minutes=1),
        Step(name="c", kind="number", title="beside", settings=told, minutes=50),
    ]
