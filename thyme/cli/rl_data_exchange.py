"""``thyme rl-data export`` and ``import``: questions about large images, for training and for other tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thyme.cli import options
from thyme.cli.studio import DatabaseUrl
from thyme.errors import MissingExtraError, UsageError
from thyme.view.terminal import clean

if TYPE_CHECKING:
    from thyme.config.annotation import AnnotationSettings
    from thyme.data.annotation.export import Export, Summary
    from thyme.data.annotation.left_out import Taken
    from thyme.data.annotation.records import Annotation, State
    from thyme.data.collect.folder import Collection

Format = Literal["problems", "thyme-rl", "label-studio", "coco", "jsonl"]
Foreign = Literal["label-studio", "coco", "jsonl"]

_WORDS = {
    "added": "questions that wait for a second person",
    "drafts": "drafts",
    "known": "that were there already",
    "no_image": "about images that the studio does not have",
}
"""What the studio counts."""
_SHOWN = 10
"""Things left out that are printed one by one."""

Folders = Annotated[
    list[Path], typer.Argument(metavar="COLLECTION...", help="Folders that `thyme studio serve` was given.")
]
FormatName = Annotated[
    Format,
    typer.Option(
        help="problems: JSON lines and images, for thyme grpo and thyme eval; thyme-rl: Parquet in the published "
        "schema, for both too; label-studio, coco: for those tools; jsonl: everything that is known."
    ),
]
StateNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STATE",
        help="Questions in this state: draft, submitted, disputed, checked, accepted, rejected, or all. Repeatable.",
        show_default="accepted",
    ),
]
Files = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="JSON lines of annotations in place of the studio's database. Repeatable."),
]
CopyImages = Annotated[
    bool, typer.Option("--images/--no-images", help="Copy the images, too; problems always have theirs.")
]
ImageRoot = Annotated[
    str, typer.Option(metavar="TEXT", help="Before images' paths in label-studio and coco: /data/local-files/?d=")
]


def export(
    collections: Folders,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder that is made.")],
    format: FormatName = "problems",
    state: StateNames = None,
    annotations: Files = None,
    database: DatabaseUrl = None,
    names: Annotated[bool, typer.Option("--names", help="Keep people's names; else they are person-1, ...")] = False,
    copy_images: CopyImages = True,
    image_root: ImageRoot = "",
    title: Annotated[str, typer.Option(help="Of the datasheet: what the set is called.")] = "",
    purpose: Annotated[str, typer.Option(help="Of the datasheet: why it was made, and by whom.")] = "",
    licence: Annotated[str, typer.Option(help="Of the datasheet: of questions, answers and boxes.")] = "",
    contact: Annotated[str, typer.Option(help="Of the datasheet: whom to ask.")] = "",
    as_json: options.Json = False,
) -> None:
    """Write what people asked: for training, for evaluation, for other tools; with a datasheet.

    Exit code 1 where nothing is left to write.

    Example: thyme rl-data export photos --to rl/photos --format problems
    """
    from thyme.data.annotation.datasheet import Sheet
    from thyme.data.annotation.export import Export
    from thyme.data.annotation.formats import FormatOptions

    states = _states(state or ["accepted"])
    sources = _of_files(collections, annotations) if annotations else _of_studio(collections, database)
    summary = _run(
        Export(
            to=to,
            format=format,
            sources=sources,
            states=states,
            names=names,
            options=FormatOptions(copy_images=copy_images, root=image_root),
            sheet=Sheet(title=title, purpose=purpose, licence=licence, contact=contact),
        )
    )
    if as_json:
        typer.echo(summary.model_dump_json())
    else:
        _tell(summary, to)
    if not summary.written:
        raise typer.Exit(1)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What another tool exported, or JSON lines.")],
    collection: Annotated[Path, typer.Argument(metavar="COLLECTION", help="Whose images it is about.")],
    format: Annotated[Foreign, typer.Option(help="What the file is.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JSON lines there, and leave the studio alone.")
    ] = None,
    author: Annotated[str, typer.Option(metavar="NAME", help="Who asked, where the file does not say.")] = "import",
    control: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=NAME",
            help="Label Studio's control for question, answer, answer_type, choices or hidden_when_small.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A rule that questions must meet: max_share=0.1, … Repeatable."
        ),
    ] = None,
    database: DatabaseUrl = None,
    as_json: options.Json = False,
) -> None:
    """Take questions or boxes that were made elsewhere into the studio; what breaks a rule becomes a draft.

    In the studio each is answered and judged anew; --out keeps what was said of it.

    A file may be imported again: what is there stays as it is. Exit code 1 where nothing of the file could be taken.

    Example: thyme rl-data import project-1.json photos --format label-studio
    """
    from thyme.config.annotation import AnnotationSettings
    from thyme.config.load import overridden
    from thyme.data.annotation.exchange import settled
    from thyme.data.collect.folder import open_collection

    rules = overridden(AnnotationSettings(), settings or [])
    opened = open_collection(collection)
    taken = _read(file, format, opened, _controls(control or []))
    found = taken.annotations
    if out is not None:
        counts = _write_lines(out, [settled(annotation, rules) for annotation in found])
    else:
        counts = _store(collection, opened.name, found, author, rules, database)
    _tell_taken(taken, counts, as_json=as_json)
    if not found:
        raise typer.Exit(1)


def _states(names: Sequence[str]) -> frozenset[State]:
    from thyme.data.annotation.records import STATES

    if unknown := sorted(set(names) - {*STATES, "all"}):
        raise UsageError(f"--state {unknown[0]}: there are {', '.join(STATES)}, and all")
    return frozenset(one for one in STATES if one in names or "all" in names)


def _run(told: Export) -> Summary:
    from rich.console import Console
    from rich.progress import Progress

    from thyme.data.annotation.export import run_export

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return run_export(told)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(told.format, total=sum(len(asked) for _, asked in told.sources))
        return run_export(told, lambda written, left: bar.update(task, completed=written + left))


def _of_files(folders: Sequence[Path], files: Sequence[Path]) -> list[tuple[Collection, Sequence[Annotation]]]:
    """Collections, and the annotations of files that are about their images."""
    from thyme.data.annotation.lines import read_lines
    from thyme.data.annotation.pictures import Pictures
    from thyme.data.collect.folder import open_collection

    opened = [open_collection(folder) for folder in folders]
    pictures = Pictures(item for one in opened for item in one.items.values())
    asked: dict[str, Annotation] = {}
    for file in files:
        taken = read_lines(file, pictures)
        asked.update((annotation.id, annotation) for annotation in taken.annotations)
        for one in taken.left_out[:_SHOWN]:
            typer.echo(f"thyme: {file}: {clean(one.where)}: {clean(one.note)[:300]}", err=True)
    return [(one, [a for a in asked.values() if a.image.id in one.items]) for one in opened]


def _of_studio(folders: Sequence[Path], url: str | None) -> list[tuple[Collection, Sequence[Annotation]]]:
    from thyme.data.collect.folder import open_collection

    opened = [open_collection(folder) for folder in folders]
    with _database(folders[0], url, must_be=True) as database:
        part = _part("export")
        return [(one, list(part.annotations(database, one.name))) for one in opened]


@contextmanager
def _database(folder: Path, url: str | None, *, must_be: bool) -> Iterator[Any]:
    """The studio's database.

    Raises:
        UsageError: There is none yet, or what was asked of it cannot be.
    """
    try:
        from thyme.studio.database import Database, beside
        from thyme.studio.refusal import Refusal
    except ImportError as error:
        raise MissingExtraError("reading what was annotated in the studio", "studio") from error
    if must_be and url is None and not (folder / "studio.db").is_file():
        raise UsageError(
            f"{folder} has no studio.db, so nobody has asked anything here: run `thyme studio serve {folder}`, or name "
            "the database with --database, or a file with --annotations"
        )
    database = Database(url or beside(folder))
    try:
        yield database
    except Refusal as refusal:
        raise UsageError(f"{refusal.message}; did `thyme studio serve` take this collection in?") from refusal
    finally:
        database.close()


def _part(name: str) -> Any:
    from importlib import import_module

    return import_module(f"thyme.studio.annotation.{name}")


def _controls(given: Sequence[str]) -> dict[str, str]:
    from thyme.data.annotation.label_studio import NAMES

    pairs = [one.partition("=") for one in given]
    for field, _, name in pairs:
        if field not in NAMES or not name:
            raise UsageError(f"--control {field}={name}: write FIELD=NAME, with a field of {', '.join(NAMES)}")
    return {field: name for field, _, name in pairs}


def _read(file: Path, format: Foreign, collection: Collection, controls: dict[str, str]) -> Taken:
    from thyme.data.annotation.coco import from_coco
    from thyme.data.annotation.label_studio import from_tasks
    from thyme.data.annotation.lines import read_json, read_lines
    from thyme.data.annotation.pictures import Pictures

    pictures = Pictures(collection.items.values())
    if format == "jsonl":
        return read_lines(file, pictures)
    read = read_json(file)
    return from_coco(read, pictures) if format == "coco" else from_tasks(read, pictures, controls)


def _write_lines(out: Path, found: Sequence[Annotation]) -> dict[str, int]:
    from collections import Counter

    from thyme.store import write_text

    write_text(out, "".join(one.model_dump_json() + "\n" for one in found))
    return dict(Counter(one.state for one in found))


def _store(
    folder: Path, name: str, found: Sequence[Annotation], author: str, rules: AnnotationSettings, url: str | None
) -> dict[str, int]:
    """Into the studio's database: each question is answered and judged there anew."""
    with _database(folder, url, must_be=False) as database:
        part = _part("collections")
        part.import_images(database, part.Collections([folder]), name)
        named = (one if one.author else one.model_copy(update={"author": author}) for one in found)
        counts: dict[str, int] = _part("imports").take_annotations(database, name, named, rules)
    return {_WORDS[outcome]: count for outcome, count in counts.items() if count}


