"""Samples on disk: their lengths counted once and kept beside the run, each read and encoded when it is asked for.

Counting encodes every row as training will, without decoding images: sizes come from the records or from the files'
headers. What is counted lies in the run's folder, under a name that says of which data, tokenizer and settings it is.
A picture that is damaged in its middle is only seen when it is decoded; `IndexedSamples` then has another sample, not
longer, stand in for it, and says so: lengths, batches and packs stay as they were planned.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import secrets
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thyme.data.sources.lines import digest
from thyme.errors import EncodeError, StoreError
from thyme.families import Family
from thyme.train.data.rows import Rows, name_of, peek, print_of
from thyme.train.encode import Encoded, MaskPolicy, encode_item
from thyme.train.run.records import SourceReport
from thyme.types import ImageRecord

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised when counting or encoding changes, so that older counts are not taken for these."""
CHUNK = 500
"""Rows counted and written down together; an interrupted count goes on behind the last of them."""
_WORTH_PROCESSES = 4
"""Chunks from which on several processes count."""
_MAX_PROCESSES = 32
_STAND_INS = 0.01
"""Share of samples that may be found damaged at training time before it is an error; at least `_FEW_STAND_INS`."""
_FEW_STAND_INS = 10
_PROBES = ((1, 1), (28, 28), (37, 100), (224, 224), (640, 480), (1023, 1777), (4000, 3000), (9000, 7000))
"""Sizes in pixels that tell one way of seeing images from another."""
_DROP = "drop:"
_COLUMNS = ("row", "length", "trained", "images", "rounds")


@dataclass(frozen=True)
class Source:
    """Rows, and how they are to be encoded."""

    name: str
    format: str
    rows: Rows
    size: int
    """Rows that count: the first ones."""
    policy: MaskPolicy
    repeat: int = 1


@dataclass(frozen=True)
class Counted:
    """What counting found in one source of N usable rows."""

    table: dict[str, Any]
    """``row``, ``length``, ``trained``, ``images``, ``rounds``: int32 of shape (N,)."""
    drops: dict[str, list[int]]
    """The rows that cannot be used, by reason."""


def settings_print(family: Family, max_tokens: int) -> str:
    """Hash of all of a family that decides about lengths: tokenizer, chat template, sizes at which images are seen."""
    image = ImageRecord(id="", width=224, height=224, mode="RGB")
    prompt = family.encode_parts(family.prompt_parts("s", "<image>u", [image])).ids
    bare = family.encode_parts(family.prompt_parts("", "u", [])).ids
    seen = [(family.seen_size(*size), family.image_tokens(family.grid(*size))) for size in _PROBES]
    limits = [getattr(family, limit, None) for limit in ("min_pixels", "max_pixels")]
    return digest([VERSION, family.name, family.fingerprint, prompt, bare, seen, limits, max_tokens])


def count(
    source: Source, family: Family, max_tokens: int, *, cache: Path | None = None, console: Console | None = None
) -> Counted:
    """Encode every row of a source once, and keep what comes of it.

    Args:
        source: The rows.
        family: As they will be encoded.
        max_tokens: Longer samples are dropped.
        cache: Folder where counts are kept, unless no row can be used; None keeps none.
        console: Where progress is shown; None is standard error.

    Raises:
        StoreError: A file is damaged; the message names it.
    """
    rows = [source.format, source.policy, source.size, print_of(source.rows)]
    key = digest([settings_print(family, max_tokens), *rows])
    name = re.sub(r"[^\w-]", "_", source.name)
    kept = cache / f"index-{name}-{key[:16]}" if cache is not None else None
    if kept is not None and (found := _load(kept.with_suffix(".npz"))):
        return found
    chunks = [range(start, min(start + CHUNK, source.size)) for start in range(0, source.size, CHUNK)]
    job = _Job(source, family, max_tokens)
    parts = list(_counted(chunks, job, kept, console or Console(stderr=True)))
    whole = _merged(parts)
    if kept is not None:
        if len(whole.table["row"]):  # else it is mended outside of the files that the key knows: images, for example
            _save(kept.with_suffix(".npz"), whole)
        shutil.rmtree(kept, ignore_errors=True)
    return whole


