"""Write what people asked in a format that is trained on, or that other tools read."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Final

from pydantic import Field

from thyme.data.annotation.datasheet import Sheet, datasheet
from thyme.data.annotation.formats import DAMAGED, FORMATS, OPENERS, Told, Writer
from thyme.data.annotation.left_out import MEANINGS, NO_BOX, NO_PICTURE, NOT_ASKED, LeftOut
from thyme.data.annotation.people import Pseudonyms
from thyme.data.annotation.problems import what_lacks
from thyme.data.annotation.records import Annotation, State
from thyme.data.collect.folder import Collection, image_file
from thyme.data.collect.records import Collected
from thyme.errors import EncodeError, UsageError
from thyme.store import bytes_in, unwritten
from thyme.types import Record

REPORT: Final = "export.json"
"""Beside the rows: what was written, what was left out and why."""
DATASHEET: Final = "DATASHEET.md"

INCOMPLETE: Final = "incomplete"
REASONS: Final[dict[str, str]] = {
    INCOMPLETE: "lacks what a problem needs",
    DAMAGED: "its picture is missing, damaged, or of another size than is known",
    NOT_ASKED: MEANINGS[NOT_ASKED],
    NO_PICTURE: MEANINGS[NO_PICTURE],
    NO_BOX: MEANINGS[NO_BOX],
}
"""Why an annotation is not written, and what that means."""
_LISTED: Final = 1000
"""Annotations that were left out and are named one by one."""


@dataclass(frozen=True)
class Export:
    """What is written, and how."""

    to: Path
    """Folder that is made."""
    format: str
    """One of `FORMATS`."""
    sources: Sequence[tuple[Collection, Sequence[Annotation]]]
    """Collections with all that was asked about them."""
    states: frozenset[State] = frozenset({"accepted"})
    """Those that are written."""
    names: bool = False
    """Whether people keep their names; else they become ``person-1``, ``person-2``, ..."""
    told: Told = field(default_factory=Told)
    """What formats that name pictures are told."""
    sheet: Sheet = field(default_factory=Sheet)
    """What only the publisher knows."""


class Summary(Record):
    """What came of an export."""

    format: str
    written: int = 0
    images: int = 0
    """Pictures that they are about."""
    states: dict[str, int] = Field(default_factory=dict)
    """Of all that was asked."""
    categories: dict[str, int] = Field(default_factory=dict)
    """Of those written."""
    reasons: dict[str, int] = Field(default_factory=dict)
    """Left out, by reason."""
    left_out: tuple[tuple[str, str, str], ...] = ()
    """The first of them: id, reason, and what there is to say."""


def run_export(export: Export, progress: Callable[[int, int], None] | None = None) -> Summary:
    """Write a format, its datasheet, and what was left out and why.

    The folder is made whole or not at all.

    Args:
        export: What to write.
        progress: Called after each annotation with how many were written and left out.

    Raises:
        UsageError: The folder is in use, or there is no such format.
        StoreError: The folder cannot be written.
        MissingExtraError: Parquet without the extra ``data``.
    """
    if export.format not in FORMATS:
        raise UsageError(f"no format '{export.format}'; there are {', '.join(FORMATS)}")
    if export.to.exists() and (not export.to.is_dir() or any(export.to.iterdir())):
        raise UsageError(f"{export.to} is there already, and not empty; name another folder with --to")
    to = export.to.resolve()  # a name such as "." has no neighbour, and a link is not a folder that can be put in place
    if to == Path.cwd():
        raise UsageError(f"{export.to} is the folder that you are in, and a new one is made; name another with --to")
    begun = to.with_name(f".{to.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _held(begun):
            summary = _write(export, begun, progress or (lambda written, left: None))
            (begun / REPORT).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
            begun.replace(to)
    except OSError as error:
        raise unwritten(export.to, error, written=bytes_in(begun)) from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return summary


@contextmanager
def _held(begun: Path) -> Iterator[None]:
    """Make the folder, locked as long as it is written to; what killed exports to the same place left is deleted."""
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


def _write(export: Export, folder: Path, progress: Callable[[int, int], None]) -> Summary:
    writer = OPENERS[export.format](folder, replace(export.told, title=export.sheet.title))
    people = Pseudonyms(export.names)
    written: dict[str, Annotation] = {}
    left: list[LeftOut] = []
    states: Counter[str] = Counter()
    try:
        for annotation, item, collection in _each(export.sources):
            states[annotation.state] += 1
            annotation = people.of(annotation)
            try:
                _check(annotation, export.states, writer)
                writer.add((annotation, _picture(collection, item, annotation)))
                written[annotation.id] = annotation
            except EncodeError as error:
                left.append(LeftOut(annotation.id, error.reason, str(error)))
            progress(len(written), len(left))
    finally:
        late = writer.close()
    for one in late:
        written.pop(one.where)
        left.append(one)
    chosen = list(written.values())
    sheet = datasheet(export.sources, chosen, left, export.sheet)
    (folder / DATASHEET).write_text(sheet, encoding="utf-8")
    return Summary(
        format=export.format,
        written=len(chosen),
        images=len({annotation.image.id for annotation in chosen}),
        states=dict(states.most_common()),
        categories=dict(Counter(annotation.category for annotation in chosen).most_common()),
        reasons=dict(Counter(one.reason for one in left).most_common()),
        left_out=tuple((one.where, one.reason, one.note) for one in left if one.reason != NOT_ASKED)[:_LISTED],
    )


def _each(
    sources: Iterable[tuple[Collection, Iterable[Annotation]]],
) -> Iterator[tuple[Annotation, Collected | None, Collection]]:
    for collection, asked in sources:
        for annotation in asked:
            yield annotation, collection.items.get(annotation.image.id), collection


def _check(annotation: Annotation, states: frozenset[State], writer: Writer) -> None:
    if annotation.state not in states:
        raise EncodeError(annotation.state, reason=NOT_ASKED)
    if writer.problems and (lacks := what_lacks(annotation)):
        raise EncodeError(lacks, reason=INCOMPLETE)


def _picture(collection: Collection, item: Collected | None, annotation: Annotation) -> Path:
    if item is None:
        raise EncodeError(f"{collection.name} has no picture {annotation.image.id}", reason=NO_PICTURE)
    return image_file(collection.folder, item)
