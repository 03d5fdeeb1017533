"""Pictures that code saves: their pixels are kept as drawn, and the file is written when somebody looks.

A save leaves an empty file under its name. Whatever Python does to such a file, opening, asking for its size, listing
its folder, moving it, first writes the real one, with the parameters of the save; asking whether it is there does not.
Saves that are out of the ordinary are made at once (`ordinary`), and so is one over a file that was looked at before,
since somebody may hold it open.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import posixpath
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .confine import OUTPUT
from .paths import Paths
from .shelf import Shelf, packed_bytes

State = tuple[int, int, int]
"""Inode, size and time of the last change of a file."""
Take = Callable[[memoryview], None]
Write = Callable[[memoryview, str], None]

_ALL = frozenset({
    "os.chmod", "os.chown", "os.link", "os.rename", "os.rmdir", "os.scandir", "os.setxattr", "os.symlink",
    "os.truncate", "os.utime", "sqlite3.connect",
})  # fmt: skip
"""Audit events on which everything that waits is written: they name folders, two files, or are rare."""
_FOREIGN = frozenset({"ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle"})
"""Audit events after which code may open files without Python's knowledge; from then on nothing waits."""
_WATCHED = _ALL | _FOREIGN | {"open", "os.remove"}
_ROOM = 1 << 16

_open, _stat, _utime, _getcwd, _statvfs = builtins.open, os.stat, os.utime, os.getcwd, os.statvfs


@dataclass(frozen=True)
class Waiting:
    """A picture whose file is still to be written."""

    mode: str
    """L, RGB or RGBA."""
    size: tuple[int, int]
    """Width and height, pixels."""
    offset: int
    """Where its packed pixels lie."""
    write: Callable[[memoryview], None]
    """Writes the file from the packed pixels."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its packed pixels."""
        return packed_bytes(self.mode, self.size)


class Saves:
    """The pictures of one session that wait to be written."""

    def __init__(self, paths: Paths, shelf: Shelf, limits: dict[str, Any]) -> None:
        """Start with none; with ``round_trip`` among the limits of `SandboxConfig` there never are any."""
        self._paths, self._shelf = paths, shelf
        self._most_bytes = min(limits["file_mb"], limits["disk_mb"]) << 20
        self._round_trip, self._off = limits["round_trip"], True
        self._waiting: dict[str, Waiting] = {}
        self._written: dict[str, State] = {}
        self._saved: set[str] = set()
        self._lock = threading.RLock()
        self._trusted: set[int] = set()
        """Threads whose looks at files do not count."""

    def bind(self) -> None:
        """Begin: only code of the session's own calls foreign functions from here on."""
        self._off = self._round_trip

    def start_run(self) -> None:
        """Forget what happened in the run before."""
        self._written.clear()
        self._saved.clear()
        self._shelf.start_run()

    def waiting(self, real: str) -> Waiting | None:
        """What waits to be written to a real path."""
        return self._waiting.get(real)

    def is_new(self, real: str, before: State | None, now: State) -> bool:
        """Whether a file was saved in this run: not if it is only now that its bytes were written."""
        return real in self._saved or now not in {before, self._written.get(real)}

    def keep(
        self,
        path: Any,
        mode: str,
        size: tuple[int, int],
        take: Callable[[memoryview], None],
        write: Callable[..., None],
    ) -> bool:
        """Keep a picture instead of writing it, if there is nothing against it.

        Args:
            path: Real path as it was resolved; text, bytes or path object.
            mode: L, RGB or RGBA.
            size: Width and height, pixels.
            take: Writes the packed pixels into the memory it is given.
            write: Writes the file; called with the packed pixels and the path.

        Raises:
            OSError: The file cannot be made.
        """
        real = self._normal(path)
        room = packed_bytes(mode, size)
        if self._off or not real.startswith(self._paths.real(OUTPUT) + "/") or room + _ROOM > self._most_bytes:
            return False
        with self._lock, self.trusted():
            if (real not in self._waiting and _is_there(real)) or not self._fits(room):
                return False
            offset = self._shelf.reserve(room)
            if offset is None:
                return False
            try:
                _open(real, "wb").close()
                take(self._shelf.view(offset, room))
            except BaseException:
                self._shelf.free(offset)
                raise
            self.forget(real)
            self._waiting[real] = Waiting(mode, size, offset, lambda pixels: write(pixels, real))
            self._saved.add(real)
        return True

    def _fits(self, room: int) -> bool:
        """Whether all files that wait have room on the disk, however badly they compress."""
        if self._paths.prefix:  # no file system of its own: the broker looks at what is written
            return True
        disk = _statvfs(OUTPUT)
        waiting = sum(item.size_bytes + _ROOM for item in self._waiting.values())
        return waiting + room + _ROOM <= disk.f_bavail * disk.f_frsize

    def forget(self, real: str) -> None:
        """Let go of what waits under a real path."""
        with self._lock:
            found = self._waiting.pop(real, None)
            if found is not None:
                self._shelf.free(found.offset)

    def settle(self, path: Any = None) -> None:
        """Write what waits under a path, or all that waits.

        Raises:
            OSError: It cannot be written; it goes on waiting.
        """
        if not self._waiting or threading.get_ident() in self._trusted:
            return
        with self._lock, self.trusted():
            names = list(self._waiting) if path is None or isinstance(path, int) else [self._normal(path)]
            for real in names:
                if real in self._waiting:
                    self._write(real)

    def _write(self, real: str) -> None:
        item, saved = self._waiting[real], _stat(real)
        item.write(self._shelf.view(item.offset, item.size_bytes))
        _utime(real, ns=(saved.st_atime_ns, saved.st_mtime_ns))
        self._written[real] = state(_stat(real))
        self.forget(real)

    @contextlib.contextmanager
    def trusted(self) -> Iterator[None]:
        """Let this thread look at files as they are."""
        thread = threading.get_ident()
        if thread in self._trusted:
            yield
            return
        self._trusted.add(thread)
        try:
            yield
        finally:
            self._trusted.discard(thread)

    def watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Write what an audit event is about to look at."""
        if event not in _WATCHED or threading.get_ident() in self._trusted:
            return
        if event == "open":
            if self._waiting and not isinstance(arguments[0], int):
                self.settle(arguments[0])
        elif event == "os.remove" and arguments[1] == -1:
            if self._waiting:
                self.forget(self._normal(arguments[0]))
        else:
            self._off = self._off or event in _FOREIGN
            self.settle()

    def _normal(self, path: Any) -> str:
        return posixpath.normpath(posixpath.join(_getcwd(), os.fsdecode(path)))


def state(status: os.stat_result) -> State:
    """What tells one version of a file from another."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_there(path: str) -> bool:
    try:
        _stat(path)
    except OSError:
        return False
    return True
