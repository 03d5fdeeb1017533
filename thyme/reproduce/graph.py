"""Steps, their results as files, and which of them have to be done (again).

A step is done while its result was made from the same settings and from the same figures of the steps that it builds
on. So a step that is done again and finds the same figures leaves those behind it untouched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thyme.errors import ConfigError, UsageError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Record):
    """One piece of work, as a function of its settings and of the steps that it builds on."""

    name: str
    """Also that of its result and of its folder."""
    kind: str
    """What does it: a name in `thyme.reproduce.doing.DO`."""
    title: str
    """In words."""
    settings: dict[str, Any] = {}
    """Plain values."""
    inputs: tuple[str, ...] = ()
    """Names of steps that come before."""
    keeps: tuple[str, ...] = ()
    """Files in its folder that steps behind it read."""
    seeds: tuple[int, ...] = ()
    minutes: float = 1.0
    """What it is expected to take of one quiet core."""
    version: int = 1
    """Counted up when what the kind does changes, so that old results no longer hold."""


class How(_Record):
    """Where a result comes from. What the machine does not tell is None."""

    command: str
    commit: str | None = None
    """Of the code; a plus sign behind it: with changes that were not committed."""
    seeds: tuple[int, ...] = ()
    processor: str | None = None
    cores: int | None = None
    memory_gib: float | None = None
    """Of the machine."""
    gpu: str | None = None
    load: float | None = None
    """Load average over a minute when it began: on a busy machine seconds of wall clock say little."""
    wall_s: float | None = None
    cpu_s: float | None = None
    """Of its process and of those that it started and that have ended."""
    peak_memory_mib: float | None = None
    """Largest resident size of its process."""
    resumed: bool = False
    """Whether it went on where it was interrupted; the seconds are then those of the last part."""
    finished: str | None = None
    """When, UTC."""
    versions: dict[str, str] = {}
    """Of Python and the libraries that matter."""


class Result(_Record):
    """What a step found."""

    step: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, str] = {}
    """Digest of each result that it builds on."""
    key: str
    figures: dict[str, Any]
    left_out: str = ""
    """Hash of the figures where a copy is without them; empty where they are here."""
    how: How = Field(repr=False)

    @property
    def digest(self) -> str:
        """Hash of the figures; how long they took does not count."""
        return self.left_out or fingerprint(self.figures)

    def without_figures(self) -> Result:
        """A copy that says where it comes from, and what the steps behind it were made of."""
        return self.model_copy(update={"figures": {}, "left_out": self.digest})


def fingerprint(value: Any) -> str:
    """Hash of plain values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_of(step: Step, digests: Mapping[str, str]) -> str:
    """Hash of everything that a step's result depends on."""
    return fingerprint([step.kind, step.version, step.settings, {name: digests[name] for name in step.inputs}])


class Store:
    """The folder of a run: ``results/STEP.json``, and a folder for what each step keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """File of a result."""
        return self.folder / "results" / f"{name}.json"

    def work(self, name: str) -> Path:
        """Folder of a step."""
        return self.folder / "steps" / name

    def read(self, name: str) -> Result | None:
        """The result of a step; None where there is none yet.

        Raises:
            ConfigError: It is damaged or of another version.
        """
        try:
            return Result.model_validate_json(self.path(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            raise ConfigError(f"results/{name}.json cannot be read; remove it to have the step done anew") from error

    def write(self, result: Result) -> None:
        """Write a result, whole or not at all."""
        write_whole(self.path(result.step), result.model_dump_json(indent=1) + "\n")

    def kept(self, step: Step, result: Result) -> bool:
        """Whether all is there that steps behind it read: its files, and its figures."""
        return not result.left_out and all((self.work(step.name) / name).exists() for name in step.keeps)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is whole wherever it is there, also where the machine stops in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def check(steps: Sequence[Step]) -> None:
    """See that every step stands behind those that it builds on.

    Raises:
        ConfigError: A name comes twice, or a step builds on one that does not stand before it.
    """
    before: set[str] = set()
    for step in steps:
        if step.name in before:
            raise ConfigError(f"two steps are called '{step.name}'")
        if missing := set(step.inputs) - before:
            raise ConfigError(f"'{step.name}' builds on {', '.join(sorted(missing))}, which does not stand before it")
        before.add(step.name)


def chosen(steps: Sequence[Step], named: Iterable[str]) -> list[Step]:
    """Steps by name or by kind, with all that they build on, in their order; none named: all.

    Raises:
        UsageError: There is no such step.
    """
    wanted = set(named)
    if unknown := sorted(wanted - {step.name for step in steps} - {step.kind for step in steps}):
        raise UsageError(f"no such step: {', '.join(unknown)}; `thyme reproduce --dry-run` names them")
    if not wanted:
        return list(steps)
    found: set[str] = set()
    for step in reversed(steps):  # from the end, so that all that a wanted one builds on is still to come
        if step.name in wanted or step.kind in wanted or step.name in found:
            found |= {step.name, *step.inputs}
    return [step for step in steps if step.name in found]


def done(steps: Sequence[Step], store: Store) -> dict[str, Result]:
    """Results that hold, by step: made from these settings, and from results that hold themselves.

    A result whose files are gone does not hold where a step that is still to be done reads them.
    """
    gone: set[str] = set()
    while True:
        holding = _holding(steps, store, gone)
        lacking = {
            before.name
            for before in steps
            if before.name in holding and not store.kept(before, holding[before.name])
            for step in steps
            if before.name in step.inputs and step.name not in holding
        }
        if not lacking:
            return holding
        gone |= lacking


def _holding(steps: Sequence[Step], store: Store, gone: set[str]) -> dict[str, Result]:
    holding: dict[str, Result] = {}
    for step in steps:
        if step.name in gone or not set(step.inputs) <= set(holding):
            continue
        result = store.read(step.name)
        if result is not None and result.key == key_of(step, {name: holding[name].digest for name in step.inputs}):
            holding[step.name] = result
    return holding
