"""New folders that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from thyme.errors import UsageError
from thyme.store import bytes_in, unwritten


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """An empty folder beside the one that is wanted, put in its place when the block ends well; else it goes.

    Args:
        to: What a person named with ``--to``; may be there, empty.

    Raises:
        UsageError: It is in use.
        StoreError: It cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} is there already, and not empty; name another folder with --to")
    place = to.resolve()  # a name such as "." has no neighbour, and a link is not a folder that can be put in place
    if place == Path.cwd():
        raise UsageError(f"{to} is the folder that you are in, and a new one is made; name another with --to")
    begun = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _held(begun):
            yield begun
            begun.replace(place)
    except OSError as error:
        raise unwritten(to, error, written=bytes_in(begun)) from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)


@contextmanager
def _held(begun: Path) -> Iterator[None]:
    """Make the folder, locked as long as it is written to; what killed ones for the same place left is deleted."""
    begun.mkdir(parents=True)
    with _locked(begun):
        for other in begun.parent.glob(f"{escape(begun.name.rsplit('.', 2)[0])}.{'[0-9a-f]' * 8}.tmp"):
            with suppress(OSError), _locked(other):  # who has it open has locked it
                shutil.rmtree(other)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder.

    Raises:
        OSError: Somebody else did, or it is gone.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
