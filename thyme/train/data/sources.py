"""Sources of samples by format, and the samples of a stage: counted and by place, or streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from thyme.config.sft_recipe import SFTRecipe
from thyme.config.training import DataSource, MaskName
from thyme.errors import ConfigError, UsageError
from thyme.families import Family
from thyme.train.data.index import Counted, IndexedSamples, Source, count, report_of
from thyme.train.data.published import open_published, stream_published
from thyme.train.data.rows import Parts, RandomParts, Reader
from thyme.train.data.stream import StreamedSamples, StreamSource
from thyme.train.data.trajectories import open_trajectories
from thyme.train.distributed import agreed
from thyme.train.encode import MaskPolicy
from thyme.train.run.records import SourceReport

READERS: dict[str, Reader] = {"trajectories": open_trajectories, "thyme-sft": open_published}
"""What opens the rows of a source, by its format."""
STREAMS: dict[str, Callable[[DataSource], Parts]] = {"thyme-sft": stream_published}
"""What opens a source that need not be had by place; formats that are not here are opened by their reader."""

T = TypeVar("T")


def open_samples(
    data: Mapping[str, DataSource],
    mask: MaskName,
    recipe: SFTRecipe,
    family: Family,
    readers: Mapping[str, Reader] | None = None,
    cache: Path | None = None,
    *,
    streaming: bool | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> tuple[IndexedSamples | StreamedSamples, tuple[SourceReport, ...]]:
    """Open the sources of a stage.

    Under several processes all must call this together: the main one counts, the others wait and are told.

    Args:
        data: Sources by name.
        mask: Policy of sources that name none.
        recipe: Length limit, shuffle buffer, and whether to stream.
        family: Tokenizer and image geometry of the model that is trained.
        readers: Readers of more formats, beside `READERS`.
        cache: Folder where counts are kept, that of the run for example; None keeps none.
        streaming: Overrides the recipe: validation samples are counted even where training ones are streamed.
        seed: Of a stream's order.
        console: Where progress is shown; None is standard error.

    Returns:
        The samples, and a report a source. Reports of a stream know only what is known before reading; those of
        `StreamBatches.reports` know the rest.

    Raises:
        ConfigError: A format is unknown, or a path leads nowhere.
        StoreError: A file is damaged.
        UsageError: No row of any source can be used.
    """
    known = {**READERS, **(readers or {})}
    if recipe.streaming if streaming is None else streaming:
        return _streamed(data, mask, recipe, family, known, seed)

    sources: list[Source] = []

    def opened() -> list[Source]:
        return [_source(name, source, mask, known) for name, source in data.items()]

    def counted() -> list[Counted]:
        sources.extend(opened())
        return [count(one, family, recipe.max_tokens, cache=cache, console=console) for one in sources]

    found = agreed(counted)
    sources = sources or opened()  # by each process itself: open files are not sent from one to another
    reports = tuple(report_of(source, one) for source, one in zip(sources, found, strict=True))
    if not any(report.samples for report in reports):
        raise UsageError(f"there is no sample to train on: {describe_drops(reports)}")
    return IndexedSamples(sources, found, family), reports


def count_rows(source: DataSource, readers: Mapping[str, Reader] | None = None) -> int:
    """Rows of a source, its limit applied; nothing is converted or downloaded for it where the format allows that.

    Args:
        source: The source.
        readers: Readers of more formats, beside `READERS`.

    Raises:
        ConfigError: The format is unknown, or a path leads nowhere.
        StoreError: A file is damaged.
    """
    stream = STREAMS.get(source.format)
    known = stream(source).rows if stream else None
    rows = len(_reader(source.path, source, {**READERS, **(readers or {})})(source)) if known is None else known
    return min(rows, source.limit or rows)


def describe_drops(reports: tuple[SourceReport, ...]) -> str:
    """What was dropped, in a line."""
    return "; ".join(
        f"{report.name}: {report.rows} rows"
        + "".join(f", {number} {reason}" for reason, number in sorted(report.drops.items()))
        for report in reports
    )


def _reader(name: str, source: DataSource, readers: Mapping[str, T]) -> T:
    if source.format not in readers:
        raise ConfigError(f"source '{name}': unknown format '{source.format}'; known: {', '.join(readers)}")
    return readers[source.format]


def _source(name: str, source: DataSource, mask: MaskName, readers: Mapping[str, Reader]) -> Source:
    rows = _reader(name, source, readers)(source)
    size = min(len(rows), source.limit or len(rows))
    return Source(name, source.format, rows, size, MaskPolicy(source.mask or mask), source.repeat)


def _streamed(
    data: Mapping[str, DataSource],
    mask: MaskName,
    recipe: SFTRecipe,
    family: Family,
    readers: Mapping[str, Reader],
    seed: int,
) -> tuple[StreamedSamples, tuple[SourceReport, ...]]:
    sources = []
    for name, source in data.items():
        stream = STREAMS.get(source.format)
        parts = stream(source) if stream else RandomParts(_reader(name, source, readers)(source), source.limit)
        sources.append(StreamSource(name, source.format, parts, MaskPolicy(source.mask or mask), source.repeat))
    samples = StreamedSamples(sources, family, max_tokens=recipe.max_tokens, buffer=recipe.shuffle_buffer, seed=seed)
    reports = tuple(
        SourceReport(
            name=source.name,
            format=source.format,
            rows=source.parts.rows or 0,
            samples=0,
            repeat=source.repeat,
            mask=source.policy.value,
        )
        for source in sources
    )
    return samples, reports
