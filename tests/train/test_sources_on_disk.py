"""Readers: rows by place and in order from every kind of file, errors that name file and row."""

from __future__ import annotations

import base64
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import samples
from published_rows import b64, file_of, row_of, text_row, write_parquet

from thyme.config.training import DataSource
from thyme.data.published import to_row
from thyme.errors import ConfigError, EncodeError, StoreError
from thyme.store import write_trajectories
from thyme.train.data.published import (
    ParquetParts,
    PublishedLines,
    PublishedTable,
    hub_files,
    open_published,
    stream_published,
)
from thyme.train.data.rows import RandomParts, block, name_of, peek, print_of
from thyme.train.data.sources import count_rows
from thyme.train.data.trajectories import TrajectoryRows, open_trajectories
from thyme.types import Trajectory

ROWS = [row_of(i, rounds=i % 3) if i % 4 else text_row(i) for i in range(11)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


def source(path: Path | str, **options: Any) -> DataSource:
    return DataSource(format="thyme-sft", path=str(path), **options)


def as_lines(folder: Path) -> Path:
    """JSON lines as the published README has them: images are paths."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for i, row in enumerate(ROWS):
        made = {**row, "image": []}
        for k, image in enumerate(row["image"]):
            name = f"images/{i}-{k}.jpg"
            (folder / name).write_bytes(base64.b64decode(image))
            made["image"].append(name)
        lines.append(json.dumps(made) + "\n")
    (folder / "data.jsonl").write_text("".join(lines))
    return folder / "data.jsonl"


def written(kind: str, folder: Path) -> Path:
    if kind == "lines":
        return as_lines(folder)
    write_parquet(folder, ROWS, shards=3)
    return folder if kind == "folder" else folder / "*.parquet"


@pytest.mark.parametrize("kind", ["folder", "glob", "lines"])
def test_rows_come_back_by_place_and_in_order(tmp_path: Path, kind: str) -> None:
    rows = open_published(source(written(kind, tmp_path / "d")))
    assert isinstance(rows, PublishedLines if kind == "lines" else PublishedTable)
    assert [to_row(item) for item in rows] == ROWS
    assert to_row(rows[7]) == ROWS[7]
    light = peek(rows, 7)
    assert isinstance(light, Trajectory)
    assert not light.problem.images[0].loaded
    assert light.problem.images[0].size == (60, 40)


@pytest.mark.parametrize("kind", ["folder", "glob", "lines"])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("limit", [None, 6])
def test_parts_hold_each_row_once_in_order(tmp_path: Path, kind: str, parts: int, limit: int | None) -> None:
    streamed = stream_published(source(written(kind, tmp_path / "d"), limit=limit))
    assert isinstance(streamed, RandomParts if kind == "lines" else ParquetParts)
    found = [[to_row(draw()) for draw in streamed.part(i, parts)] for i in range(parts)]  # type: ignore[arg-type]
    assert [row for part in found for row in part] == ROWS[:limit]
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert streamed.rows == len(ROWS[:limit])


def test_blocks_cover_everything_once() -> None:
    for rows in range(9):
        for count in range(1, 6):
            assert [i for k in range(count) for i in block(rows, k, count)] == list(range(rows))


def test_a_few_rows_are_read_without_converting_the_rest(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d", ROWS, shards=3)
    rows = open_published(source(tmp_path / "d", limit=6))
    assert [to_row(item) for item in rows] == ROWS[:6]
    assert [name_of(rows, i) for i in (3, 4)] == [f"train-0000{k}-of-00003.parquet, row {3 - 3 * k}" for k in (0, 1)]
    assert count_rows(source(tmp_path / "d")) == len(ROWS)
    assert count_rows(source(tmp_path / "d", limit=3)) == 3
    assert not (tmp_path / "hf").exists()
    open_published(source(tmp_path / "d"))
    assert (tmp_path / "hf").exists()


def test_row_groups_outside_of_a_part_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset
    from pyarrow import parquet

    Dataset.from_list([{**text_row(i), "image": [""]} for i in range(40)]).to_parquet(
        tmp_path / "a.parquet", batch_size=10
    )
    asked: list[list[int]] = []
    original = parquet.ParquetFile.iter_batches

    def spying(self: Any, size: int, *, row_groups: list[int], **rest: Any) -> Any:
        asked.append(list(row_groups))
        return original(self, size, row_groups=row_groups, **rest)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", spying)
    items = [draw() for draw in stream_published(source(tmp_path)).part(2, 3)]
    assert asked == [[2, 3]]
    assert [item.id for item in items] == [f"a.parquet, row {i}" for i in range(26, 40)]  # type: ignore[union-attr]


def test_a_subset_picks_files_of_a_folder(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", ROWS[:4], shards=2, stem="single_round")
    write_parquet(tmp_path / "data", ROWS[4:], shards=2, stem="2round")
    assert len(open_published(source(tmp_path))) == len(ROWS)
    assert len(open_published(source(tmp_path, subset="2round"))) == len(ROWS) - 4
    with pytest.raises(ConfigError, match="computation"):
        open_published(source(tmp_path, subset="computation"))


def test_files_of_a_hub_dataset_are_found_without_loading_them(tmp_path: Path) -> None:
    # The hub cannot be reached from a test; a folder in its layout is resolved by the same library in the same way.
    write_parquet(tmp_path / "repo" / "data", ROWS[:6], shards=2, stem="train")
    write_parquet(tmp_path / "repo" / "data", ROWS[6:], shards=1, stem="test")
    files = hub_files(source(tmp_path / "repo"))
    assert [Path(file).name for file in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    parts = ParquetParts(files, "x")
    assert [to_row(draw()) for draw in parts.part(0, 1)] == ROWS[:6]  # type: ignore[arg-type]
    assert [Path(file).name for file in hub_files(source(tmp_path / "repo", subset="test"))] == [
        "test-00000-of-00001.parquet"
    ]
    for missing in ({"split": "2round"}, {"subset": "2round"}):
        with pytest.raises(ConfigError, match="no split '2round'; its splits: train, test"):
            hub_files(source(tmp_path / "repo", **missing))


def test_a_hub_dataset_is_read_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "some" / "repo" / "data", ROWS[:6], shards=2, stem="single")
    write_parquet(tmp_path / "some" / "repo" / "data", ROWS[6:], shards=1, stem="2round")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thyme.train.data.published._files", lambda _: [])  # as if it were not on this machine
    rows = open_published(source("some/repo", subset="2round"))
    assert [to_row(item) for item in rows] == ROWS[6:]
    assert name_of(rows, 1) == "some/repo (2round), row 1"


@pytest.mark.parametrize("read", [open_published, stream_published])
def test_a_hub_that_cannot_be_reached_is_named(read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StoreError, match=r"'nobody/nothing' cannot be read as a dataset.*nothing of that name is here"):
        read(source("nobody/nothing"))


@pytest.mark.parametrize("read", [open_published, stream_published])
@pytest.mark.parametrize("path", ["missing.jsonl", "no/such/folder", "no/such.parquet", "*.nothing", ""])
def test_a_path_that_leads_nowhere_is_named(read: Callable[..., Any], path: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"'{path}' is neither")):
        read(source(path))


@pytest.mark.parametrize("read", [open_published, stream_published])
def test_other_columns_and_other_files_are_named(tmp_path: Path, read: Callable[..., Any]) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(StoreError, match=r"a\.parquet has no column 'image'"):
        read(source(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(StoreError, match=r"a\.parquet cannot be read as a parquet file"):
        read(source(tmp_path))


def test_files_of_several_kinds_are_not_guessed_at(tmp_path: Path) -> None:
    write_parquet(tmp_path, ROWS[:2], shards=1)
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="holds parquet and JSON files"):
        open_published(source(tmp_path))


def test_damaged_lines_and_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"image": []}\nnot json\n[1]\n')
    rows = open_published(source(path))
    assert [name_of(rows, i) for i in range(3)] == ["a.jsonl, line 2", "a.jsonl, line 3", "a.jsonl, line 4"]
    with pytest.raises(EncodeError, match=r"a\.jsonl, line 2: 'question' is missing"):
        rows[0]
    with pytest.raises(StoreError, match=r"a\.jsonl, line 3: not JSON"):
        rows[1]
    with pytest.raises(StoreError, match=r"a\.jsonl, line 4: not an object"):
        peek(rows, 2)


def test_a_row_of_a_table_is_named_by_its_file(tmp_path: Path) -> None:
    broken = {**text_row(), "response": "no tags"}
    write_parquet(tmp_path, [*ROWS[:4], broken], shards=2)
    rows = open_published(source(tmp_path))
    with pytest.raises(EncodeError, match=r"train-00001-of-00002\.parquet, row 1: the response has missing_answer"):
        rows[4]


def test_pictures_as_a_dataset_keeps_them_are_read(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Image, List, Value

    features = Features({"image": List(Image()), "question": Value("string"), "response": Value("string")})
    data = file_of(30, 20)
    row = {"image": [{"bytes": data, "path": None}], "question": "<image>?", "response": text_row()["response"]}
    Dataset.from_list([row], features=features).to_parquet(tmp_path / "a.parquet")
    expected = {**row, "image": [b64(data)]}
    assert to_row(open_published(source(tmp_path))[0]) == expected
    (draw,) = stream_published(source(tmp_path)).part(0, 1)
    assert to_row(draw()) == expected  # type: ignore[arg-type]


# --- trajectories


def stored(path: Path, count: int = 5) -> list[Trajectory]:
    made = [
        samples.trajectory([samples.crop(i)] * (i % 3), images=[samples.picture(i)], name=f"t{i}") for i in range(count)
    ]
    write_trajectories(path, made)
    return made


def test_trajectories_are_read_by_offset_with_their_images(tmp_path: Path) -> None:
    made = stored(tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("\n")
    stored(tmp_path / "b.jsonl", 2)
    rows = pickle.loads(pickle.dumps(open_trajectories(DataSource(path=str(tmp_path)))))
    assert isinstance(rows, TrajectoryRows)
    assert [item.id for item in rows] == ["t0", "t1", "t2", "t3", "t4", "t0", "t1"]
    assert rows[3].problem.images[0].loaded
    assert rows[3].problem.images[0].id == made[3].problem.images[0].id
    assert not rows.peek(3).problem.images[0].loaded
    assert rows.name(6) == "b.jsonl, line 2"
    with pytest.raises(IndexError, match="7 rows"):
        rows[7]


def test_trouble_with_trajectories_is_named(tmp_path: Path) -> None:
    made = stored(tmp_path / "a.jsonl", 3)
    rows = open_trajectories(DataSource(path=str(tmp_path / "a.jsonl")))
    image = tmp_path / "images" / f"{made[1].problem.images[0].id}.png"
    image.write_bytes(image.read_bytes()[:50])
    with pytest.raises(EncodeError, match="damaged") as damaged:
        rows[1]
    assert damaged.value.reason == "image_damaged"
    image.unlink()
    for read in (rows.__getitem__, rows.peek):
        with pytest.raises(EncodeError, match=r"is missing|cannot be read") as missing:
            read(1)
        assert missing.value.reason == "image_missing"
    (tmp_path / "b.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match=r"b.jsonl, line 1: damaged or not a trajectory"):
        open_trajectories(DataSource(path=str(tmp_path / "b.jsonl"))).peek(0)
    with pytest.raises(ConfigError, match=r"no such file, nor a folder with a .jsonl file"):
        open_trajectories(DataSource(path=str(tmp_path / "c.jsonl")))


def test_a_changed_file_has_another_print(tmp_path: Path) -> None:
    stored(tmp_path / "a.jsonl")
    opened = DataSource(path=str(tmp_path / "a.jsonl"))
    first = print_of(open_trajectories(opened))
    assert print_of(open_trajectories(opened)) == first
    stored(tmp_path / "a.jsonl", 4)
    assert print_of(open_trajectories(opened)) != first


def test_rows_without_a_print_of_their_own_are_told_apart_by_what_they_hold() -> None:
    rows = [samples.trajectory([], name=f"t{i}") for i in range(5)]
    assert print_of(rows) == print_of(list(rows))
    assert len({print_of(rows), print_of(rows[:4]), print_of([*rows[:4], rows[0]]), print_of([])}) == 4
