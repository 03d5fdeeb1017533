"""New folders that are there whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thyme.errors import StoreError, UsageError


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
        begun.mkdir(parents=True)
        yield begun
        begun.replace(place)
    except OSError as error:
        raise StoreError(f"{to} cannot be written ({error.strerror}); is there room on the disk?") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)
