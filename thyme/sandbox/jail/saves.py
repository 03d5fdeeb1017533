"""Pictures that code saves: their pixels are kept as drawn, and the file is written when somebody looks.

A save leaves an empty file under its name. Whatever Python does to such a file, opening, asking for its size, listing
its folder, moving it, first writes the real one, with the parameters of the save; asking whether it is there does not.
Files are written at once where something can go wrong, and over one that was looked at before, since somebody may hold
it open. Saves that are out of the ordinary (`ordinary`) are not kept at all.
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
    "os.chmod", "os.chown", "os.link", "os.rename", "os.scandir", "os.setxattr", "os.symlink",
    "os.truncate", "os.utime", "sqlite3.connect",
})  # fmt: skip
"""Audit events on which everything that waits is written: they name folders, two files, or are rare."""
_FOREIGN = frozenset({"ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle"})
"""Audit events after which code may open files without Python's knowledge; from then on nothing waits."""
_WATCHED = _ALL | _FOREIGN | {"open", "os.remove"}
_ROOM = 1 << 16

_open, _stat, _utime, _getcwd, _statvfs = builtins.open, os.stat, os.utime, os.getcwd, os.statvfs


@dataclass(frozen=True)
class Drawn:
    """A picture that was saved, as it was drawn."""

    mode: str
    """L, RGB or RGBA."""
    size: tuple[int, int]
    """Width and height, pixels."""
    offset: int
    """Where its packed pixels lie."""
    write: Write
    """Writes the file from the packed pixels."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its packed pixels."""
        return packed_bytes(self.mode, self.size)


