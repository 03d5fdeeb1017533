"""A session's files on the host, at the level without mounts: how much there is, and getting rid of it.

The folder belongs to us, but what is in it is the session's work: nothing is opened but folders, nothing is followed,
and neither width nor depth of a tree can hurt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxError

_MIB = 1 << 20
_DEEPEST = 64
_MOST_MAPS_BYTES = 1 << 20
"""Bytes of a process's list of mappings that are read, ten thousand lines or so: each look at it takes time."""


class Usage:
    """What one session may take of the host where nothing but looking limits it, and what it took."""

    def __init__(self, folder: Path, process: int, config: SandboxConfig, writable: tuple[str, ...] = ("",)) -> None:
        """Watch a session.

        Args:
            folder: Where its files lie.
            process: Descriptor of its process, for its threads, and for files that have no name any more but still
                take space.
            config: The limits.
            writable: Where below `folder` it can write.
        """
        self._writable = tuple(f"{folder}{path}" for path in writable)
        self.folder, self._pid = folder, _process_id(process)
        self._bytes, self._inodes, self._threads = config.disk_mb * _MIB, config.inodes, config.threads
        self.unlooked_s = 0.0
        """Seconds that its code ran since files without names were last looked for; kept by who looks."""
        self._file_bytes = min(config.file_mb, config.disk_mb) * _MIB

    def excess_threads(self) -> str:
        """Threads over the limit, as `excess` says it."""
        try:
            count = len(os.listdir(f"/proc/{self._pid}/task"))
        except OSError:  # it ended, and whoever waits for its answer hears of that
            return ""
        return f"more than {self._threads} threads" if count > self._threads else ""

    def excess(self, nameless_too: bool = True) -> str:
        """What it wrote over the limit, as words for the model; empty where nothing is. The work is bounded.

        Args:
            nameless_too: Whether to look for files without names; that takes ten times as long.

        Raises:
            SandboxError: No descriptor is left here to look with, for which the code is not to blame.
        """
        nameless = _nameless_bytes(self._pid, self._file_bytes) if nameless_too else 0
        if nameless is None:
            return "more files that it maps than can be looked at"
        total, count = nameless, 0
        waiting: list[tuple[str, int]] = [(folder, 0) for folder in self._writable]
        while waiting:
            folder, depth = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        count += 1
                        if count > self._inodes:
                            return f"more than {self._inodes} files and folders"
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, depth + 1))
                            continue
                        total += _size(entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE}:
                    raise SandboxError(f"what a session wrote cannot be looked at: {error.strerror}") from error
                return f"a folder that cannot be read ({error.strerror})"
            if depth > _DEEPEST:
                return f"folders more than {_DEEPEST} deep"
        return "" if total <= self._bytes else f"more than {self._bytes // _MIB} MiB of files"


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def _process_id(handle: int) -> int:
    """Id of the process behind a descriptor; -1 where it is gone."""
    with open(f"/proc/self/fdinfo/{handle}", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Pid:")), -1)


def _nameless_bytes(pid: int, most_of_one: int) -> int | None:
    """Bytes of files that a process removed and still holds open or mapped; None where there is too much to look at.

    How large a file is that is only mapped does not show, and a mapping of one page keeps all of it: it counts as the
    most that a file may have.
    """
    thread = _living_thread(pid)
    held: dict[tuple[int, int], int] = {}
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"{thread}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"{thread}/fd/{descriptor}")
                if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                    held[found.st_dev, found.st_ino] = found.st_blocks * 512
    maps = b""
    with contextlib.suppress(OSError), open(f"{thread}/maps", "rb") as file:
        maps = file.read(_MOST_MAPS_BYTES)
    if len(maps) == _MOST_MAPS_BYTES:
        return None
    counted = {inode for _, inode in held}
    mapped = _removed_and_mapped(maps) if b" (deleted)" in maps else {}
    return sum(held.values()) + sum(max(n, most_of_one) for inode, n in mapped.items() if inode not in counted)


def _living_thread(pid: int) -> str:
    """Folder in /proc of a thread that has descriptors and memory, which all share: a first thread may have ended."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                if os.listdir(f"/proc/{pid}/task/{thread}/fd"):
                    return f"/proc/{pid}/task/{thread}"
    return f"/proc/{pid}"


def _removed_and_mapped(maps: bytes) -> dict[int, int]:
    """Inode and mapped bytes of the removed files in the text of ``maps``; memory is none."""
    found: dict[int, int] = {}
    for line in maps.splitlines():
        if line.endswith(b" (deleted)"):
            place, _, _, _, inode, path = line.split(None, 5)
            if not path.startswith((b"/memfd:", b"/dev/zero")):
                start, _, end = place.partition(b"-")
                found[int(inode)] = found.get(int(inode), 0) + int(end, 16) - int(start, 16)
    return found


def remove_tree(folder: Path) -> None:
    """Remove a folder whatever is in it. Deep trees are flattened step by step, so that no path grows too long."""
    with contextlib.suppress(FileNotFoundError):
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(folder)


def _empty(top: int) -> None:
    serial = 0
    while entries := os.listdir(top):
        for name in entries:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            os.chmod(name, 0o700, dir_fd=top)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                for child in os.listdir(inner):
                    if stat.S_ISDIR(os.stat(child, dir_fd=inner, follow_symlinks=False).st_mode):
                        os.chmod(child, 0o700, dir_fd=inner)  # moving a folder writes its ".."
                        serial += 1
                        os.rename(child, f".thyme-{serial}", src_dir_fd=inner, dst_dir_fd=top)
                    else:
                        os.unlink(child, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
