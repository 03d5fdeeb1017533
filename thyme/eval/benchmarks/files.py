"""Find a benchmark's file, and read it as problems.

A file is VLMEvalKit's TSV, or the same columns as Parquet, JSON lines, JSON or a folder as Hugging Face writes it. It
is read row by row, and no more than a few rows are in memory.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from thyme.errors import ImageError, StoreError, UsageError
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.benchmarks.cells import (
    REFERENCE_CHARS,
    ROW_NUMBER,
    RowError,
    has_image,
    image_bytes,
    image_cells,
    path_cells,
)
from thyme.eval.benchmarks.tables import READERS, Rows, parts_of
from thyme.eval.benchmarks.tsv import Tsv
from thyme.images import MAX_PIXELS, load_image
from thyme.types import ImageRecord, Problem

ENDINGS: Final = (".tsv", *READERS)
"""Of files that can be read."""
_IMAGE_FOLDER = "images"
"""Where VLMEvalKit unpacks images: ``images/NAME`` beside the TSV file."""


def data_folders(folder: Path | None = None) -> list[Path]:
    """Where benchmarks are looked for, in this order: the folder given, ``$LMUData``, ``~/LMUData``."""
    named = os.environ.get("LMUData")  # noqa: SIM112  (VLMEvalKit's own spelling)
    folders = [folder, Path(named) if named else None, Path.home() / "LMUData"]
    return [one for one in folders if one is not None]


def find_file(
    name_or_path: str, folders: Sequence[Path], *, other: Sequence[str] = (), way_out: str | None = None
) -> Path:
    """Where a benchmark's file is.

    Args:
        name_or_path: A path, or VLMEvalKit's name of a benchmark: ``VStarBench`` is looked for as
            ``VStarBench.tsv``, ``.jsonl``, ``.json``, ``.parquet``, ``.arrow``, ``VStarBench_local.tsv`` and a folder
            ``VStarBench``. What is found nowhere may still be a folder that is named without a slash.
        folders: Where names are looked for, in this order.
        other: Other names of the file (`Benchmark.files`).
        way_out: What to do where there is none, beside putting it there; None: the options of `thyme eval`.

    Raises:
        UsageError: There is none; the message says where it was looked for.
    """
    path = Path(name_or_path).expanduser()
    if path.exists() and (path.is_dir() or path.suffix in ENDINGS) and _is_path(name_or_path):
        return path
    if not _is_path(name_or_path):
        names = [*(name_or_path + ending for ending in ENDINGS), *other, f"{name_or_path}_local.tsv", name_or_path]
        for folder in folders:
            for name in names:
                if (folder / name).exists():
                    return folder / name
        if path.is_dir():
            return path
        looked = ", ".join(str(folder) for folder in folders) or "no folder"
        way_out = way_out or f"name its folder with --data, or the file with --bench {name_or_path}=PATH"
        raise UsageError(f"{name_or_path}: no {names[0]} in {looked}; put the file there, {way_out}")
    if path.exists():
        raise UsageError(f"{path} is no {', '.join(ENDINGS)} file and no folder; convert it, or check the path")
    raise UsageError(f"{path}: no such file or folder; check the path")


def _is_path(name: str) -> bool:
    """Whether it cannot be a benchmark's name."""
    return os.sep in name or name.startswith(("~", ".")) or Path(name).suffix in ENDINGS