class Saves:
    """The pictures that one session saved."""

    def __init__(self, paths: Paths, shelf: Shelf, limits: dict[str, Any]) -> None:
        """Know of none; with ``round_trip`` among the limits of `SandboxConfig` none is ever kept."""
        self._paths, self._shelf = paths, shelf
        self._most_bytes = min(limits["file_mb"], limits["disk_mb"]) << 20
        self._round_trip, self._at_once = limits["round_trip"], True
        self._waiting: dict[str, Drawn] = {}
        self._written: dict[str, tuple[Drawn, State]] = {}
        self._saved: set[str] = set()
        self._lock = threading.RLock()
        self._trusted: set[int] = set()
        """Threads whose looks at files do not count."""

    def bind(self) -> None:
        """Begin: only code of the session's own calls foreign functions from here on."""
        self._at_once = False

    def start_run(self) -> None:
        """Forget what belongs to the run before."""
        self._saved.clear()
        self._shelf.start_run()

    def drawn(self, real: str) -> Drawn | None:
        """What was drawn in the file at a real path, if that is what it still holds; it may have been moved there."""
        if real in self._waiting:
            return self._waiting[real]
        now = _state_of(real)
        return next((item for item, written in self._written.values() if written == now), None)

    def is_new(self, real: str, before: State | None, now: State) -> bool:
        """Whether a file was saved in this run: not if it is only now that its bytes were written."""
        return real in self._saved or now not in {before, self._written.get(real, (None, None))[1]}

    @contextlib.contextmanager
    def keeping(self, path: Any, mode: str, size: tuple[int, int], take: Take, write: Write) -> Iterator[bool]:
        """Keep a picture as it is drawn, while it is being saved.

        Args:
            path: Real path as it was resolved; text, bytes or path object.
            mode: L, RGB or RGBA.
            size: Width and height, pixels.
            take: Writes the packed pixels into the memory it is given.
            write: Writes the file; called with the packed pixels and the path.

        Yields:
            Whether the file is written later; if not, the caller is to do it now.

        Raises:
            OSError: The file cannot be made.
        """
        real = self._normal(path)
        with self._lock, self.trusted():
            item = self._taken(real, mode, size, take, write)
            waits = item is not None and self._may_wait(real, item)
            if item is not None and waits:
                try:
                    _open(path, "wb").close()  # as it was written: a folder before ".." may be missing
                except OSError:
                    self._shelf.free(item.offset)
                    raise
            self.forget(real)
            if item is not None:
                self._saved.add(real)
            if item is not None and waits:
                self._waiting[real] = item
        if item is None or waits:
            yield waits
            return
        try:
            yield False
        except BaseException:
            self._shelf.free(item.offset)
            raise
        self._remember(real, item)

    def _taken(self, real: str, mode: str, size: tuple[int, int], take: Take, write: Write) -> Drawn | None:
        """The picture on the shelf; None where there is no place for it."""
        room = packed_bytes(mode, size)
        if self._round_trip or not real.startswith(self._paths.real(OUTPUT) + "/"):
            return None
        while (offset := self._shelf.reserve(room)) is None:
            old = next((name for name in self._written if name not in self._saved), None)
            if old is None:
                return None
            self.forget(old)
        try:
            take(self._shelf.view(offset, room))
        except BaseException:
            self._shelf.free(offset)
            raise
        return Drawn(mode, size, offset, write)

    def _may_wait(self, real: str, item: Drawn) -> bool:
        """Whether nothing can go wrong, and nobody can find out, if the file is written later."""
        if self._at_once or item.size_bytes + _ROOM > self._most_bytes:
            return False
        if real not in self._waiting and _state_of(real) is not None:
            return False  # somebody may hold it open
        if self._paths.prefix:  # no file system of its own: the broker looks at what is written
            return True
        disk = _statvfs(OUTPUT)
        needed = sum(other.size_bytes + _ROOM for other in (item, *self._waiting.values()))
        if needed <= disk.f_bavail * disk.f_frsize:
            return True
        self._write_all()  # whether there is room for all is seen now, not when somebody looks
        return False

    def forget(self, real: str) -> None:
        """Let go of what is kept of the file at a real path."""
        with self._lock:
            written = self._written.pop(real, None)
            for item in (self._waiting.pop(real, None), written and written[0]):
                if item is not None:
                    self._shelf.free(item.offset)

    def settle(self, path: Any = None) -> None:
        """Write what waits under a path, or all that waits; nothing that has a descriptor waits.

        Raises:
            OSError: It cannot be written; it goes on waiting.
        """
        if not self._waiting or isinstance(path, int) or threading.get_ident() in self._trusted:
            return
        with self._lock, self.trusted():
            if path is None:
                self._write_all()
            elif (real := self._normal(path)) in self._waiting:
                self._write(real)

    def _write_all(self) -> None:
        for real in list(self._waiting):
            self._write(real)

    def _write(self, real: str) -> None:
        item, saved = self._waiting[real], _stat(real)
        item.write(self._shelf.view(item.offset, item.size_bytes), real)
        _utime(real, ns=(saved.st_atime_ns, saved.st_mtime_ns))
        del self._waiting[real]
        self._remember(real, item)

    def _remember(self, real: str, item: Drawn) -> None:
        """Know that a file holds what was drawn."""
        now = _state_of(real)
        if now is None:  # OpenCV could not write it, and said so in its own way
            self._shelf.free(item.offset)
        else:
            self._written[real] = (item, now)

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
            path, _, flags = arguments
            if path is not None and not isinstance(path, int):
                self.settle(path)
                if self._written and flags & (os.O_WRONLY | os.O_RDWR):
                    self.forget(self._normal(path))
        elif event == "os.remove" and arguments[1] == -1:
            if self._waiting:
                self.forget(self._normal(arguments[0]))
        else:
            self._at_once = self._at_once or event in _FOREIGN
            self.settle()

    def _normal(self, path: Any) -> str:
        """The real, absolute, normal form of a path; what is no path is nobody's."""
        try:
            text = os.fsdecode(path)
            return posixpath.normpath(text if text.startswith("/") else f"{_getcwd()}/{text}")
        except (TypeError, OSError):  # the working folder may have been removed
            return ""


def state(status: os.stat_result) -> State:
    """What tells one version of a file from another."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def _state_of(path: str) -> State | None:
    """The state of a file; None where there is none."""
    try:
        return state(_stat(path))
    except OSError:
        return None
