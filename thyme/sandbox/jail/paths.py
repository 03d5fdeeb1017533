"""Paths as the code writes them, and where the files really lie.

Two things make them differ. At the level ``landlock`` nothing can be mounted at /mnt/data, so that virtual paths are
mapped to a private folder. And a path that leaves the places where a session may write can be moved into its working
folder (the repair ``output_folder``); whoever asks for the original path later finds the moved file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from .confine import OUTPUT, SCRATCH
from .root import DATA

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")

_MOST_REMEMBERED = 64

_real_stat, _real_makedirs, _real_getcwd, _real_scandir = os.stat, os.makedirs, os.getcwd, os.scandir


class Paths:
    """The paths of one session, and the notes of what was put right in the current run."""

    def __init__(self, prefix: str, inputs: Collection[str], enabled: Collection[str]) -> None:
        """Start without any moved folder.

        Args:
            prefix: Put before a virtual path it gives the real one; empty where both are the same.
            inputs: Virtual paths of the input images.
            enabled: Names of the repairs that are on.
        """
        self.prefix, self.inputs, self.enabled = prefix, tuple(inputs), frozenset(enabled)
        self.moved: dict[str, str] = {}
        """Foreign folder, as the code wrote it, and the folder of ours it stands for."""
        self.notes: Counter[tuple[str, str]] = Counter()
        self.last_saved: str | None = None
        """Virtual path of the picture that was written last."""
        self._saved: list[weakref.ref[Any]] = []

    def remember(self, picture: Any) -> None:
        """Know that a picture is being saved in this run."""
        with contextlib.suppress(TypeError):  # it cannot be referred to; then it is asked for in vain
            self._saved.append(weakref.ref(picture))
        del self._saved[:-_MOST_REMEMBERED]

    def was_saved(self, picture: Any) -> bool:
        """Whether that very picture was saved in this run."""
        return any(saved() is picture for saved in self._saved)

    def start_run(self) -> None:
        """Forget what belongs to an earlier run."""
        self.notes.clear()
        self._saved.clear()

    def note(self, name: str, text: str) -> None:
        """Count a repair."""
        self.notes[name, text] += 1

    def real(self, virtual: str) -> str:
        """Where a virtual path really lies; any other path is its own."""
        if self.prefix and (virtual == DATA or virtual.startswith(DATA + "/")):
            return self.prefix + virtual
        return virtual

    def virtual(self, real: str) -> str:
        """A real path as the code may see it."""
        return real.replace(self.prefix, "") if self.prefix else real

    def absolute(self, path: str) -> str:
        """The virtual, absolute, normal form of a path."""
        if path.startswith("/"):
            return posixpath.normpath(self.virtual(path))
        return posixpath.normpath(posixpath.join(self.virtual(_real_getcwd()), path))

    def look(self, path: Any) -> Any:
        """The real path for any use that makes nothing: asking, listing, reading, removing."""
        text = _text(path)
        if text is None:
            return path
        if self.moved:
            moved = self._moved(self.absolute(text))
            if moved and exists(self.real(moved)):
                return self.real(moved)
        return self.real(text) if self.prefix else path

    def read(self, path: Any) -> Any:
        """The real path to read from; a missing picture is another one where that repair is on."""
        found = self.look(path)
        text = _text(path)
        if text is None or "input_path" not in self.enabled or exists(found):
            return found
        known = self._meant(text)
        if known is None:
            return found
        self.note("input_path", f"{text[:200]} does not exist; read {known[:200]}")
        return self.real(known)

    def _meant(self, text: str) -> str | None:
        """The picture, or for any other file the path, that code means by a path at which there is nothing."""
        plain = plain_path(text)
        if plain != text and exists(self.look(plain)):
            return plain
        if not is_picture(plain):
            return None
        absolute = self.absolute(plain)
        known = same_name(absolute, self.inputs) or self._saved_as(posixpath.basename(absolute))
        if known is not None or (plain.startswith("/") and is_ours(absolute)) or not self.inputs:
            return known  # what the code meant to have saved itself: the error says more than a wrong picture
        return self.inputs[0]

    def _saved_as(self, name: str) -> str | None:
        """The picture of that name in the working folder or right below it; None where there is none, or several."""
        found = [f"{folder}/{name}" for folder in (OUTPUT, *self._folders()) if exists(self.real(f"{folder}/{name}"))]
        return found[0] if len(found) == 1 else None

    def _folders(self) -> list[str]:
        with contextlib.suppress(OSError):
            return [f"{OUTPUT}/{entry.name}" for entry in _real_scandir(self.real(OUTPUT)) if entry.is_dir()][:20]
        return []

    def write(self, path: Any) -> Any:
        """The real path to write to; folders are made and foreign ones moved where that repair is on."""
        text = _text(path)
        if text is None:
            return path
        absolute = self.absolute(text)
        if "output_folder" not in self.enabled:
            if is_picture(absolute):
                self.last_saved = absolute
            return self.look(path)
        folder, name = posixpath.split(absolute)
        # Only pictures are moved: any other write elsewhere is no slip, and the input stays as it is.
        if absolute in self.inputs or not (is_ours(folder) or is_picture(name)):
            return self.look(path)
        ours = self.folder(folder)
        if is_picture(name):
            self.last_saved = posixpath.join(ours, name)
        if not exists(self.real(ours)):
            _real_makedirs(self.real(ours), exist_ok=True)
            if ours == folder:
                self.note("output_folder", f"made the folder {ours[:200]}")
        return self.real(posixpath.join(ours, name)) if ours != folder or self.prefix else path

    def make(self, path: Any) -> Any:
        """The real path of a folder to make; a foreign one is moved where that repair is on."""
        text = _text(path)
        if text is None or "output_folder" not in self.enabled:
            return self.look(path)
        absolute = self.absolute(text)
        if exists(self.real(absolute)):
            return self.look(path)
        ours = self.folder(absolute)
        return path if ours == absolute and not self.prefix else self.real(ours)

    def folder(self, folder: str) -> str:
        """The folder to write in where the code names `folder`: itself, or one of ours that stands for it."""
        if is_ours(folder):
            return folder
        ours = self._moved(folder)
        if ours is None:
            ours = self.moved[folder] = f"{OUTPUT}/{posixpath.basename(folder)}".rstrip("/")
            self.note("output_folder", f"{folder[:200]} cannot be written; used {ours[:200]}")
        return ours

    def _moved(self, absolute: str) -> str | None:
        for folder, ours in self.moved.items():
            if absolute == folder or absolute.startswith(folder.rstrip("/") + "/"):
                return ours + absolute[len(folder.rstrip("/")) :]
        return None


def is_ours(path: str) -> bool:
    """Whether a virtual, absolute path is, or lies in, a folder that a session may write in."""
    return path in {OUTPUT, SCRATCH} or path.startswith((OUTPUT + "/", SCRATCH + "/"))


def is_picture(path: str) -> bool:
    """Whether a path ends as that of a picture."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def plain_path(path: str) -> str:
    """A path without what people put around it: spaces, quotes, brackets, ``file://``."""
    plain = path.strip().strip("\"'`<>“”‘’").strip()
    return plain.removeprefix("file://")


