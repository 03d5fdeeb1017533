"""Streams: every row in exactly one of them, in a repeatable order, without end, resumable to the sample."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_rows import row_of, text_row, write_parquet

from thyme.config.sft_recipe import SFTRecipe, StageRecipe
from thyme.config.training import DataSource
from thyme.errors import ConfigError, UsageError
from thyme.families import Family, load_family
from thyme.train.data import stream
from thyme.train.data.published import stream_published
from thyme.train.data.rows import Draw, Parts, RandomParts
from thyme.train.data.samples import is_by_place, is_stream
from thyme.train.data.sources import open_samples
from thyme.train.data.stream import StreamedSamples, StreamSource
from thyme.train.encode import Dialogue, Encoded, MaskPolicy


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def item(number: int) -> Dialogue:
    """Row `number` of a source; every fifth is far too long."""
    return Dialogue(((f"{number} " + "why " * (200 if number % 5 == 0 else 0), "a"),))


class Numbers:
    """Rows by place that count how often they are read."""

    fingerprint = "numbers"

    def __init__(self, size: int) -> None:
        self.size = size
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Dialogue:
        self.read.append(index)
        return item(index)

    def __iter__(self) -> Iterator[Dialogue]:
        return map(item, range(self.size))


@dataclass
class Unsized:
    """Rows that come in order, of which nobody knows how many there are."""

    size: int
    rows: int | None = None
    fingerprint: str = "unsized"
    drawn: list[int] = field(default_factory=list)

    def part(self, index: int, count: int) -> Iterator[Draw]:
        for number in range(index, self.size, count):
            yield lambda number=number: (self.drawn.append(number), item(number))[1]  # type: ignore[misc]


def streamed(family: Family, parts: Parts, *more: Parts, buffer: int = 8, seed: int = 0, repeat: int = 1) -> Any:
    sources = [StreamSource(f"s{i}", "x", one, MaskPolicy.ALL, repeat) for i, one in enumerate((parts, *more))]
    return StreamedSamples(sources, family, max_tokens=100, buffer=buffer, seed=seed)


def numbers(family: Family, samples: Sequence[Encoded]) -> list[int]:
    """Which rows these are."""
    return [int(family.decode(sample.ids.tolist()).split("user\n")[1].split()[0]) for sample in samples]


def good(size: int) -> list[int]:
    return [number for number in range(size) if number % 5]


class AsRank:
    """What `thyme.train.distributed` says in a process of a run."""

    def __init__(self, patch: pytest.MonkeyPatch, processes: int) -> None:
        self._patch, self._processes = patch, processes

    def loader(self, samples: StreamedSamples, rank: int, batch_size: int = 2, *, workers: int = 0) -> Any:
        self._patch.setattr(stream, "rank", lambda: rank)
        self._patch.setattr(stream, "world_size", lambda: self._processes)
        return samples.loader(batch_size, list, workers=workers)


@pytest.mark.parametrize("parts", [RandomParts(Numbers(43)), Unsized(43)])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_a_pass_is_every_row_once_in_exactly_one_stream(family: Family, parts: Parts, streams: int) -> None:
    samples = streamed(family, parts)
    passes = [numbers(family, list(samples.one_pass(i, streams))) for i in range(streams)]
    assert sorted(row for rows in passes for row in rows) == good(43)
    assert max(map(len, passes)) - min(map(len, passes)) <= 2  # at most one row more, and one drop less


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_see_disjoint_rows_in_equal_numbers(
    family: Family, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    ranks, size = AsRank(monkeypatch, 2), 63
    samples = streamed(family, RandomParts(Numbers(size)))
    loaders = [ranks.loader(samples, rank, 1, workers=workers) for rank in range(2)]
    streams = 2 * max(1, workers)
    of_a_pass = [len(list(samples.one_pass(i, streams))) for i in range(streams)]
    assert len(set(of_a_pass)) > 1  # the streams themselves differ, the processes must not
    seen = [numbers(family, [s for (s,) in islice(loader, 200)]) for loader in loaders]
    assert [len(rows) for rows in seen] == [200, 200]  # far behind the end of the first pass, neither ran dry
    assert not set(seen[0]) & set(seen[1])
    first = [rows[: max(1, workers) * min(of_a_pass)] for rows in seen]
    assert all(max(Counter(rows).values()) == 1 for rows in first)
    assert sorted(set(seen[0]) | set(seen[1])) == good(size)


def test_all_batches_are_full(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = AsRank(monkeypatch, 1).loader(streamed(family, RandomParts(Numbers(11))), 0, 4)
    assert [len(batch) for batch in islice(loader, 9)] == [4] * 9


def test_the_order_is_a_function_of_seed_and_pass(family: Family) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return numbers(family, list(streamed(family, RandomParts(Numbers(60)), seed=seed).one_pass(0, 1, epoch)))

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("buffer", [1, 4, 1000])
def test_the_buffer_bounds_how_early_a_row_can_come(family: Family, buffer: int) -> None:
    order = numbers(family, list(streamed(family, Unsized(200), buffer=buffer).one_pass(0, 1)))
    places = {number: place for place, number in enumerate(order)}
    rank_in_file = {number: place for place, number in enumerate(sorted(order))}
    assert all(place >= rank_in_file[number] - buffer for number, place in places.items())
    assert (order == sorted(order)) == (buffer == 1)


def test_sources_follow_each_other_as_often_as_they_repeat(family: Family) -> None:
    samples = streamed(family, Unsized(4), Unsized(3), buffer=1, repeat=2)
    assert numbers(family, list(samples.one_pass(0, 1))) == [1, 2, 3, 1, 2, 3, 1, 2, 1, 2]
    assert samples.rows is None
    assert streamed(family, RandomParts(Numbers(4)), RandomParts(Numbers(3)), repeat=2).rows == 14


def test_a_first_look_ends_with_the_pass(family: Family) -> None:
    samples = streamed(family, Unsized(12))
    assert sorted(numbers(family, samples.first(100))) == good(12)
    assert len(samples.first(3)) == 3


def test_a_first_look_does_not_fill_the_buffer(family: Family) -> None:
    """A thousand rows of a hub dataset are gigabytes."""
    reached: list[int] = []

    class Noted(Unsized):
        def part(self, index: int, count: int) -> Iterator[Draw]:
            for number, draw in enumerate(super().part(index, count)):
                reached.append(number)
                yield draw

    assert len(streamed(family, Noted(1000), buffer=500).first(3)) == 3
    assert len(reached) < 25


# --- going on


def flat(family: Family, batches: Sequence[Sequence[Encoded]]) -> list[int]:
    return numbers(family, [sample for batch in batches for sample in batch])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("after", [1, 4, 13])
@pytest.mark.parametrize("make", [lambda: RandomParts(Numbers(23)), lambda: Unsized(23)])
def test_a_resumed_stream_goes_on_to_the_sample(
    family: Family, monkeypatch: pytest.MonkeyPatch, workers: int, after: int, make: Any
) -> None:
    ranks = AsRank(monkeypatch, 2)
    whole = ranks.loader(streamed(family, make()), 1, workers=workers)
    batches = list(islice(whole, after + 12))
    first = ranks.loader(streamed(family, make()), 1, workers=workers)
    list(islice(first, after))
    state = json.loads(json.dumps(first.state))
    second = ranks.loader(streamed(family, make()), 1, workers=workers)
    second.resume(state)
    assert flat(family, list(islice(second, 12))) == flat(family, batches[after:])
    assert second.state == whole.state
    assert second.reports() == whole.reports()


def test_one_loader_iterated_twice_goes_on(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = AsRank(monkeypatch, 1)
    whole = flat(family, list(islice(ranks.loader(streamed(family, Unsized(30)), 0), 8)))
    parts = ranks.loader(streamed(family, Unsized(30)), 0)
    assert flat(family, [*islice(parts, 3), *islice(parts, 5)]) == whole


def test_going_on_reads_no_row_by_place_again(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = AsRank(monkeypatch, 1)
    first = ranks.loader(streamed(family, RandomParts(Numbers(50))), 0)
    list(islice(first, 15))
    rows = Numbers(50)
    second = ranks.loader(streamed(family, RandomParts(rows)), 0)
    second.resume(first.state)
    list(islice(second, 2))
    assert len(rows.read) <= 7  # four samples, and the dropped rows among them


def test_going_on_decodes_no_row_in_order_again(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = AsRank(monkeypatch, 1)
    first = ranks.loader(streamed(family, Unsized(50)), 0)
    list(islice(first, 15))
    parts = Unsized(50)
    second = ranks.loader(streamed(family, parts), 0)
    second.resume(first.state)
    list(islice(second, 2))
    assert len(parts.drawn) <= 7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "data"),
        ({"rank": 0}, "process"),
        ({"processes": 4}, "processes"),
        ({"workers": 2}, "workers"),
        ({"batch_size": 3}, "batch size"),
    ],
)
def test_a_state_of_another_run_is_refused(
    family: Family, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str
) -> None:
    run = {"seed": 0, "rank": 1, "processes": 2, "workers": 0, "batch_size": 2}

    def loader(run: dict[str, Any]) -> Any:
        samples = streamed(family, Unsized(20), seed=run["seed"])
        return AsRank(monkeypatch, run["processes"]).loader(
            samples, run["rank"], run["batch_size"], workers=run["workers"]
        )

    with pytest.raises(ConfigError, match=f"its {named} was"):
        loader({**run, **change}).resume(loader(run).state)


def test_the_state_does_not_run_ahead_of_the_batches(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = AsRank(monkeypatch, 1).loader(streamed(family, RandomParts(Numbers(40))), 0, workers=2)
    batches = iter(loader)
    for count in range(1, 4):
        samples = next(batches)
        assert loader.state["batches"] == count
        assert sum(report.samples for report in loader.reports()) == count * len(samples)
    del batches


def test_the_generator_of_the_training_is_left_alone(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_rng_state()
    list(islice(AsRank(monkeypatch, 1).loader(streamed(family, Unsized(20)), 0), 5))
    assert torch.equal(torch.get_rng_state(), before)


# --- what is counted, and what cannot be


def test_drops_are_counted_by_source(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = AsRank(monkeypatch, 2)
    loaders = [ranks.loader(streamed(family, Unsized(20), Unsized(7)), rank, 1) for rank in range(2)]
    for loader in loaders:
        list(islice(loader, len(list(streamed(family, Unsized(20), Unsized(7)).one_pass(loader.state["process"], 2)))))
    reports = [loader.reports() for loader in loaders]
    assert [sum(of_rank[i].samples for of_rank in reports) for i in range(2)] == [16, 5]
    assert reports[0][0].drops.keys() == {"too_long"}
    assert reports[0][0].tokens > reports[0][0].trained_tokens > 0


def test_data_without_a_usable_row_are_an_error(family: Family) -> None:
    samples = streamed(family, Unsized(1))
    with pytest.raises(UsageError, match=r"gave no sample in a whole pass; dropped: .*too_long.*1"):
        samples.first(1)
    with pytest.raises(UsageError, match="part 4 of 4"):
        list(streamed(family, Unsized(3)).one_pass(3, 4))


def test_an_error_in_a_worker_is_that_of_the_run(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = AsRank(monkeypatch, 1).loader(streamed(family, Unsized(1)), 0, workers=1)
    with pytest.raises(UsageError, match="gave no sample"):
        next(iter(loader))


# --- the published data


def test_published_shards_are_streamed_with_their_images(
    tmp_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row_of(i, rounds=i % 3) if i % 4 else text_row(i) for i in range(14)]
    rows[5]["image"] = rows[5]["image"][:1]
    write_parquet(tmp_path, rows, shards=3)
    data = {"sft": DataSource(format="thyme-sft", path=str(tmp_path), mask="all")}
    recipe = SFTRecipe(
        model="m", streaming=True, shuffle_buffer=1, max_tokens=2000, stages={"s": StageRecipe(data=data)}
    )
    made, (report,) = open_samples(data, "released", recipe, family)
    assert is_stream(made)
    assert not is_by_place(made)
    assert (made.rows, report.rows, report.samples) == (14, 14, 0)
    ranks = AsRank(monkeypatch, 2)
    assert isinstance(made, StreamedSamples)
    passes = [list(made.one_pass(i, 4)) for i in range(4)]
    everything = [sample for one in passes for sample in one]
    assert len(everything) == 13
    assert all(image.loaded for sample in everything for image in sample.images)
    loader = ranks.loader(made, 0, 1, workers=2)
    from_workers = [sample for (sample,) in islice(loader, 2 * min(len(one) for one in passes[:2]))]
    expected = [sample for pair in zip(*passes[:2], strict=False) for sample in pair]
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(from_workers, expected, strict=False))
    assert stream_published(data["sft"]).rows == 14
    indexed, _ = open_samples(data, "released", recipe, family, streaming=False)
    assert is_by_place(indexed)
