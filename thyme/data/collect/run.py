"""Make a collection of a folder of pictures, or go on with one.

A file has its outcome when its line is in ``items.jsonl`` or ``rejected.jsonl``; what was written for it until then
lies in a folder that the next run deletes. So a run may be killed at any time, and the same command goes on.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from thyme.config.annotation import CollectSettings
from thyme.data.collect import crew, reasons
from thyme.data.collect.folder import (
    ITEMS,
    REJECTED,
    CollectionFile,
    image_file,
    read_collection_file,
    read_items,
    read_rejected,
    tiles_folder,
)
from thyme.data.collect.listing import Found, listing
from thyme.data.collect.records import COLLECTION, Collected, Refused
from thyme.data.collect.sidecar import Sidecar
from thyme.data.collect.work import PICTURE, TILES, Job
from thyme.data.folders import alone
from thyme.data.hashes import Neighbours, distance
from thyme.errors import UsageError
from thyme.store import append_line, unwritten, write_text
from thyme.types import EXTENSIONS

WORK: Final = ".work"
"""Folder of what is not yet taken."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a collection holds when a run ends."""

    files: int
    """That were looked at, in all runs."""
    taken: int
    rejected: dict[str, int]
    """Files by reason, the most frequent first."""
    others: dict[str, int] = field(default_factory=dict)
    """Files that were passed over as their endings are of no picture: by ending, the most frequent first."""


OnProgress = Callable[[int, int, int], None]
"""Takes how many files have their outcome, of how many, and how many were taken."""


def collect(
    folder: Path,
    out: Path,
    settings: CollectSettings,
    *,
    sidecar: Sidecar | None = None,
    processes: int | None = None,
    on_progress: OnProgress = lambda done, files, taken: None,
) -> Summary:
    """Take the large pictures of a folder into a collection.

    Files that have their outcome are left alone, except those that could not be read, which are tried again.

    Args:
        folder: Looked through at any depth.
        out: Of the collection; new, or one of the same folder and settings.
        settings: What is taken.
        sidecar: What is known of the files.
        processes: That work at once; one for each core if None.
        on_progress: Hears of progress.

    Raises:
        UsageError: There is no such folder, or no picture in it; the collection is another's, or somebody is at it.
        StoreError: Something cannot be read or written.
        MissingExtraError: `imagehash` or `isal` is not installed.
    """
    _require_libraries()
    _check_apart(folder, out)
    others: Counter[str] = Counter()
    files = listing(folder, others)
    if not files:
        passed = f" ({others.total()} files have other endings)" if others else ""
        raise UsageError(f"{folder} holds no pictures{passed}; name the folder that does")
    try:
        with alone(out):
            about = CollectionFile(
                folder=folder.resolve().name, settings=settings, sidecar="" if sidecar is None else sidecar.fingerprint
            )
            _check_same(out, about)
            made = _collected(files, out, settings, sidecar or Sidecar({}), processes or crew.cores(), on_progress)
            return replace(made, others=dict(others.most_common()))
    except OSError as error:
        raise unwritten(Path(error.filename) if isinstance(error.filename, str) else out, error) from error


def _require_libraries() -> None:
    """Say before any work that something is not installed."""
    from PIL import Image

    from thyme.data.factory.png import encode
    from thyme.data.hashes import perceptual_hash
    from thyme.types import ImageRecord

    dot = Image.new("RGB", (1, 1))
    perceptual_hash(dot)
    encode(ImageRecord.of(dot))


def _check_apart(folder: Path, out: Path) -> None:
    one, other = folder.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UsageError(f"{out} and {folder} lie in each other; name a folder for --out that stands apart")


def _check_same(out: Path, about: CollectionFile) -> None:
    """Begin a collection, or see that this one was begun in the same way."""
    before = read_collection_file(out)
    if before is None:
        write_text(out / COLLECTION, about.model_dump_json(indent=2) + "\n")
        return
    asked, made = about.settings.model_dump(), before.settings.model_dump()
    changes = [f"{name} {made[name]!r}, now {asked[name]!r}" for name in asked if asked[name] != made[name]]
    changes += ["folder " + repr(before.folder)] if about.folder != before.folder else []
    changes += ["another sidecar"] if about.sidecar != before.sidecar else []
    if changes:
        raise UsageError(f"{out} was begun with {'; '.join(changes)}; ask for the same, or name another folder")


