"""``build.json``: what a build was made with, and how far it is."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

import thyme
from thyme.config.data import DataRecipe
from thyme.data.factory.build import Build
from thyme.data.factory.draw import Plan
from thyme.data.factory.folder import BUILD
from thyme.data.sources.base import Source
from thyme.errors import StoreError, UsageError
from thyme.prompts import PromptSet
from thyme.store import write_text
from thyme.types import Record

State = Literal["begun", "interrupted", "spent", "failed", "finished"]

LIBRARIES = ("numpy", "pillow", "opencv-python-headless", "imagehash", "pyarrow")
"""Whose versions may change a record."""
_FREE = {
    "": {"budget", "concurrency", "processes", "executor"},
    "teachers": {
        "concurrency", "requests_per_minute", "tokens_per_minute", "input_price", "output_price", "timeout_s",
        "retries", "backoff_s", "key_environment",
    },
    "check": {"input_price", "output_price"},
    "judge": {"concurrency", "timeout_s", "retries", "cache"},
    "sandbox": {"pool", "max_sessions", "inputs_mb", "start_timeout_s", "isolation"},
}  # fmt: skip
"""Settings that say nothing of what is made, by the table that they stand in; they may differ when a build goes on."""


class Manifest(Record):
    """What a build was made with, and how far it is."""

    recipe: DataRecipe
    count: int
    """Items that are drawn; fewer than `DataRecipe.count` where the sources have too few rows."""
    scenarios: dict[str, int] = Field(default_factory=dict)
    """Items by scenario."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Fingerprint of what is read, by name."""
    held_out: int = 0
    """Pictures of benchmarks that no record may hold."""
    prompts: str = ""
    """Fingerprint of the trained model's prompts."""
    versions: dict[str, str] = Field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    """In which somebody worked on it."""
    state: State = "begun"
    kept: int = 0
    """Records that were accepted so far, as of the last time somebody stopped working on it."""
    rejected: int = 0


def manifest_of(build: Build, plan: Plan, sources: Mapping[str, Source]) -> Manifest:
    """That of a build that begins now."""
    return Manifest(
        recipe=build.recipe,
        count=plan.count,
        scenarios={part.scenario: part.items for part in plan.parts},
        sources={name: source.fingerprint for name, source in sources.items()},
        held_out=len(build.held_out.ids),
        prompts=PromptSet.load(build.prompts).fingerprint,
        versions=_versions(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    found = {"thyme": thyme.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_manifest(out: Path) -> Manifest | None:
    """What a folder's build was made with; None where there is none.

    Raises:
        StoreError: It is damaged, or of another version of this package.
    """
    path = out / BUILD
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{path} cannot be read as what a build was made with ({error}); take another --out"
        ) from error


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Put it in place, whole.

    Raises:
        StoreError: It cannot be written.
    """
    write_text(out / BUILD, manifest.model_dump_json(indent=2) + "\n")


def agreed(out: Path, asked: Manifest) -> Manifest:
    """The manifest to go on with: that of the folder with the settings that are free, or the one that begins.

    Raises:
        UsageError: The folder holds a build of something else; the message says what differs.
        StoreError: Its manifest is damaged.
    """
    held = read_manifest(out)
    if held is None:
        return asked
    different = _differences(held, asked)
    if different:
        raise UsageError(
            f"{out} holds a build that was made otherwise: {'; '.join(different[:5])}; put that back, or take another "
            "--out"
        )
    kept = {name: getattr(held, name) for name in ("started", "seconds", "kept", "rejected")}
    return asked.model_copy(update=kept)


def _differences(held: Manifest, asked: Manifest) -> list[str]:
    found = _compared(_decisive(held.recipe), _decisive(asked.recipe), "")
    for name in ("sources", "prompts", "held_out"):
        found += _compared(getattr(held, name), getattr(asked, name), name)
    return found


def _decisive(recipe: DataRecipe) -> dict[str, Any]:
    """A recipe without what may differ."""
    told: dict[str, Any] = recipe.model_dump(mode="json", exclude=_FREE[""])
    told["teachers"] = {
        name: _served_anywhere(_without(one, _FREE["teachers"])) for name, one in told["teachers"].items()
    }
    told["check"] = _without(told["check"], _FREE["check"])
    if told["check"]["judge"] is not None:
        told["check"]["judge"] = _served_anywhere(_without(told["check"]["judge"], _FREE["judge"]))
    told["sandbox"] = _without(told["sandbox"], _FREE["sandbox"])
    return told


def _served_anywhere(table: Mapping[str, Any]) -> dict[str, Any]:
    """A teacher or judge by the name of its model alone: served elsewhere, it answers the same."""
    return {**table, "model": str(table["model"]).rpartition("#")[2]}


def _without(table: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _compared(held: Any, asked: Any, where: str) -> list[str]:
    if isinstance(held, Mapping) and isinstance(asked, Mapping):
        names = [*held, *(name for name in asked if name not in held)]
        deeper = (_compared(held.get(name), asked.get(name), f"{where}.{name}".lstrip(".")) for name in names)
        return [line for lines in deeper for line in lines]
    return [] if held == asked else [f"{where} was {held!r}, and is {asked!r} now"]
