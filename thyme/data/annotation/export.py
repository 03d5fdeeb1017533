"""Write what people asked in a format that is trained on, or that other tools read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import Field

from thyme.data.annotation.datasheet import Sheet, datasheet
from thyme.data.annotation.formats import DAMAGED, FORMATS, OPENERS, FormatOptions, Writer
from thyme.data.annotation.left_out import MEANINGS, NO_BOX, NO_PICTURE, NOT_ASKED, LeftOut
from thyme.data.annotation.people import Pseudonyms
from thyme.data.annotation.problems import what_lacks
from thyme.data.annotation.records import Annotation, State
from thyme.data.collect.folder import Collection, image_file
from thyme.data.collect.records import Collected
from thyme.data.folders import new_folder
from thyme.errors import EncodeError, UsageError
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
    options: FormatOptions = field(default_factory=FormatOptions)
    """Of formats that name pictures."""
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
    with new_folder(export.to) as begun:
        summary = _write(export, begun, progress or (lambda written, left: None))
        (begun / REPORT).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return summary


def _write(export: Export, folder: Path, progress: Callable[[int, int], None]) -> Summary:
    writer = OPENERS[export.format](folder, replace(export.options, title=export.sheet.title))
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
