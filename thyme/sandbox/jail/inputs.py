"""The zygote's store of input files, at the level ``namespaces``: one file a picture, linked into sessions' folders.

The store is a small file system of its own, mounted where a session mounts its own over it. A session sees nothing of
it but its folder, bound read-only and without access times: it cannot write, lock or touch what others share with it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from . import kernel, root

_FILES, _SESSIONS = f"{root.DATA}/files", f"{root.DATA}/sessions"
_listdir, _mkdir, _open, _rmdir, _unlink = os.listdir, os.mkdir, os.open, os.rmdir, os.unlink  # before the hooks
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_NOATIME


def mount() -> None:
    """Make the store; how much is in it is up to the broker."""
    kernel.mount("tmpfs", root.DATA, "tmpfs", _FLAGS, "size=0,nr_inodes=0,mode=755")
    _mkdir(_FILES)
    _mkdir(_SESSIONS)


def make_folder(name: str) -> str:
    """Make the folder of a session; its path."""
    folder = f"{_SESSIONS}/{name}"
    _mkdir(folder)
    return folder


def link(request: dict[str, Any], descriptors: list[int]) -> None:
    """Show files to a session.

    Args:
        request: ``link``, the session; ``files``, number and name of each; ``new``, numbers of those that are not
            there yet; ``old``, numbers of those that are to go.
        descriptors: A memory file for each new one.
    """
    for number in request["old"]:
        with contextlib.suppress(FileNotFoundError):  # it was meant to be put here, and that failed
            _unlink(f"{_FILES}/{number}")
    for number, descriptor in zip(request["new"], descriptors, strict=True):
        _copy(descriptor, f"{_FILES}/{number}")
    for number, name in request["files"]:
        with contextlib.suppress(FileExistsError):  # asked for twice
            os.link(f"{_FILES}/{number}", f"{_SESSIONS}/{request['link']}/{name}")


def _copy(source: int, path: str) -> None:
    target = _open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444)
    try:
        offset, left = 0, os.fstat(source).st_size
        while left:
            sent = os.sendfile(target, source, offset, left)
            offset, left = offset + sent, left - sent
    finally:
        os.close(target)


def remove_folder(name: str) -> None:
    """Remove the folder of a session that has ended."""
    folder = f"{_SESSIONS}/{name}"
    for entry in _listdir(folder):
        _unlink(f"{folder}/{entry}")
    _rmdir(folder)
