"""One trajectory's interpreter: runs code blocks one after the other and gathers what they printed and saved."""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import random
import re
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from mmap import PAGESIZE
from typing import Any

from . import hooks, pictures, repair, returns, savers, saves
from .confine import OUTPUT, SCRATCH
from .paths import Paths
from .shelf import CHANNELS, Shelf

_KEPT_PRINTED = 1 << 20
"""Bytes of printed text that are kept to look for paths in, at least."""
_MESSAGE_CHARS = 600
_MOST_NOTES = 50
_PATH_LETTER = re.compile(r"[\w./\\-]")

_TICK_NS = 50_000_000
"""More than the kernel's clock for files goes on at a time."""

_listdir, _scandir, _stat, _now = os.listdir, os.scandir, os.stat, time.time_ns


class Printed(io.RawIOBase):
    """What code prints, up to a limit; `stream` is what it prints to."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes."""
        self._limit, self._kept, self.lost = limit, bytearray(), False
        self.stream = io.TextIOWrapper(io.BufferedWriter(self), encoding="utf-8", errors="replace", newline="\n")

    def write(self, data: Any) -> int:
        """Keep what fits."""
        room = self._limit - len(self._kept)
        self._kept += data[:room]
        self.lost = self.lost or len(data) > room
        return len(data)

    def writable(self) -> bool:
        """Yes."""
        return True

    def finish(self) -> str:
        """What was kept."""
        with contextlib.suppress(ValueError):  # the code closed its standard output
            self.stream.flush()
        return bytes(self._kept).decode(errors="replace")