@dataclass(frozen=True)
class _Job:
    source: Source
    family: Family
    max_tokens: int

    def __call__(self, chunk: range) -> Counted:
        """Count some rows."""
        found: list[tuple[int, int, int, int, int]] = []
        drops: dict[str, list[int]] = {}
        for row in chunk:
            try:
                item = peek(self.source.rows, row)
                sample = encode_item(item, self.family, self.source.policy, max_tokens=self.max_tokens)
            except EncodeError as error:
                drops.setdefault(error.reason, []).append(row)
                continue
            found.append((row, len(sample), sample.trained, len(sample.images), rounds_of(sample)))
        columns = np.asarray(found, dtype=np.int32).reshape(len(found), len(_COLUMNS))
        return Counted({name: columns[:, i].copy() for i, name in enumerate(_COLUMNS)}, drops)


def rounds_of(sample: Encoded) -> int:
    """Code rounds of a sample."""
    return sum(span.kind == "observation" for span in sample.spans)


def _counted(chunks: Sequence[range], job: _Job, kept: Path | None, console: Console) -> Iterator[Counted]:
    """The counts of all chunks in order, those that were written down before among them."""
    files = [kept / f"{chunk.start}.npz" if kept is not None else None for chunk in chunks]
    done = {i: found for i, file in enumerate(files) if file is not None and (found := _load(file))}
    missing = [i for i in range(len(chunks)) if i not in done]
    with _bar(console, f"counting {job.source.name}", len(chunks)) as advance, _mapper(job, len(missing)) as mapped:
        advance(len(done))
        fresh = mapped([chunks[i] for i in missing])
        for i in range(len(chunks)):
            found = done.get(i)
            if found is None:
                found = next(fresh)
                _save(files[i], found)
                advance(1)
            yield found