def _text(path: Any) -> str | None:
    """A path as text; None for descriptors and whatever else is not a path."""
    if isinstance(path, str):
        return path
    if isinstance(path, bytes | os.PathLike):
        return os.fsdecode(path)
    return None


def exists(path: Any) -> bool:
    """Whether there is something at a real path."""
    try:
        _real_stat(path)
    except (OSError, ValueError, TypeError):
        return False
    return True


def same_name(path: str, inputs: Collection[str]) -> str | None:
    """The input that has the same name as `path`, whatever the ending."""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return next((known for known in inputs if posixpath.splitext(posixpath.basename(known))[0] == stem), None)


ASKING = (
    "stat", "lstat", "listdir", "scandir", "access", "chdir", "readlink", "truncate", "statvfs", "utime", "chmod",
    "remove", "unlink", "rmdir",
)  # fmt: skip
"""Functions of `os` whose first argument is a path that need not be made."""


def hook_os(paths: Paths) -> None:
    """Let the functions of `os` that take a path see real paths."""
    for name in ASKING:
        setattr(os, name, with_path(getattr(os, name), paths.look))
    for name in ("mkdir", "makedirs"):
        setattr(os, name, with_path(getattr(os, name), paths.make))
    for name in ("rename", "replace"):
        setattr(os, name, _with_two_paths(getattr(os, name), paths))
    original_open, original_getcwd = os.open, os.getcwd

    def os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return original_open((paths.write if writes else paths.look)(path), flags, *args, **kwargs)

    os.open = os_open
    tempfile.tempdir = paths.real(SCRATCH)  # it keeps functions of `os` from before they were hooked
    os.getcwd = lambda: paths.virtual(original_getcwd())


def with_path(original: Callable[..., Any], resolve: Callable[[Any], Any]) -> Callable[..., Any]:
    """`original`, its first argument resolved."""

    @functools.wraps(original)
    def hooked(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return original(resolve(path), *args, **kwargs)

    return hooked


def _with_two_paths(original: Callable[..., Any], paths: Paths) -> Callable[..., Any]:
    @functools.wraps(original)
    def hooked(source: Any, target: Any, **kwargs: Any) -> Any:
        return original(paths.look(source), paths.write(target), **kwargs)

    return hooked
