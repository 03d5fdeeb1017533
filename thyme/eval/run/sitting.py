"""Who works on a run's folder, and for how long: locks, hours, and the manifest that several processes share."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from thyme.errors import StoreError, UsageError
from thyme.eval.manifest import RunManifest
from thyme.eval.run.folder import MANIFEST, SITTINGS, read_manifest
from thyme.eval.run.settings import merged
from thyme.eval.run.sources import Shard
from thyme.store import write_text
from thyme.types import Record

_BEAT_S = 5.0
"""How often a sitting notes that it is still there."""


class Sitting(Record):
    """A time in which one process worked on the run."""

    shard: str
    started: float
    """Seconds since 1970."""
    seconds: float


@contextmanager
def alone(folder: Path, shard: Shard) -> Iterator[None]:
    """Keep others away while this process works: the whole run is one process's, or each part one's.

    Raises:
        UsageError: Somebody works on it already, or it cannot be written.
        StoreError: Writing to it failed later.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(folder / ".lock", shared=shard.of > 1))
            held.enter_context(_locked(folder / f".lock.{shard.number}", shared=False))
        except BlockingIOError as error:
            raise UsageError(f"another process works on {folder}; wait for it, or take another --out") from error
        except OSError as error:
            told = f"{folder} cannot be written ({error.strerror}); name another folder with --out"
            raise UsageError(told) from error
        try:
            yield
        except OSError as error:
            told = f"{error.filename or folder}: {error.strerror or error}"
            raise StoreError(f"{told}; what was asked is kept, and the same command goes on from there") from error


@contextmanager
def _locked(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold a file for as long as this process lives; where the file system knows no locks, nobody is kept away."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # some network file systems
            pass
        yield


def agree(folder: Path, asked: RunManifest) -> RunManifest:
    """Write the manifest, or hold it against the one that is there. Several processes may do so at once.

    Args:
        folder: Of the run.
        asked: The manifest of this call, with what only the loaded model can tell.

    Raises:
        UsageError: The folder holds a run with other settings.
        StoreError: Its manifest is damaged.
    """
    with (folder / ".lock.manifest").open("a") as file:
        with suppress(OSError):  # some network file systems know no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        held = read_manifest(folder)
        manifest = asked if held is None else merged(held, asked, loaded=True)
        if manifest != held:
            write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Put it in place, whole.

    Raises:
        StoreError: It cannot be written.
    """
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


@dataclass
class Clock:
    """Notes how long this process works, every few seconds, so that one that is killed has been counted, too."""

    folder: Path
    shard: Shard
    started: float = field(default_factory=time.time)
    _begun: float = field(default_factory=time.monotonic)
    _noted: float = float("-inf")

    def beat(self, *, last: bool = False) -> None:
        """Say that it still works.

        Raises:
            StoreError: That cannot be written.
        """
        now = time.monotonic()
        if not last and now - self._noted < _BEAT_S:
            return
        self._noted = now
        sitting = Sitting(shard=f"{self.shard.number}/{self.shard.of}", started=self.started, seconds=now - self._begun)
        stamp = datetime.fromtimestamp(self.started, UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{stamp}.{self.shard.number}.{os.getpid()}.json"
        write_text(self.folder / SITTINGS / name, sitting.model_dump_json() + "\n")


def worked(folder: Path) -> float:
    """Seconds in which at least one process worked on a run."""
    spans = sorted((sitting.started, sitting.started + sitting.seconds) for sitting in _sittings(folder))
    total, until = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def most_shards(folder: Path) -> int:
    """Into how many parts the run was split at most."""
    return max((int(sitting.shard.partition("/")[2]) for sitting in _sittings(folder)), default=1)


def _sittings(folder: Path) -> Iterator[Sitting]:
    for path in sorted((folder / SITTINGS).glob("*.json")):
        try:
            yield Sitting.model_validate_json(path.read_bytes())
        except ValidationError:  # only the clock suffers
            continue