def _tell(summary: Summary, to: Path) -> None:
    from thyme.data.annotation.export import DATASHEET, REASONS, REPORT
    from thyme.data.annotation.left_out import NOT_ASKED

    typer.echo(f"{summary.written} questions about {summary.images} images in {to} ({summary.format})")
    typer.echo(f"what the set holds: {to / DATASHEET}")
    for reason, count in summary.reasons.items():
        typer.echo(f"left out {count}: {REASONS.get(reason, reason)} ({reason})")
    if summary.left_out:
        typer.echo(f"which, and why, stands in {to / REPORT}")
    if not summary.written and set(summary.reasons) == {NOT_ASKED}:
        typer.echo(
            "thyme: no question is in a state that was asked for: `thyme studio progress` says who has to do what, "
            "--state what else to write",
            err=True,
        )


def _tell_taken(taken: Taken, counts: dict[str, int], *, as_json: bool) -> None:
    from collections import Counter

    from thyme.data.annotation.left_out import MEANINGS

    reasons = Counter(one.reason for one in taken.left_out)
    if as_json:
        left = [(one.where, one.reason, one.note) for one in taken.left_out]
        found = {"taken": counts, "unchecked": taken.unchecked, "reasons": reasons, "left_out": left}
        typer.echo(json.dumps(found))
        return
    typer.echo(", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing was taken")
    if taken.unchecked:
        typer.echo(f"{taken.unchecked} were changed since they were exported: their checks hold no longer")
    for reason, count in reasons.most_common():
        typer.echo(f"left out {count}: {MEANINGS.get(reason, reason)} ({reason})")
    for one in taken.left_out[:_SHOWN]:
        typer.echo(f"  {clean(one.where)}: {clean(one.note)[:300]}")
