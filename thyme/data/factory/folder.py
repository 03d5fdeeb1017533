"""The folder of a build: where everything lies, and how records are read from it.

::

    OUT/build.json              recipe, seed, versions, counts, state (`thyme.data.factory.manifest`)
    OUT/draw/CHUNK.json         what was drawn for a chunk, with the perceptual hashes of the pictures
    OUT/journal/CHUNK.jsonl     outcomes of a chunk that is not finished, one line each, in the order of finishing
    OUT/records/CHUNK.parquet   accepted records of a finished chunk, in the order of the draw
    OUT/rejected/CHUNK.parquet  the others
    OUT/images/xx/HASH.EXT      every picture once, by content (`thyme.types.image_id`)
    OUT/answers/                what teachers and checks said, by request

Item i of a build belongs to chunk ``i // recipe.chunk``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, overload

from thyme.data.drafts import Costs, Draft, Rejection
from thyme.data.factory import png
from thyme.data.factory.journal import Outcome, outcomes
from thyme.data.factory.shard import count_rows, read_shard
from thyme.data.folders import picture_path
from thyme.errors import StoreError, UsageError
from thyme.store import map_images, map_segments, read_image, write_image
from thyme.types import Execution, ImageRecord, Observation, Problem, Segment, Timings, Trajectory

BUILD = "build.json"
DRAW, JOURNAL, RECORDS, REJECTED = "draw", "journal", "records", "rejected"

_INDEX = re.compile(r"-(\d+)-[^-]+$")


def chunk_file(out: Path, kind: str, chunk: int) -> Path:
    """Where a file of a chunk lies.

    Args:
        out: Folder of the build.
        kind: ``draw``, ``journal``, ``records`` or ``rejected``.
        chunk: Its number.
    """
    ending = {DRAW: "json", JOURNAL: "jsonl"}.get(kind, "parquet")
    return out / kind / f"{chunk:06d}.{ending}"


def image_file(out: Path, image: ImageRecord) -> Path:
    """Where a picture lies.

    Raises:
        StoreError: Its name or format is none of a stored one.
    """
    return out / picture_path(image.id, image.format)


def finished(out: Path, chunk: int) -> bool:
    """Whether every record of a chunk has its outcome, in shards; the rejected are written first."""
    return chunk_file(out, RECORDS, chunk).exists()


def finished_chunks(out: Path) -> list[int]:
    """Numbers of the chunks that are finished."""
    return sorted(int(path.stem) for path in (out / RECORDS).glob("[0-9]*.parquet"))


def open_chunks(out: Path) -> list[int]:
    """Numbers of the chunks that have outcomes, but not of all their records."""
    return [
        int(path.stem) for path in sorted((out / JOURNAL).glob("[0-9]*.jsonl")) if not finished(out, int(path.stem))
    ]


@overload
def read_records(out: Path, *, images: bool = True, rejected: Literal[False] = False) -> Iterator[Draft]: ...


@overload
def read_records(out: Path, *, images: bool = True, rejected: Literal[True]) -> Iterator[Rejection]: ...


@overload
def read_records(out: Path, *, images: bool = True, rejected: bool) -> Iterator[Draft | Rejection]: ...


def read_records(out: Path, *, images: bool = True, rejected: bool = False) -> Iterator[Draft | Rejection]:
    """Records of a build, finished or not, one at a time: first those of finished chunks, in the order of the draw.

    Args:
        out: Folder of the build.
        images: Whether to load the pixels of what was asked and made. Those of `Draft.origin` are there only where they
            are the same.
        rejected: Whether the rejections are wanted instead of the accepted.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing or damaged.
    """
    for outcome in read_outcomes(out, rejected=rejected):
        record = outcome.record()
        yield load(out, record) if images else record


def read_outcomes(out: Path, *, rejected: bool = False) -> Iterator[Outcome]:
    """As `read_records`, the records not yet parsed."""
    require_build(out)
    for chunk in finished_chunks(out):
        yield from read_shard(chunk_file(out, REJECTED if rejected else RECORDS, chunk), kept=not rejected)
    for chunk in open_chunks(out):
        found = outcomes(chunk_file(out, JOURNAL, chunk))
        yield from (one for _, one in sorted(found.items()) if one.kept is not rejected)


def find_record(out: Path, id: str, *, images: bool = True) -> Draft | Rejection | None:
    """A record by its id; None where it has no outcome yet, or there is no such record. It reads one chunk.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing or damaged.
    """
    match = _INDEX.search(id)
    if match is None:
        require_build(out)
        return None
    record = find_item(out, int(match[1]))
    if record is None or record.id != id:
        return None
    return load(out, record) if images else record


def find_item(out: Path, index: int) -> Draft | Rejection | None:
    """A record by its place in the draw, without its pixels; None where it has no outcome yet.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is missing or damaged.
    """
    found = (one for one in _chunk_outcomes(out, index // chunk_size(out)) if one.index == index)
    outcome = next(found, None)
    return None if outcome is None else outcome.record()


def _chunk_outcomes(out: Path, chunk: int) -> Iterator[Outcome]:
    if finished(out, chunk):
        for kind in (RECORDS, REJECTED):
            yield from read_shard(chunk_file(out, kind, chunk), kept=kind == RECORDS)
    else:
        yield from outcomes(chunk_file(out, JOURNAL, chunk)).values()


def count_records(out: Path) -> tuple[int, int]:
    """How many records were accepted and rejected so far; no record is read.

    Raises:
        UsageError: There is no build in the folder.
        StoreError: A file is damaged.
    """
    require_build(out)
    kept, dropped = (
        sum(count_rows(chunk_file(out, kind, chunk)) for chunk in finished_chunks(out)) for kind in (RECORDS, REJECTED)
    )
    for chunk in open_chunks(out):
        found = [outcome.kept for outcome in outcomes(chunk_file(out, JOURNAL, chunk)).values()]
        kept, dropped = kept + sum(found), dropped + len(found) - sum(found)
    return kept, dropped


def require_build(out: Path) -> None:
    """Raise where a folder holds no build.

    Raises:
        UsageError: It holds none.
    """
    if not (out / BUILD).is_file():
        raise UsageError(f"{out} holds no build ({BUILD} is missing); name the --out of a `thyme data build`")


def chunk_size(out: Path) -> int:
    """Records of a chunk of the build in a folder.

    Raises:
        UsageError: There is none.
        StoreError: What is said of it is damaged.
    """
    require_build(out)
    try:
        return int(json.loads((out / BUILD).read_bytes())["recipe"]["chunk"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{out / BUILD} is damaged ({error}); restore it") from error


def stored(out: Path, record: Draft | Rejection) -> Draft | Rejection:
    """Write the pictures of a record that are not there yet; gives the record as it is to be stored.

    The picture that was read is not kept beside the one that was made of it.

    Raises:
        StoreError: A picture cannot be stored.
    """
    formats: dict[tuple[str, str], str] = {}
    """Of those that are written, as they were given: a picture stands in a record under several names."""

    def write(image: ImageRecord) -> ImageRecord:
        key = (image.id, image.format)
        if key not in formats:
            encode = png.encode if png.can_encode(image) else None
            formats[key] = write_image(image, lambda placed: image_file(out, placed), encode).format
        return image if image.format == formats[key] else image.model_copy(update={"format": formats[key]})

    return mapped(record, write)


def load(out: Path, record: Draft | Rejection) -> Draft | Rejection:
    """The same record with its pixels, checked against their names.

    Raises:
        StoreError: A picture is missing or is not the one that was stored.
    """
    return mapped(record, lambda image: read_image(image_file(out, image), image))


def mapped(record: Draft | Rejection, change: Callable[[ImageRecord], ImageRecord]) -> Draft | Rejection:
    """A record with each of its pictures replaced by what `change` makes of it, once for each.

    A picture of `Draft.origin` is replaced only where it is one of the problem's, too.
    """
    if isinstance(record, Rejection):
        return record.model_copy(update={"draft": mapped(record.draft, change)})
    known: dict[tuple[str, str, str], ImageRecord] = {}

    def changed(image: ImageRecord) -> ImageRecord:
        key = (image.id, image.format, image.name)
        if key not in known:
            known[key] = change(image)
        return known[key]

    asked = {(image.id, image.format) for image in record.problem.images}
    origin = tuple(changed(image) if (image.id, image.format) in asked else image for image in record.origin.images)
    update = {
        "problem": _with_images(record.problem, tuple(map(changed, record.problem.images))),
        "origin": _with_images(record.origin, origin),
        "segments": map_segments(record.segments, changed),
        "trajectory": None if record.trajectory is None else map_images(record.trajectory, changed),
    }
    return record.model_copy(update=update)


def _with_images(problem: Problem, images: tuple[ImageRecord, ...]) -> Problem:
    return problem.model_copy(update={"images": images})


def image_ids(record: Draft | Rejection) -> list[str]:
    """Names of the pictures that are stored with a record, in the order in which they are met, each once."""
    draft = record.draft if isinstance(record, Rejection) else record
    images = [*draft.problem.images, *_made(draft.segments)]
    if draft.trajectory is not None:
        asked, prompt = draft.trajectory.problem, draft.trajectory.prompt
        images += [*asked.images, *(seen.image for seen in prompt.images), *_made(draft.trajectory.segments)]
    return list(dict.fromkeys(image.id for image in images))


def _made(segments: Iterable[Segment]) -> Iterator[ImageRecord]:
    return (image for s in segments if isinstance(s, Observation) for image in s.execution.images)


def content(record: Draft | Rejection) -> str:
    """A record as JSON without what no two builds share: costs, and seconds."""
    if isinstance(record, Rejection):
        return record.model_copy(update={"draft": _timeless(record.draft)}).model_dump_json()
    return _timeless(record).model_dump_json()


def _timeless(draft: Draft) -> Draft:
    trajectory = draft.trajectory
    if trajectory is not None:
        trajectory = _timeless_trajectory(trajectory)
    segments = tuple(map(_timeless_segment, draft.segments))
    return draft.model_copy(update={"costs": Costs(), "segments": segments, "trajectory": trajectory})


def _timeless_trajectory(trajectory: Trajectory) -> Trajectory:
    segments = tuple(map(_timeless_segment, trajectory.segments))
    return trajectory.model_copy(update={"segments": segments, "timings": Timings()})


def _timeless_segment(segment: Segment) -> Segment:
    if not isinstance(segment, Observation):
        return segment
    execution: Execution = segment.execution.model_copy(update={"duration_s": 0.0})
    return segment.model_copy(update={"execution": execution})