def _collected(
    files: list[Found], out: Path, settings: CollectSettings, sidecar: Sidecar, processes: int, on_progress: OnProgress
) -> Summary:
    shutil.rmtree(out / WORK, ignore_errors=True)
    book = _Book(out, settings)
    jobs = (
        Job(found.name, found.path, out / WORK / str(place), settings, sidecar.of(found.name))
        for place, found in enumerate(files)
        if found.name not in book.known and not book.refuse_unseen(found)
    )
    on_progress(len(book.known), len(files), book.taken)
    for job, result in crew.results(jobs, processes):
        book.enter(job, result)
        on_progress(len(book.known), len(files), book.taken)
    shutil.rmtree(out / WORK, ignore_errors=True)
    return book.summary()


class _Book:
    """Outcomes of files, on disk and as far as the next ones depend on them."""

    def __init__(self, out: Path, settings: CollectSettings) -> None:
        self._out, self._near = out, settings.near
        for name in (ITEMS, REJECTED):
            _trim(out / name)
        rejected = list(read_rejected(out))
        if any(one.reason in reasons.AGAIN for one in rejected):
            rejected = [one for one in rejected if one.reason not in reasons.AGAIN]
            write_text(out / REJECTED, "".join(f"{one.model_dump_json()}\n" for one in rejected))
        self._reasons = Counter(one.reason for one in rejected)
        self.known = {one.file for one in rejected}
        """Files that have their outcome."""
        self._originals: dict[str, str] = {}
        self._neighbours = Neighbours(max(0, self._near))
        self._order: list[tuple[str, int]] = []
        for item in read_items(out):
            self._remember(item)

    @property
    def taken(self) -> int:
        """Pictures of the collection."""
        return len(self._originals)

    def refuse_unseen(self, found: Found) -> bool:
        """Refuse a file that is not even opened; gives whether it is one."""
        if found.trouble:
            self._refuse(Refused(file=found.name, reason=reasons.UNREADABLE, detail=found.trouble))
        elif found.outside:
            self._refuse(Refused(file=found.name, reason=reasons.LINK))
        return bool(found.trouble) or found.outside

    def enter(self, job: Job, result: Collected | Refused) -> None:
        """Note an outcome, and put what was written in place."""
        refused = result if isinstance(result, Refused) else self._like_another(result)
        if refused is not None:
            self._refuse(refused)
        elif isinstance(result, Collected):
            self._place(job, result)
            append_line(self._out / ITEMS, result.model_dump_json().encode() + b"\n")
            self._remember(result)
        shutil.rmtree(job.staging, ignore_errors=True)

    def summary(self) -> Summary:
        """What there is."""
        return Summary(len(self.known), self.taken, dict(self._reasons.most_common()))

    def _refuse(self, refused: Refused) -> None:
        append_line(self._out / REJECTED, refused.model_dump_json().encode() + b"\n")
        self._reasons[refused.reason] += 1
        self.known.add(refused.file)

    def _remember(self, item: Collected) -> None:
        self.known.add(item.original)
        self._originals[item.id] = item.original
        value = int(item.phash, 16)
        self._neighbours.add(value)
        self._order.append((item.original, value))

    def _like_another(self, item: Collected) -> Refused | None:
        if item.id in self._originals:
            return Refused(file=item.original, reason=reasons.SAME, detail=f"as {self._originals[item.id]}")
        value = int(item.phash, 16)
        place = self._neighbours.find(value) if self._near >= 0 else None
        if place is None:
            return None
        other, hashed = self._order[place]
        bits = distance(hashed, value)
        return Refused(file=item.original, reason=reasons.NEAR, detail=f"like {other}: {bits} of 64 bits differ")

    def _place(self, job: Job, item: Collected) -> None:
        """Move picture and tiles to where they belong; a run that was killed may have left some there."""
        picture, tiles = image_file(self._out, item), tiles_folder(self._out, item.id)
        for target in (picture, tiles):
            target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(tiles, ignore_errors=True)
        (job.staging / TILES).rename(tiles)
        (job.staging / f"{PICTURE}.{EXTENSIONS[item.format]}").replace(picture)


def _trim(path: Path) -> None:
    """Drop a last line that was cut off."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        whole = sum(map(len, (line for line in file if line.endswith(b"\n"))))
        file.truncate(whole)
