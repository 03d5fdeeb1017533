"""Folders that are written: new ones whole or not at all, by one process at a time, pictures once each by content."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Final

from thyme.errors import StoreError, UsageError
from thyme.store import bytes_in, unwritten
from thyme.types import EXTENSIONS

IMAGES: Final = "images"
"""Folder of the pictures, in every folder that is written here."""


def is_image_id(id: str) -> bool:
    """Whether something can be the hash of an image; nothing that could lead out of a folder can."""
    return len(id) > 2 and id.isalnum() and id.isascii()


def picture_path(id: str, format: str) -> str:
    """Where a picture lies in a folder: ``images/xx/ID.EXT``.

    Args:
        id: `thyme.types.ImageRecord.id`, the hash of its pixels.
        format: Of its file, as Pillow names it.

    Raises:
        StoreError: They are none of a stored picture.
    """
    if format not in EXTENSIONS or not is_image_id(id):
        raise StoreError(f"image {id!r} ({format}) has no name of a stored image; restore the record")
    return f"{IMAGES}/{id[:2]}/{id}.{EXTENSIONS[format]}"


def put_picture(folder: Path, id: str, format: str, read: Callable[[], bytes]) -> str:
    """Write a picture into a folder that nobody else writes, unless it is there; gives its path in the folder.

    Args:
        folder: That is put in place when it is whole.
        id: As for `picture_path`.
        format: As for `picture_path`.
        read: Gives its file; asked only where it is not there.

    Raises:
        StoreError: It has no name of a stored picture.
        OSError: It cannot be written.
    """
    path = picture_path(id, format)
    target = folder / path
    if not target.exists():
        data = read()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


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
def alone(out: Path) -> Iterator[None]:
    """Make a folder where it is missing, and keep other processes from it while this one works there.

    Where the file system knows no locks, nobody is kept away.

    Args:
        out: What a person named with ``--out``.

    Raises:
        UsageError: Somebody works there already, or it may not be written.
        StoreError: It cannot be written for another reason.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("a")
    except PermissionError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); name another folder with --out") from error
    except OSError as error:
        raise unwritten(out, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another process works in {out}; wait for it, or name another folder with --out"
            ) from error
        except OSError:  # no locks here
            pass
        yield


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