@contextmanager
def _mapper(job: _Job, chunks: int) -> Iterator[Callable[[Sequence[range]], Iterator[Counted]]]:
    """Applies the job to chunks in order: here, or in forked processes where there are enough chunks."""
    processes = min(len(os.sched_getaffinity(0)), chunks // 2, _MAX_PROCESSES)
    if chunks < _WORTH_PROCESSES or processes < 2:
        yield lambda wanted: map(job, wanted)
        return
    if job.source.size:
        job(range(1))  # rows that are made when they are first asked for are made here
    context = multiprocessing.get_context("fork")  # neither rows nor tokenizer have to be sent
    pool = ProcessPoolExecutor(processes, context, initializer=_keep, initargs=(job,))
    try:
        yield lambda wanted: pool.map(_run_kept, wanted)
    finally:
        pool.shutdown(cancel_futures=True)


_kept: list[_Job] = []
"""In a process that counts: its job."""


def _keep(job: _Job) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _kept.append(job)


def _run_kept(chunk: range) -> Counted:
    return _kept[0](chunk)


@contextmanager
def _bar(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of rows; silent where the console is no terminal."""
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"x {CHUNK} rows"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task = bar.add_task(title, total=total)
    with bar:
        yield lambda steps: bar.update(task, advance=steps)


def _merged(parts: Sequence[Counted]) -> Counted:
    none = np.zeros(0, dtype=np.int32)
    table = {name: np.concatenate([none, *(part.table[name] for part in parts)]) for name in _COLUMNS}
    drops: dict[str, list[int]] = {}
    for part in parts:
        for reason, rows in part.drops.items():
            drops.setdefault(reason, []).extend(rows)
    return Counted(table, drops)


def _save(path: Path | None, counted: Counted) -> None:
    """Write counts, whole or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("wb") as file:
            drops: dict[str, Any] = {f"{_DROP}{reason}": rows for reason, rows in counted.drops.items()}
            np.savez(file, **counted.table, **drops)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path) -> Counted | None:
    """Counts that were written, None where there are none that can be read."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            table = {name: file[name] for name in _COLUMNS}
            drops = {name.removeprefix(_DROP): file[name].tolist() for name in file.files if name not in _COLUMNS}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        logger.warning("%s: cannot be read (%s); the rows are counted again", path.name, error)
        return None
    return Counted(table, drops)


def report_of(source: Source, counted: Counted) -> SourceReport:
    """What became of a source."""
    table = counted.table
    rounds = Counter(table["rounds"].tolist())
    return SourceReport(
        name=source.name,
        format=source.format,
        rows=source.size,
        samples=len(table["row"]),
        repeat=source.repeat,
        drops={reason: len(rows) for reason, rows in sorted(counted.drops.items())},
        tokens=int(table["length"].sum(dtype=np.int64)),
        trained_tokens=int(table["trained"].sum(dtype=np.int64)),
        images=int(table["images"].sum(dtype=np.int64)),
        rounds={str(number): rounds[number] for number in sorted(rounds)},
        mask=source.policy.value,
    )


class IndexedSamples:
    """Samples of several sources, one after the other, each as often as it is repeated. Holds no pixels."""

    def __init__(self, sources: Sequence[Source], counted: Sequence[Counted], family: Family) -> None:
        """Put sources together.

        Args:
            sources: The rows; pairs with `counted`.
            counted: What `count` found in each.
            family: As they were counted.
        """
        self._sources, self._family = list(sources), family
        repeats = [source.repeat for source in sources]
        columns = {
            name: _tiled([found.table[name] for found in counted], repeats) for name in ("row", "length", "trained")
        }
        self._rows = columns["row"]
        self.lengths, self.trained = columns["length"], columns["trained"]
        sizes = [len(found.table["row"]) * repeat for found, repeat in zip(counted, repeats, strict=True)]
        self._ends = np.cumsum(sizes)
        prints = [digest([print_of(source.rows), source.size, source.policy, source.repeat]) for source in sources]
        self.fingerprint = digest([*prints, self.lengths.tobytes(), self.trained.tobytes()])
        self.stand_ins = 0
        """Times that another sample stood in for a damaged one, in this process."""

    def __len__(self) -> int:
        """Number of samples, repeats counted."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> Encoded:
        """A sample with the pixels of its images, or one not longer in its place where those are damaged.

        Raises:
            StoreError: The data are not what they were when they were counted, or too many are damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} samples, none with the index {index}")
        for place in self._places(index):
            try:
                return self._read(place)
            except EncodeError as error:
                self._stood_in(place, error)
        raise StoreError(f"sample {index} and all that could stand in for it are damaged; restore the data")

    def name(self, index: int) -> str:
        """Source, file and row of a sample, for messages."""
        source = self._source(index)
        return f"{source.name}: {name_of(source.rows, self._rows[index])}"

    def _read(self, index: int) -> Encoded:
        source, row = self._source(index), self._rows[index]
        sample = encode_item(source.rows[row], self._family, source.policy)
        if len(sample) != self.lengths[index]:
            raise StoreError(
                f"{source.name}: {name_of(source.rows, row)} has {len(sample)} tokens and had {self.lengths[index]} "
                "when it was counted; the data have changed, start the run anew"
            )
        return sample

    def _source(self, index: int) -> Source:
        return self._sources[int(np.searchsorted(self._ends, index, side="right"))]

    def _places(self, index: int) -> Iterator[int]:
        """The sample itself, then those behind it that are not longer."""
        yield index
        for step in range(1, len(self)):
            place = (index + step) % len(self)
            if self.lengths[place] <= self.lengths[index]:
                yield place

    def _stood_in(self, index: int, error: EncodeError) -> None:
        self.stand_ins += 1
        where = name_of(self._source(index).rows, self._rows[index])
        logger.warning("%s: dropped at training time (%s): %s", where, error.reason, error)
        if self.stand_ins > max(_FEW_STAND_INS, _STAND_INS * len(self)):
            raise StoreError(f"{self.stand_ins} samples were damaged so far, the last in {where}; restore the data")


def _tiled(columns: Sequence[Any], repeats: Sequence[int]) -> array[int]:
    """The columns one after the other, each so many times; an array of 4 bytes a number."""
    whole = array("i")
    for column, repeat in zip(columns, repeats, strict=True):
        whole.frombytes(np.ascontiguousarray(np.tile(column, repeat), dtype=np.int32).tobytes())
    return whole
