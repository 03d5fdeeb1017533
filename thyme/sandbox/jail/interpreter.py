"""One trajectory's interpreter: runs code blocks one after the other and gathers what they printed and saved."""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import os
import random
import re
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from typing import Any

from . import hooks, pictures, repair, saves
from .confine import OUTPUT, SCRATCH
from .paths import Paths

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
"""Modes in which pictures go back, and bytes a pixel of each."""

_KEPT_PRINTED = 1 << 20
"""Bytes of printed text that are kept to look for paths in, at least."""
_MESSAGE_CHARS = 600
_MOST_NOTES = 50
_PATH_LETTER = re.compile(r"[\w./\\-]")

_scandir, _stat, _open = os.scandir, os.stat, builtins.open


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

    def __init__(self, paths: Paths, limits: dict[str, Any], pixels: memoryview) -> None:
        """Put the hooks in place, before anything of the code's trajectory is known.

        Args:
            paths: Of this session.
            limits: Of `SandboxConfig`.
            pixels: Memory shared with the broker.
        """
        self.pictures = pictures.Pictures()
        self._hooks = hooks.Hooks(paths)
        pictures.install(paths)
        saves.install(paths)
        self._paths, self._limits, self._pixels = paths, limits, pixels
        self._round = 0
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.namespace = module.__dict__

    def move_in(self, prefix: str, shared: memoryview) -> None:
        """Say where the session's files and its shared memory are: a forked process is a session from here on.

        Args:
            prefix: Of `Paths`.
            shared: Memory shared with the broker.
        """
        self._paths.prefix, self._pixels = prefix, shared
        tempfile.tempdir = self._paths.real(SCRATCH)  # it keeps functions of `os` from before they were hooked

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
        self.pictures.bind(tuple(inputs))
        self._paths.inputs = tuple(item.path for item in inputs)
        self.namespace["image_paths"] = list(self._paths.inputs)
        if inputs:
            self.namespace["image_path"] = inputs[0].path

    def run(self, code: str) -> dict[str, Any]:
        """Run one block; the reply for the broker, without its id."""
        self._round += 1
        self._paths.start_run()
        before = dict(self._files())
        named_before = self.namespace.get("processed_path")
        printed = Printed(max(_KEPT_PRINTED, 4 * self._limits["stdout_chars"]))
        repaired = repair.repair_syntax(code, self._paths.enabled)
        error = self._execute(repaired.code, printed)
        text = self._paths.virtual(printed.finish())
        images: list[dict[str, Any]] = []
        cut = False
        try:
            changed = {path for path, state in self._files() if before.get(path) != state}
            named = self._named(text, named_before, changed)
            images, cut = self._collect([*named, *(path for path in self._hooks.finish() if path not in named)])
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

    def _execute(self, code: str, printed: Printed) -> dict[str, Any] | None:
        filename = f"<code {self._round}>"
        linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
        streams = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = printed.stream
        try:
            exec(self._hooks.prepare(code, filename, self.namespace), self.namespace)
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
            line, message, source = error.lineno, str(error.msg), error.text or ""
        else:
            line, message = _last_line(error, filename), _message(error)
            source = linecache.getline(filename, line) if line else ""
        kind = "cv2.error" if type(error).__module__ == "cv2" else type(error).__name__
        if isinstance(error, MemoryError) or (kind == "cv2.error" and "Insufficient memory" in message):
            kind, message = "MemoryLimit", message or f"more than {self._limits['memory_mb']} MiB were asked for"
        message = self._paths.virtual(clean(message[: 4 * _MESSAGE_CHARS]))
        message = clean(self._hooks.explain(error, message, clean(source), self.namespace)).strip()
        return {"type": clean(kind)[:100] or "Error", "message": message[:_MESSAGE_CHARS], "line": line}

    def _files(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
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
                    found = entry.stat(follow_symlinks=False)
                    yield path, (found.st_ino, found.st_size, found.st_mtime_ns)

    def _named(self, text: str, named_before: Any, changed: set[str]) -> list[str]:
        """Files whose paths were printed, in that order, then those in ``processed_path``."""
        found: list[tuple[int, str]] = []
        present = [path for path, _ in self._files() if path.isprintable()]
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
            if path in present and path not in result and (path in changed or named is not named_before):
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

    def _collect(self, named: list[str]) -> tuple[list[dict[str, Any]], bool]:
        """Decode the named files into the shared memory; what they are, and whether some were left out."""
        images: list[dict[str, Any]] = []
        offset, total, cut = 0, 0, False
        for path in named:
            try:
                picture = _decode(self._paths.real(path), self._limits["max_image_pixels"])
            except _TooLargeError:
                cut = True
                continue
            if picture is None:
                continue
            total += picture.width * picture.height
            data = picture.tobytes()
            too_many = len(images) >= self._limits["max_images"] or total > self._limits["max_total_pixels"]
            if too_many or offset + len(data) > len(self._pixels):
                cut = True
                break
            self._pixels[offset : offset + len(data)] = data
            images.append(
                {
                    "name": clean(path),
                    "mode": picture.mode,
                    "width": picture.width,
                    "height": picture.height,
                    "offset": offset,
                }
            )
            offset += len(data)
        return images, cut


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


class _TooLargeError(Exception):
    """A picture has more pixels than may come back."""


def _decode(path: str, most_pixels: int) -> Any:
    """The picture in a file, in a mode that goes back; None where there is none."""
    from PIL import Image

    try:
        with _open(path, "rb") as file, Image.open(file) as picture:
            if picture.width * picture.height > most_pixels:
                raise _TooLargeError
            picture.load()
            return _plain(picture)
    except _TooLargeError:
        raise
    except Exception:  # any decoder may fail in any way on a damaged file; then it is no picture
        return None


def _plain(picture: Any) -> Any:
    """The picture as L, RGB or RGBA."""
    if picture.mode in CHANNELS:
        return picture.copy()
    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value / 256).convert("L")
    if picture.mode in {"1", "I", "F"}:
        return picture.convert("L")
    transparent = picture.mode in {"LA", "PA", "La", "RGBa"} or "transparency" in picture.info
    return picture.convert("RGBA" if transparent else "RGB")


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
