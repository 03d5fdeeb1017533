"""The formats of an export: each writes its files into an empty folder, question after question."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from thyme.data.annotation.coco import to_coco
from thyme.data.annotation.label_studio import CONFIG, to_tasks
from thyme.data.annotation.left_out import LeftOut
from thyme.data.annotation.lines import write_lines
from thyme.data.annotation.problems import ProblemLines, to_problem
from thyme.data.annotation.records import Annotation
from thyme.data.folders import picture_path, put_picture
from thyme.errors import EncodeError, ImageError
from thyme.images import measure
from thyme.types import ImageRecord

TASKS, INTERFACE = "tasks.json", "labelling_interface.xml"
OBJECTS: Final = "annotations.json"
LINES: Final = "annotations.jsonl"
DAMAGED: Final = "image_damaged"
"""A picture is missing, damaged, or of another size than is known."""

Question = tuple[Annotation, Path]
"""An annotation, and the file of its picture."""


@dataclass(frozen=True)
class FormatOptions:
    """What may be asked of formats that name pictures."""

    copy_images: bool = True
    """Whether pictures are copied beside what names them; problems always have theirs."""
    root: str = ""
    """What stands before the path of a picture, such as ``/data/local-files/?d=``."""
    title: str = ""
    """What the set is called."""


class Writer(Protocol):
    """Writes one format into an empty folder."""

    problems: bool
    """Whether it holds whole problems only."""

    def add(self, question: Question) -> None:
        """Write an annotation.

        Raises:
            EncodeError: The format cannot hold it; `reason` is one of `thyme.data.annotation.export.REASONS`.
        """

    def close(self) -> list[LeftOut]:
        """Finish the files.

        Returns:
            What turned out to have no place in them.
        """


def read_file(image: ImageRecord, file: Path) -> bytes:
    """The file of a picture, looked at without decoding it.

    Raises:
        EncodeError: It is missing, damaged, or of another size.
    """
    try:
        data = file.read_bytes()
        size = measure(data, label=file.name, max_pixels=image.width * image.height)
    except (OSError, ImageError) as error:
        raise EncodeError(f"{file.name}: {error}", reason=DAMAGED) from error
    if size != image.size:
        raise EncodeError(f"{file.name} has {size[0]} x {size[1]} pixels, not {image.size}", reason=DAMAGED)
    return data


def _copied(folder: Path, image: ImageRecord, file: Path) -> str:
    """Copy a picture into a folder, once; gives its path there."""
    return put_picture(folder, image.id, image.format, lambda: read_file(image, file))


class _Problems:
    problems = True

    def __init__(self, folder: Path, options: FormatOptions) -> None:
        self._folder, self._lines = folder, ProblemLines(folder)

    def add(self, question: Question) -> None:
        annotation, file = question
        path = _copied(self._folder, annotation.image, file)
        self._lines.add(to_problem(annotation, annotation.image), [path])

    def close(self) -> list[LeftOut]:
        self._lines.close()
        return []


class _Published:
    problems = True

    def __init__(self, folder: Path, options: FormatOptions) -> None:
        from thyme.data.published_problems import ProblemShards

        self._shards = ProblemShards(folder)

    def add(self, question: Question) -> None:
        annotation, file = question
        problem = to_problem(annotation, annotation.image.with_file(read_file(annotation.image, file)))
        self._shards.add(problem)

    def close(self) -> list[LeftOut]:
        self._shards.close()
        return []


class _Kept:
    """Of formats that are one JSON value: everything is written at the end."""

    problems = False

    def __init__(self, folder: Path, options: FormatOptions) -> None:
        self.folder, self.options = folder, options
        self.annotations: list[Annotation] = []

    def add(self, question: Question) -> None:
        annotation, file = question
        if self.options.copy_images:
            _copied(self.folder, annotation.image, file)
        self.annotations.append(annotation)

    def path(self, annotation: Annotation) -> str:
        """What names the picture of an annotation."""
        return self.options.root + picture_path(annotation.image.id, annotation.image.format)

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        self.put(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")

    def put(self, name: str, text: str) -> None:
        """Write a file; the folder is put in place whole, so that this need not be."""
        (self.folder / name).write_text(text, encoding="utf-8")


class _LabelStudio(_Kept):
    def close(self) -> list[LeftOut]:
        self.write(TASKS, to_tasks(self.annotations, self.path))
        self.put(INTERFACE, CONFIG)
        return []


class _Coco(_Kept):
    def close(self) -> list[LeftOut]:
        value, left = to_coco(self.annotations, self.path, self.options.title)
        self.write(OBJECTS, value)
        return left


class _Lines(_Kept):
    def close(self) -> list[LeftOut]:
        write_lines(self.folder / LINES, self.annotations)
        return []


OPENERS: Final[dict[str, Callable[[Path, FormatOptions], Writer]]] = {
    "problems": _Problems,
    "thyme-rl": _Published,
    "label-studio": _LabelStudio,
    "coco": _Coco,
    "jsonl": _Lines,
}
FORMATS: Final = tuple(OPENERS)
"""Names of the formats."""
