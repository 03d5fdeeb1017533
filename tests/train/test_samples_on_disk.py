"""Counting: once, resumable, the same however it is done; samples on disk are those that encoding gives."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samples
from PIL import Image
from published_rows import b64, file_of, row_of, text_row, write_parquet

from thyme.config.sft_recipe import SFTRecipe, StageRecipe
from thyme.config.training import DataSource
from thyme.errors import ConfigError, StoreError, UsageError
from thyme.families import Family, load_family
from thyme.store import write_trajectories
from thyme.train.data import index
from thyme.train.data.index import Counted, Source, count, settings_print
from thyme.train.data.published import open_published
from thyme.train.data.rows import Item
from thyme.train.data.samples import ListSamples, is_by_place, is_stream
from thyme.train.data.sources import open_samples
from thyme.train.encode import Dialogue, MaskPolicy, encode_item


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


def recipe(data: dict[str, DataSource], **options: Any) -> SFTRecipe:
    return SFTRecipe(model="m", stages={"images": StageRecipe(data=data)}, **options)


def opened(
    family: Family, cache: Path | None = None, readers: Any = None, limit: int = 2000, **data: DataSource
) -> Any:
    return open_samples(data, "released", recipe(data, max_tokens=limit), family, readers, cache)


class Listed:
    """Rows in memory that count how often they are read."""

    def __init__(self, items: list[Item], seen: list[int] | None = None) -> None:
        self.items, self.seen, self.fingerprint = items, seen if seen is not None else [], str(len(items))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        self.seen.append(index)
        return self.items[index]

    def __iter__(self) -> Iterator[Item]:
        return (self[i] for i in range(len(self)))


def dirty_rows() -> list[dict[str, Any]]:
    """Eight rows, four of which cannot be used."""
    cut = file_of(80, 80)[:900]
    return [
        row_of(0, rounds=0),
        {**row_of(1), "response": "<think><code>x</think><answer>B</answer>"},
        row_of(2, rounds=2),
        {**row_of(3, rounds=0), "image": [b64(cut)]},
        text_row(4),
        {**row_of(5), "image": []},
        {**text_row(6), "question": "why? " * 3000},
        row_of(7, rounds=1),
    ]


def test_published_rows_are_counted_with_their_drops(tmp_path: Path, family: Family) -> None:
    write_parquet(tmp_path / "d", dirty_rows(), shards=3)
    made, (report,) = opened(family, tmp_path / "run", sft=DataSource(format="thyme-sft", path=str(tmp_path / "d")))
    assert report.model_dump(exclude={"tokens", "trained_tokens"}) == {
        "name": "sft",
        "format": "thyme-sft",
        "rows": 8,
        "samples": 4,
        "repeat": 1,
        "drops": {"image_count": 1, "image_damaged": 1, "nested_tag": 1, "too_long": 1},
        "images": 6,
        "rounds": {"0": 1, "1": 2, "2": 1},
        "mask": "released",
    }
    whole = [made[i] for i in range(len(made))]
    assert list(made.lengths) == [len(sample) for sample in whole]
    assert list(made.trained) == [sample.trained for sample in whole]
    assert (report.tokens, report.trained_tokens) == (sum(made.lengths), sum(made.trained))
    assert all(image.loaded for sample in whole for image in sample.images)
    rows = open_published(DataSource(format="thyme-sft", path=str(tmp_path / "d")))
    for sample, row in zip(whole, (0, 2, 4, 7), strict=True):
        assert np.array_equal(sample.ids, encode_item(rows[row], family).ids)


def test_trajectories_are_counted_by_their_records_alone(tmp_path: Path, family: Family) -> None:
    made = [
        samples.trajectory([samples.crop(i)] * (i % 3), images=[samples.picture(i)], family=family) for i in range(6)
    ]
    write_trajectories(tmp_path / "t.jsonl", made)
    read, (report,) = opened(family, t=DataSource(path=str(tmp_path / "t.jsonl"), mask="all"))
    expected = ListSamples([encode_item(one, family, MaskPolicy.ALL) for one in made])
    assert (list(read.lengths), list(read.trained)) == (expected.lengths, expected.trained)
    assert report.mask == "all"
    (tmp_path / "images" / f"{made[0].problem.images[0].id}.png").unlink()
    _, (report,) = opened(family, t=DataSource(path=str(tmp_path / "t.jsonl")))
    assert report.drops == {"image_missing": 1}


def test_images_that_are_put_back_are_seen(tmp_path: Path, family: Family) -> None:
    """Where all were missing nothing was kept; the file of the records is the same."""
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory([], images=[samples.picture(1)])])
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    source = DataSource(path=str(tmp_path / "t.jsonl"))
    with pytest.raises(UsageError, match="1 image_missing"):
        opened(family, tmp_path / "data", t=source)
    (tmp_path / "elsewhere").rename(tmp_path / "images")
    _, (report,) = opened(family, tmp_path / "data", t=source)
    assert (report.samples, report.drops) == (1, {})


def test_sources_follow_each_other_as_often_as_they_repeat(family: Family) -> None:
    readers = {
        "a": lambda _: Listed([samples.trajectory([], name="t")] * 2),
        "b": lambda source: Listed([Dialogue((("q" * n, "yes"),)) for n in range(1, 6)]),
    }
    made, reports = opened(
        family, readers=readers, one=DataSource(format="a", repeat=2), two=DataSource(format="b", limit=3, repeat=3)
    )
    assert [(r.rows, r.samples, r.repeat) for r in reports] == [(2, 2, 2), (3, 3, 3)]
    assert len(made) == 2 * 2 + 3 * 3
    assert [len(made[i]) for i in range(len(made))] == list(made.lengths)
    assert list(made.lengths[4:7]) == list(made.lengths[7:10]) == list(made.lengths[10:])
    with pytest.raises(IndexError):
        made[len(made)]


def test_a_second_time_nothing_is_read(tmp_path: Path, family: Family) -> None:
    seen: list[int] = []
    rows = Listed([samples.trajectory([], name=f"t{i}") for i in range(7)], seen)
    source = Source("a", "x", rows, 7, MaskPolicy.RELEASED)
    first = count(source, family, 100, cache=tmp_path)
    assert sorted(seen) == list(range(7))
    second = count(source, family, 100, cache=tmp_path)
    assert len(seen) == 7
    assert same(first, second)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"policy": MaskPolicy.ALL},
        {"format": "y"},
        {"size": 6},
        {"rows": Listed([samples.trajectory([]) for _ in range(8)])},
    ],
)
def test_another_source_is_counted_anew(tmp_path: Path, family: Family, change: dict[str, Any]) -> None:
    rows = Listed([samples.trajectory([]) for _ in range(7)])
    source = Source("a", "x", rows, 7, MaskPolicy.RELEASED)
    count(source, family, 100, cache=tmp_path)
    count(replace(source, **change), family, 100, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_limits_tokenizer_and_template_have_prints(family: Family, tiny_qwen2_5_vl: Path, tiny_qwen3_vl: Path) -> None:
    other = load_family(tiny_qwen2_5_vl, max_pixels=28 * 28 * 9)
    prints = [settings_print(one, tokens) for one in (family, other, load_family(tiny_qwen3_vl)) for tokens in (9, 10)]
    assert len(set(prints)) == 6
    assert settings_print(load_family(tiny_qwen2_5_vl), 9) == prints[0]


def same(one: Counted, other: Counted) -> bool:
    return one.drops == other.drops and all(np.array_equal(one.table[name], other.table[name]) for name in one.table)


def mixed(count: int) -> list[Item]:
    """Items of many lengths, some of them more than 60 tokens."""
    return [Dialogue((("why " * (i % 31), "a"),)) for i in range(count)]


def test_an_interrupted_count_goes_on_where_it_was(
    tmp_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "CHUNK", 10)
    monkeypatch.setattr(index, "_WORTH_PROCESSES", 10**9)
    rows = Listed(mixed(45))
    source = Source("a", "x", rows, 45, MaskPolicy.RELEASED)
    whole = count(source, family, 60)
    rows.seen.clear()
    with monkeypatch.context() as broken:
        broken.setattr(Listed, "__getitem__", lambda self, i: self.items[i] if i < 33 else os.read(-1, 1))
        with pytest.raises(OSError, match="Bad file"):
            count(source, family, 60, cache=tmp_path)
    assert same(count(source, family, 60, cache=tmp_path), whole)
    assert sorted(rows.seen) == list(range(30, 45))
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_damaged_counts_are_made_anew(tmp_path: Path, family: Family, caplog: pytest.LogCaptureFixture) -> None:
    source = Source("a", "x", Listed(mixed(9)), 9, MaskPolicy.RELEASED)
    whole = count(source, family, 60, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert same(count(source, family, 60, cache=tmp_path), whole)
    assert "counted again" in caplog.text


def test_processes_count_what_one_counts(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "CHUNK", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    source = Source("a", "x", Listed(mixed(95)), 95, MaskPolicy.RELEASED)
    with monkeypatch.context() as alone:
        alone.setattr(index, "_WORTH_PROCESSES", 10**9)
        whole = count(source, family, 60)
    source.rows.seen.clear()  # type: ignore[attr-defined]
    assert same(count(source, family, 60), whole)
    assert source.rows.seen == [0]  # type: ignore[attr-defined]  # the rest was read in other processes
    assert 0 < len(whole.drops["too_long"]) < 95


def test_a_damaged_line_ends_a_count_in_processes_too(
    tmp_path: Path, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "CHUNK", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory([])] * 5)
    with (tmp_path / "t.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(StoreError, match=r"t\.jsonl, line 6: damaged"):
        opened(family, t=DataSource(path=str(tmp_path / "t.jsonl")))


# --- training time


def with_a_hole() -> bytes:
    """A PNG whose header and end are whole, and whose middle is not."""
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([smooth, smooth * 2, smooth * 3], axis=-1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    middle = data.index(b"IDAT") + 14
    data[middle : middle + 8] = b"\xff" * 8
    return bytes(data)


def test_another_sample_stands_in_for_a_damaged_one(
    tmp_path: Path, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {**row_of(1, rounds=0), "image": [b64(with_a_hole())]}
    rows = [row_of(0, rounds=0), broken, row_of(2, rounds=2, width=200, height=200), row_of(3, rounds=0)]
    write_parquet(tmp_path / "d", rows, shards=1)
    made, (report,) = opened(family, s=DataSource(format="thyme-sft", path=str(tmp_path / "d")))
    assert report.samples == 4
    with caplog.at_level(logging.WARNING):
        stand_in = made[1]
    assert np.array_equal(stand_in.ids, made[3].ids)
    assert len(stand_in) <= made.lengths[1]
    assert made.stand_ins == 1
    assert "train-00000-of-00001.parquet, row 1: dropped at training time (image_damaged)" in caplog.text


def test_too_many_damaged_samples_are_an_error(tmp_path: Path, family: Family) -> None:
    broken = {**row_of(1, rounds=0), "image": [b64(with_a_hole())]}
    write_parquet(tmp_path / "d", [row_of(0, rounds=0), broken], shards=1)
    made, _ = opened(family, s=DataSource(format="thyme-sft", path=str(tmp_path / "d")))
    for _ in range(10):
        made[1]
    with pytest.raises(StoreError, match="11 samples were damaged so far"):
        made[1]


def test_changed_data_are_an_error(tmp_path: Path, family: Family) -> None:
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory([])])
    made, _ = opened(family, t=DataSource(path=str(tmp_path / "t.jsonl")))
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory([samples.crop(0)])])
    with pytest.raises(StoreError, match=r"t\.jsonl, line 1 has \d+ tokens and had \d+ when it was counted"):
        made[0]


def test_workers_get_the_same_samples(tmp_path: Path, family: Family) -> None:
    write_parquet(tmp_path / "d", dirty_rows(), shards=2)
    made, _ = opened(family, s=DataSource(format="thyme-sft", path=str(tmp_path / "d")))
    copy = pickle.loads(pickle.dumps(made))
    assert copy.fingerprint == made.fingerprint
    assert all(np.array_equal(copy[i].ids, made[i].ids) for i in range(len(made)))
    assert is_by_place(made)
    assert not is_stream(made)


def test_reading_keeps_nothing_but_numbers(tmp_path: Path, family: Family) -> None:
    sizes = []
    for size in (5, 25):
        folder = tmp_path / str(size)
        write_trajectories(
            folder / "t.jsonl", [samples.trajectory([], images=[samples.picture(i)]) for i in range(size)]
        )
        made, _ = opened(family, t=DataSource(path=str(folder / "t.jsonl")))
        assert all(made[i].images[0].loaded for i in range(size))
        sizes.append(len(pickle.dumps(made)))
    assert (sizes[1] - sizes[0]) / 20 < 60  # bytes a sample; its picture has 12,600


# --- what cannot be


def test_no_usable_row_is_an_error_with_the_drops(tmp_path: Path, family: Family) -> None:
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory([samples.crop(0)])] * 3)
    with pytest.raises(UsageError, match="there is no sample to train on: t: 3 rows, 3 too_long"):
        opened(family, limit=5, t=DataSource(path=str(tmp_path / "t.jsonl")))


def test_an_unknown_format_is_named(family: Family) -> None:
    with pytest.raises(ConfigError, match="source 't': unknown format 'csv'; known: trajectories, thyme-sft"):
        opened(family, t=DataSource(format="csv", path="a.csv"))


def _as_rank(rank: int, port: int, path: Path, checkpoint: Path, said: Any) -> None:
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank))
    if rank:
        index._Job.__call__ = None  # type: ignore[assignment]  # only the main process may count
    family = load_family(checkpoint)
    for limit in (500, 5):
        try:
            made, reports = opened(family, limit=limit, t=DataSource(path=str(path)))
            said.put((rank, (made.fingerprint, len(made), len(made[1]), reports)))
        except UsageError as error:
            said.put((rank, str(error)))


def test_of_several_processes_one_counts(tmp_path: Path, tiny_qwen2_5_vl: Path) -> None:
    write_trajectories(tmp_path / "t.jsonl", [samples.trajectory([samples.crop(i)]) for i in range(3)])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    forked = multiprocessing.get_context("fork")
    queue = forked.Queue()
    arguments = (port, tmp_path / "t.jsonl", tiny_qwen2_5_vl, queue)
    ranks = [forked.Process(target=_as_rank, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    said: dict[int, list[Any]] = {0: [], 1: []}
    for rank, heard in [queue.get(timeout=60) for _ in range(4)]:
        said[rank].append(heard)
    for process in ranks:
        process.join(60)
    assert said[0] == said[1]
    assert said[0][0][1] == 3
    assert "there is no sample to train on" in said[0][1]