def digest(path: Path) -> str:
    """MD5 of a file, which `Benchmark.md5` can be compared with; of a folder, that of its files' names and content.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        if not path.is_dir():
            return _md5([path], path.parent)
        return _md5(parts_of(path), path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def _md5(files: Sequence[Path], folder: Path) -> str:
    several = len(files) > 1
    total = hashlib.md5(usedforsecurity=False)
    for file in files:
        if several:
            total.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                total.update(piece)
    return total.hexdigest()


def read_benchmark(
    benchmark: Benchmark,
    path: Path,
    *,
    limit: int | None = None,
    shuffle_seed: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Problem]:
    """Problems of a file, in its order.

    Rows whose image columns are all empty are left out where the file has such columns, as VLMEvalKit does
    (HallusionBench has them); problems without images come from files without image columns.

    Args:
        benchmark: Says what a row means.
        path: A file or a folder; see the module.
        limit: How many problems at most.
        shuffle_seed: With `limit`: take a random part, drawn with this seed, instead of the first rows. The part is
            given in the file's order; the file is read twice.
        max_pixels: Largest image, width times height.

    Raises:
        StoreError: The file or a row cannot be used; file and line are named.
        UsageError: A folder does not say which split is meant.
        MissingExtraError: Parquet or Arrow without pyarrow.
    """
    numbered = read_numbered(benchmark, path, limit=limit, shuffle_seed=shuffle_seed, max_pixels=max_pixels)
    return (problem for _, problem in numbered)


def read_numbered(
    benchmark: Benchmark,
    path: Path,
    *,
    wanted: Callable[[int], bool] | None = None,
    limit: int | None = None,
    shuffle_seed: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[tuple[int, Problem]]:
    """As `read_benchmark`, with the place of each problem among those that `limit` leaves, from 0.

    Args:
        benchmark: See there.
        path: See there.
        wanted: Says of a place whether its problem is wanted; the images of those that are not are not decoded.
        limit: See there.
        shuffle_seed: See there.
        max_pixels: See there.

    Raises:
        StoreError: See there.
        UsageError: See there.
        MissingExtraError: See there.
    """
    chosen: set[int] | None = None
    if limit is not None and shuffle_seed is not None:
        count = count_problems(path)
        chosen = set(random.Random(shuffle_seed).sample(range(count), min(limit, count)))
    rows = ((number, *found) for number, found in enumerate(_usable(path)) if chosen is None or number in chosen)
    seen: set[str] = set()
    for place, (number, where, row, source) in enumerate(islice(rows, limit)):
        if wanted is not None and not wanted(place):
            continue
        row[ROW_NUMBER] = number
        try:
            problem = benchmark.to_problem(row, tuple(_images(row, source, max_pixels)))
        except (RowError, ImageError, KeyError, ValueError) as error:
            raise StoreError(f"{where}: no row of {benchmark.name}: {error}") from error
        if problem.id in seen:
            raise StoreError(f"{where}: the index {problem.id!r} was there before; it must be unique in the file")
        seen.add(problem.id)
        yield place, problem


def count_problems(path: Path, limit: int | None = None) -> int:
    """How many problems `read_benchmark` gives; the file is read, its images are not decoded.

    Raises:
        StoreError: The file cannot be used.
        UsageError: See `read_benchmark`.
        MissingExtraError: See `read_benchmark`.
    """
    return sum(1 for _ in islice(_usable(path), limit))


class _Source:
    """What a row's images are looked up in."""

    def __init__(self, path: Path, tsv: Tsv | None) -> None:
        self.tsv = tsv
        folder = path if path.is_dir() else path.parent
        name = path.stem.removesuffix("_local")
        self.roots = [folder / _IMAGE_FOLDER / name, folder / _IMAGE_FOLDER, folder]
        self.inside = Path(os.path.abspath(folder))


def _usable(path: Path) -> Iterator[tuple[str, dict[str, Any], _Source]]:
    """Where each row stands, the row, and its source; without the rows that lack their image."""
    for part in parts_of(path):
        if part.suffix == ".tsv":
            with Tsv(part) as tsv:
                source = _Source(part, tsv)
                for number, row in tsv:
                    if has_image(row):
                        yield f"{part}, line {number}", row, source
            continue
        reader = READERS.get(part.suffix)
        if reader is None:
            raise UsageError(f"{part} is no {', '.join(ENDINGS)} file; convert it, or check the path")
        source = _Source(path if path.is_dir() else part, None)
        yield from _with_images(reader(part), part, source)


def _with_images(rows: Rows, part: Path, source: _Source) -> Iterator[tuple[str, dict[str, Any], _Source]]:
    for where, row in rows:
        if has_image(row):
            yield f"{part}, {where}", row, source


def _images(row: dict[str, Any], source: _Source, max_pixels: int) -> Iterable[ImageRecord]:
    """Images of a row. ``image_path`` counts only where no other column holds any: beside them it names files to be."""
    entries: list[Any] = image_cells(row)
    if len(entries) == 1 and source.tsv is not None and _is_reference(entries[0]):
        entries = image_cells({"image": source.tsv.image_of(entries[0].strip())})
    for number, entry in enumerate(entries or path_cells(row), start=1):
        data = entry if isinstance(entry, bytes) else _data(entry, source)
        try:
            yield load_image(data, name=f"image {number}", max_pixels=max_pixels)
        except ImageError as error:
            raise RowError(f"{error}") from error


def _is_reference(entry: Any) -> bool:
    return isinstance(entry, str) and len(entry) <= REFERENCE_CHARS and not Path(entry).suffix


def _data(entry: str, source: _Source) -> bytes:
    """A file's bytes: of base64 text, or of a path."""
    if len(entry) > 4096 or not Path(entry).suffix:
        return image_bytes(entry)
    for root in source.roots:
        path = Path(os.path.abspath(root / entry))
        # Rows may come from a stranger, and could name any picture of this machine.
        if path.is_relative_to(source.inside) and path.is_file():
            return path.read_bytes()
    raise RowError(f"its image {entry!r} is not in {source.inside} (nor in its folder '{_IMAGE_FOLDER}')")
