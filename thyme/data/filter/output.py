"""Write what is kept, in the forms that ``thyme grpo`` reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from thyme.data.annotation.problems import ProblemLines
from thyme.data.filter.records import Seen
from thyme.data.folders import put_picture
from thyme.data.published_problems import ProblemShards, image_file
from thyme.store import bytes_in, unwritten
from thyme.types import ImageRecord, Problem

FOLDER: Final = "problems"
"""Of what is kept."""
_UNFINISHED: Final = ".problems.unfinished"

Line = Callable[[Seen], None]
"""Writes a line of a file."""


class Writer(Protocol):
    """Writes one format."""

    def add(self, problem: Problem) -> None:
        """Write a problem.

        Raises:
            EncodeError: The format cannot hold it.
            OSError: The disk is full.
        """

    def close(self) -> None:
        """Finish the files."""


class ProblemFiles:
    """JSON lines of problems; pictures once each under ``images/``, named by their content."""

    def __init__(self, folder: Path) -> None:
        """Begin in an empty folder."""
        self._folder, self._lines = folder, ProblemLines(folder)

    def add(self, problem: Problem) -> None:
        """Write a problem; see `Writer`."""
        self._lines.add(problem, [self._image(image, problem.id) for image in problem.images])

    def _image(self, image: ImageRecord, id: str) -> str:
        format = image.format if image.encoded is not None else "PNG"
        return put_picture(self._folder, image.id, format, lambda: image_file(image, id))

    def close(self) -> None:
        """Finish the file."""
        self._lines.close()


FORMATS: Final[dict[str, Callable[[Path], Writer]]] = {"problems": ProblemFiles, "thyme-rl": ProblemShards}
"""By name, as `FilterRecipe.format` says it."""


@contextmanager
def replacing(out: Path, format: str) -> Iterator[Writer]:
    """A writer whose files take the place of ``OUT/problems`` when all are written; nothing does where one fails.

    Raises:
        StoreError: They cannot be written.
        MissingExtraError: A library of the extra ``data`` is not installed.
    """
    folder = out / _UNFINISHED
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        writer = FORMATS[format](folder)
        try:
            yield writer
        finally:
            writer.close()
        if (out / FOLDER).exists():
            shutil.rmtree(out / FOLDER)
        folder.rename(out / FOLDER)
    except OSError as error:
        raise unwritten(out / FOLDER, error, written=bytes_in(folder)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def finished(problem: Problem, seen: Seen) -> Problem:
    """The problem with what the filter found out of it."""
    told: dict[str, Any] = {**problem.meta, "category": seen.kind, "answer_type": seen.answer_type}
    if seen.pass_rate is not None:
        told["pass_rate"] = round(seen.pass_rate, 6)
    meta = {name: value for name, value in told.items() if value not in (None, "")}
    return problem.model_copy(update={"meta": meta})


@contextmanager
def lines(path: Path) -> Iterator[Line]:
    """Write rows to a file that takes its place when all are written.

    Raises:
        StoreError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with ExitStack() as held:
        held.callback(temporary.unlink, missing_ok=True)
        with _writing(path):
            file = held.enter_context(_closing(temporary.open("w", encoding="utf-8")))
        yield lambda seen: _write(path, file, seen)
        with _writing(path):
            file.close()
            temporary.replace(path)


@contextmanager
def _closing(file: TextIO) -> Iterator[TextIO]:
    try:
        yield file
    finally:
        with suppress(OSError):  # there was no room for its end, which was told
            file.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the system are of this file."""
    try:
        yield
    except OSError as error:
        raise unwritten(path, error) from error


def _write(path: Path, file: TextIO, seen: Seen) -> None:
    with _writing(path):
        file.write(seen.model_dump_json(exclude_defaults=True, exclude={"formats"}) + "\n")