class Interpreter:
    """Globals that live on from one run to the next, and the limits on what goes back."""

    def __init__(self, paths: Paths, limits: dict[str, Any]) -> None:
        """Put the hooks in place, before anything of the code's trajectory is known.

        Args:
            paths: Of this session.
            limits: Of `SandboxConfig`.
        """
        self._shelf = Shelf(max(PAGESIZE, limits["max_total_pixels"] * max(CHANNELS.values())))
        self._saves = saves.Saves(paths, self._shelf, limits)
        self._returns = returns.Returns(paths, self._saves, self._shelf, limits)
        self.pictures = pictures.Pictures(paths)
        savers.install(paths, self._saves)
        pictures.install(paths, self.pictures)
        self._hooks = hooks.Hooks(paths)
        self._paths, self._limits = paths, limits
        self._round = 0
        self._before: dict[str, saves.State] = {}
        """Every file there was when the last block ended."""
        self._empty_since: list[int] = []
        """When something in the folders changed last, if nothing was in them when the last block ended; nanoseconds."""
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace = module.__dict__

    def move_in(self, prefix: str, shared: memoryview) -> None:
        """Say where the session's files and its shared memory are: a forked process is a session from here on.

        Args:
            prefix: Of `Paths`.
            shared: Memory shared with the broker.
        """
        self._paths.prefix = prefix
        self._shelf.move_in(shared)
        tempfile.tempdir = self._paths.real(SCRATCH)  # it keeps functions of `os` from before they were hooked

    def rehearse(self) -> dict[str, Any]:
        """Go through a start and a run that leave nothing behind; the real ones find at hand what memory they take.

        Half of what they cost are page faults: pages that the process shares with the one it was forked from until it
        writes to them.
        """
        self.bind((), 0)
        reply = self.run("")
        self._round = 0
        return reply

    def bind(self, inputs: Sequence[pictures.Input], seed: int) -> None:
        """Seed the generators and define the inputs. Call once, before the first `run`.

        Args:
            inputs: The problem's images.
            seed: For `random`, numpy and OpenCV.
        """
        import cv2  # not at the top: the zygote imports this module before it can see any package
        import numpy as np

        random.seed(seed)
        np.random.seed(seed % 2**32)
        cv2.setRNGSeed(seed % 2**31)
        self._saves.bind()
        self.pictures.bind(inputs)
        self._paths.inputs = tuple(item.path for item in inputs)
        self.namespace["image_paths"] = list(self._paths.inputs)
        if inputs:
            self.namespace["image_path"] = inputs[0].path

    def run(self, code: str) -> dict[str, Any]:
        """Run one block; the reply for the broker, without its id."""
        self._round += 1
        self._paths.start_run()
        self._saves.start_run()
        named_before = self.namespace.get("processed_path")
        printed = Printed(max(_KEPT_PRINTED, 4 * self._limits["stdout_chars"]))
        repaired = self._repair(code)
        error = self._execute(repaired.code, printed)
        text = self._paths.virtual(printed.finish())
        images: list[dict[str, Any]] = []
        cut = False
        try:
            with self._saves.trusted():
                before, self._before = self._before, self._look()
                named = self._named(text, named_before, before, self._before)
                named += [path for path in self._hooks.finish() if path not in named]
                images, cut = self._returns.collect(named)
        except BaseException as failure:  # what the code left behind can still raise, e.g. out of `processed_path`
            error = error or self._describe(failure, "")
        shown, shortened = shorten(text, self._limits["stdout_chars"])
        return {
            "ran": clean(repaired.code) if repaired.repairs else None,
            "stdout": clean(shown),
            "truncated": shortened or cut or printed.lost,
            "error": error,
            "images": images,
            "repairs": self._notes(repaired),
        }

    def _notes(self, repaired: repair.Repaired) -> list[dict[str, Any]]:
        notes = [(name, note, 1) for name, note in repaired.repairs]
        notes += [(name, note, count) for (name, note), count in self._paths.notes.items()]
        return [{"name": name, "note": clean(note), "count": count} for name, note, count in notes[:_MOST_NOTES]]

    def _repair(self, code: str) -> repair.Repaired:
        """What is run in place of `code`."""
        return repair.repair_syntax(code, self._paths.enabled, self._filename)

    def _exec(self, code: str, filename: str) -> None:
        """Compile and run a block; it may raise anything."""
        exec(self._hooks.prepare(code, filename, self.namespace), self.namespace)

    @property
    def _filename(self) -> str:
        """What the block that runs is called in tracebacks."""
        return f"<code {self._round}>"

    def _execute(self, code: str, printed: Printed) -> dict[str, Any] | None:
        filename = self._filename
        linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
        streams = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = printed.stream
        try:
            self._exec(code, filename)
        except SystemExit as end:
            return None if end.code in {None, 0} else self._describe(end, filename)
        except BaseException as error:  # whatever the code raised is a result
            return self._describe(error, filename)
        finally:
            sys.stdout, sys.stderr = streams
        return None

    def _describe(self, error: BaseException, filename: str) -> dict[str, Any]:
        """Type, message and line, short enough to be read by a model."""
        if isinstance(error, SyntaxError) and error.filename == filename:
            line, message = error.lineno, str(error.msg)
        else:
            line, message = _last_line(error, filename), _message(error)
        source = linecache.getline(filename, line) if line else ""
        kind = "cv2.error" if type(error).__module__ == "cv2" else type(error).__name__
        if isinstance(error, MemoryError) or (kind == "cv2.error" and "Insufficient memory" in message):
            kind, message = "MemoryLimit", message or f"more than {self._limits['memory_mb']} MiB were asked for"
        message = self._paths.virtual(clean(message[: 4 * _MESSAGE_CHARS]))
        message = clean(self._hooks.explain(error, message, clean(source), self.namespace)).strip()
        return {"type": clean(kind)[:100] or "Error", "message": message[:_MESSAGE_CHARS], "line": line}

    def _look(self) -> dict[str, saves.State]:
        """Every file there is. Folders that were empty, and that nothing was put into since, are not read again."""
        folders = [self._paths.real(folder) for folder in (OUTPUT, SCRATCH)]
        try:
            changed = [_stat(folder).st_mtime_ns for folder in folders]
            if changed == self._empty_since:
                return {}
            empty = _now() - max(changed) > _TICK_NS and not any(map(_listdir, folders))
        except OSError:  # the code removed one
            changed, empty = [], False
        self._empty_since = changed if empty else []
        return {} if empty else dict(self._files())

    def _files(self) -> Iterator[tuple[str, saves.State]]:
        """Virtual path and state of every file the session holds, at most as many as it may hold."""
        folders, count = [OUTPUT, SCRATCH], 0
        while folders and count < self._limits["inodes"]:
            folder = folders.pop()
            try:
                entries = list(_scandir(self._paths.real(folder)))
            except OSError:
                continue
            for entry in entries:
                count += 1
                path = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path, saves.state(entry.stat(follow_symlinks=False))

    def _named(
        self, text: str, named_before: Any, before: dict[str, saves.State], present: dict[str, saves.State]
    ) -> list[str]:
        """Files whose paths were printed, in that order, then those in ``processed_path``."""
        found: list[tuple[int, str]] = []
        present = {path: state for path, state in present.items() if path.isprintable()}
        for path in present:
            places = [place for name in self._names_of(path) if (place := find_path(text, name)) >= 0]
            if places:
                found.append((min(places), path))
        result = [path for _, path in sorted(found)]
        named = self.namespace.get("processed_path")
        for item in named if isinstance(named, list | tuple) else [named]:
            if not isinstance(item, str | os.PathLike):
                continue
            path = self._paths.absolute(self._paths.virtual(str(self._paths.look(os.fsdecode(item)))))
            if path not in present or path in result:
                continue
            if named is not named_before or self._saves.is_new(self._paths.real(path), before.get(path), present[path]):
                result.append(path)
        return result

    def _names_of(self, path: str) -> Iterator[str]:
        """How code may call a file of ours."""
        yield path
        if path.startswith(OUTPUT + "/"):
            yield path[len(OUTPUT) + 1 :]
            yield "." + path[len(OUTPUT) :]
        for foreign, ours in self._paths.moved.items():
            if path.startswith(ours + "/"):
                yield foreign.rstrip("/") + path[len(ours) :]


def _last_line(error: BaseException, filename: str) -> int | None:
    """The line of the code that runs, not of a library, at which `error` left it."""
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == filename:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:  # an exception of the code's own making
        return f"its message cannot be read: {type(failure).__name__}"


def find_path(text: str, path: str) -> int:
    """Where `path` stands in `text` as a whole; -1 where it does not."""
    start = text.find(path)
    while start >= 0:
        end = start + len(path)
        before, after = text[start - 1 : start], text[end : end + 2]
        ends = not after or not _PATH_LETTER.match(after) or (after[0] == "." and not after[1:].strip(" \n"))
        if ends and not (before and _PATH_LETTER.match(before)):
            return start
        start = text.find(path, start + 1)
    return -1


def shorten(text: str, limit: int) -> tuple[str, bool]:
    """Cut the middle out of `text`; the text, and whether something was cut."""
    if len(text) <= limit:
        return text, False
    head, tail = limit * 3 // 4, limit // 4
    return f"{text[:head]}\n[... {len(text) - head - tail} characters left out ...]\n{text[-tail:]}", True


def clean(text: str) -> str:
    """Without lone surrogates, which no JSON reader takes."""
    return text.encode("utf-8", "replace").decode()
