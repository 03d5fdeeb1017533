"""Rows of a recipe's sources as problems to train on, in order."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from thyme.config.rl_filter import FilterRecipe, FilterSource
from thyme.data.filter.records import Seen
from thyme.data.published_problems import PROBLEM_COLUMNS, to_problem
from thyme.data.sources import World
from thyme.data.sources.arrow import ParquetRows, Remote
from thyme.data.sources.base import Source
from thyme.data.sources.columns import Columns, boxes_in
from thyme.data.sources.files import FileSource, open_files, open_table
from thyme.data.sources.lines import digest
from thyme.errors import ConfigError, EncodeError, MissingExtraError, StoreError
from thyme.markup import extract_answer
from thyme.types import ImageRecord, Problem

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PUBLISHED: Final = ("messages", *PROBLEM_COLUMNS)
"""Columns by which rows of the published layout are known."""
_LINES: Final = ("id", "question", "images", "meta")
"""Columns by which the problems are known that this filter and ``thyme rl-data export`` write as JSON lines."""

Known = Callable[[int], Sequence[ImageRecord]]
"""What the images of a row were found to be; nothing where they have to be decoded."""


class _Published(Columns):
    """Rows of the published layout, with what this package wrote beside it."""

    def problem(
        self, row: Mapping[str, Any], *, id: str, label: str, folder: Path | None, known: Sequence[ImageRecord] = ()
    ) -> Problem:
        problem = to_problem(row, name=label, folder=folder, max_pixels=self.max_pixels, known=known)
        return _with_meta(problem.model_copy(update={"id": id}), problem.meta, label)


class _Lines(Columns):
    """JSON lines of problems, with what is known beside their columns."""

    def problem(
        self, row: Mapping[str, Any], *, id: str, label: str, folder: Path | None, known: Sequence[ImageRecord] = ()
    ) -> Problem:
        problem = super().problem(row, id=id, label=label, folder=folder, known=known)
        meta = row.get("meta")
        return _with_meta(problem, meta, label) if isinstance(meta, Mapping) else problem


def _with_meta(problem: Problem, meta: Mapping[str, Any], label: str) -> Problem:
    """The problem with what its row knows of it.

    Raises:
        EncodeError: Its box is none, or outside of its picture.
    """
    boxes = boxes_in(meta.get("boxes") or meta.get("box"), problem.images, label)
    rest = {name: value for name, value in meta.items() if name not in {"box", "boxes"}}
    return problem.model_copy(update={"meta": {**rest, **({"box": boxes[0], "boxes": boxes} if boxes else {})}})


@dataclass(frozen=True)
class Rows:
    """An opened source. May be sent to other processes."""

    name: str
    settings: FilterSource
    source: Source

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.source)

    @property
    def fingerprint(self) -> str:
        """Hash of what is read, and of what is said of it."""
        told = (self.settings.kind, self.settings.source, self.settings.licence)
        return digest([self.name, self.source.fingerprint, *told])

    def each(self, wanted: Iterable[int], known: Known | None = None) -> Iterator[tuple[int, Problem | EncodeError]]:
        """Problems at rising places, with their pixels, or why a row is none.

        Args:
            wanted: Indices.
            known: What the images of a row were found to be: their files are read then, and nothing is decoded.

        Raises:
            StoreError: A file is damaged or has changed.
        """
        for index, row in _each(self.source, wanted, known or (lambda index: ())):
            yield index, row if isinstance(row, EncodeError) else self._told(row)

    def _told(self, problem: Problem) -> Problem:
        """The problem with what the recipe says of its source, its answer out of its tags."""
        given = {"source": self.settings.source, "licence": self.settings.licence}
        meta = {"source": self.name, **problem.meta, **{name: value for name, value in given.items() if value}}
        answer = problem.answer and (extract_answer(problem.answer) or problem.answer)
        kind = problem.kind or self.settings.kind
        told = {name: value for name, value in meta.items() if value not in (None, "")}
        return problem.model_copy(update={"meta": told, "kind": kind, "answer": answer})


def _each(source: Source, wanted: Iterable[int], known: Known) -> Iterator[tuple[int, Problem | EncodeError]]:
    if isinstance(source, FileSource):
        yield from source.each(wanted, known)
        return
    for index in wanted:
        try:
            yield index, source.problem(index)
        except EncodeError as error:
            yield index, error


def open_rows(recipe: FilterRecipe, worlds: Mapping[str, World] | None = None) -> dict[str, Rows]:
    """All sources of a recipe by name.

    Args:
        recipe: Names them.
        worlds: Built-in sources by name.

    Raises:
        ConfigError: There is nothing that can be read, or no such world, split or column.
        MissingExtraError: Its files need the extra ``data``.
        StoreError: What is there is damaged, or the hub cannot be asked.
    """
    return {name: Rows(name, one, _opened(name, one, recipe, worlds or {})) for name, one in recipe.sources.items()}


def _opened(name: str, settings: FilterSource, recipe: FilterRecipe, worlds: Mapping[str, World]) -> Source:
    if settings.world:
        if settings.world not in worlds:
            known = ", ".join(worlds) or "none"
            raise ConfigError(f"sources.{name}.world: no world '{settings.world}'; known are {known}")
        return worlds[settings.world](name, settings.plain(), recipe.seed)
    path = Path(settings.path).expanduser()
    on_hub = not path.exists() and not path.suffix and _HUB_ID.fullmatch(settings.path) is not None
    table = ParquetRows([Remote(url) for url in hub_files(settings)]) if on_hub else open_table(path, settings.split)
    if not settings.columns and not settings.question:  # else the recipe says what the columns are
        for layout, columns in ((_PUBLISHED, _Published), (_LINES, _Lines)):
            if set(layout) <= set(table.columns):
                return FileSource(name, table, columns({}, "", recipe.max_pixels), settings.count)
    return open_files(name, settings.plain(), table=table, max_pixels=recipe.max_pixels)


def hub_files(settings: FilterSource) -> list[str]:
    """URLs of the Parquet files of a hub dataset's split, with their revision; none is downloaded whole.

    Raises:
        ConfigError: There is no such split, or its files are not Parquet.
        MissingExtraError: `datasets` is not installed.
        StoreError: The hub cannot be asked, or has no such dataset.
    """
    import httpx

    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("reading datasets of the hub", "data") from error
    path = settings.path
    try:
        builder: Any = datasets.load_dataset_builder(path, settings.subset or None)
    except (OSError, ValueError, httpx.HTTPError, datasets.exceptions.DatasetsError) as error:
        text = " ".join(str(error).split())[:300]
        raise StoreError(
            f"'{path}' is no file or folder, and cannot be read as a dataset of the hub ({text}); check the path"
        ) from error
    files = builder.config.data_files or {}
    if settings.split not in files:
        raise ConfigError(f"'{path}' has no split '{settings.split}'; its splits: {', '.join(files) or 'none'}")
    urls = [os.fspath(url) if isinstance(url, os.PathLike) else str(url) for url in files[settings.split]]
    if any(not url.endswith(".parquet") for url in urls):
        raise ConfigError(f"'{path}' is not stored as Parquet; download it and name the folder")
    return urls


def problems_of(
    rows: Mapping[str, Rows], seen: Iterable[Seen], *, pixels: bool = True
) -> Iterator[tuple[Seen, Problem]]:
    """Problems of rows that were looked at; few are read ahead.

    Args:
        rows: Sources by name.
        seen: In the order of sources and rows.
        pixels: Whether images are decoded; else only those are of which no file shows the pixels as they are.

    Raises:
        StoreError: A file has changed since.
    """
    for name, group in groupby(seen, key=lambda one: one.source):
        yield from _of_source(rows[name], group, pixels=pixels)


def _of_source(rows: Rows, seen: Iterable[Seen], *, pixels: bool) -> Iterator[tuple[Seen, Problem]]:
    asked: deque[Seen] = deque()  # the first one is that of the row under way

    def places() -> Iterator[int]:
        for one in seen:
            asked.append(one)
            yield one.row

    for index, problem in rows.each(places(), None if pixels else lambda index: asked[0].records()):
        one = asked.popleft()
        if isinstance(problem, EncodeError):
            raise StoreError(f"{one.id}: row {index} has changed since it was looked at ({problem}); start again")
        yield one, problem
