"""Every layout that a source may have gives the same problems, by place, and facts without decoding a pixel."""

from __future__ import annotations

import base64
import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published_rows import file_of

import thyme.data.sources.columns as columns_module
from thyme.config.data import SourceSettings
from thyme.data.sources import Facts, Source, open_source
from thyme.errors import ConfigError, EncodeError, StoreError

COUNT = 7


def picture(i: int) -> bytes:
    return file_of(40 + i, 30, seed=i, format="PNG")


def plain(i: int) -> dict[str, Any]:
    """What row i holds beside its picture; the third has no box, the fourth no reference."""
    return {
        "question": f'What is "at" place {i}?\nLook closely.',
        "answer": None if i == 3 else f"thing {i}",
        "box": None if i == 2 else [i, 2, i + 10, 20],
        "kind": "even" if i % 2 == 0 else "odd",
    }


def as_pictures(folder: Path) -> Path:
    for i in range(COUNT):
        (folder / f"sub{i % 2}").mkdir(parents=True, exist_ok=True)
        (folder / f"sub{i % 2}" / f"{i}.png").write_bytes(picture(i))
        (folder / f"sub{i % 2}" / f"{i}.json").write_text(json.dumps(plain(i)))
    return folder


def as_metadata(folder: Path) -> Path:
    folder.mkdir()
    for i in range(COUNT):
        (folder / f"{i}.png").write_bytes(picture(i))
    rows = (json.dumps({"file_name": f"{i}.png", **plain(i)}) + "\n" for i in range(COUNT))
    (folder / "metadata.jsonl").write_text("".join(rows))
    return folder


def as_json_lines(folder: Path) -> Path:
    folder.mkdir()
    rows = ({"image": base64.b64encode(picture(i)).decode(), **plain(i)} for i in range(COUNT))
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return folder / "rows.jsonl"


def as_tsv(folder: Path) -> Path:
    folder.mkdir()
    with (folder / "rows.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["image", *plain(0)])
        for i in range(COUNT):
            row = plain(i)
            row["box"] = json.dumps(row["box"]) if row["box"] else ""
            writer.writerow([base64.b64encode(picture(i)).decode(), *("" if v is None else v for v in row.values())])
    return folder / "rows.tsv"


def rows_of_table() -> dict[str, list[Any]]:
    rows = [plain(i) for i in range(COUNT)]
    return {"image": [picture(i) for i in range(COUNT)], **{name: [row[name] for row in rows] for name in rows[0]}}


def as_parquet(folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    table = pa.table(rows_of_table())
    parquet.write_table(table.slice(0, 4), folder / "train-00000-of-00002.parquet", row_group_size=2)
    parquet.write_table(table.slice(4), folder / "train-00001-of-00002.parquet", row_group_size=2)
    parquet.write_table(table.slice(0, 1), folder / "test-00000-of-00001.parquet")
    return folder


def data_set() -> Any:
    import datasets

    values = rows_of_table()
    features = datasets.Features(
        image=datasets.Image(),
        question=datasets.Value("string"),
        answer=datasets.Value("string"),
        box=datasets.List(datasets.Value("int64")),
        kind=datasets.Value("string"),
    )
    values["image"] = [{"bytes": data, "path": None} for data in values["image"]]
    return datasets.Dataset.from_dict(values, features=features)


def as_hub_parquet(folder: Path) -> Path:
    """As `datasets` writes a Parquet file."""
    folder.mkdir()
    data_set().to_parquet(folder / "train.parquet")
    return folder / "train.parquet"


def as_saved(folder: Path) -> Path:
    data_set().save_to_disk(folder)
    return folder


def as_saved_splits(folder: Path) -> Path:
    import datasets

    datasets.DatasetDict(train=data_set(), test=data_set().select([0])).save_to_disk(folder)
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "pictures": as_pictures,
    "metadata": as_metadata,
    "jsonl": as_json_lines,
    "tsv": as_tsv,
    "parquet": as_parquet,
    "hub parquet": as_hub_parquet,
    "saved": as_saved,
    "saved splits": as_saved_splits,
}


@pytest.fixture(params=LAYOUTS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return open_source("mine", SourceSettings(path=str(LAYOUTS[request.param](tmp_path / "data"))))


def order(source: Source) -> list[int]:
    """Number of the row at each place; pictures are in order of their paths."""
    return [source.problem(place).images[0].width - 40 for place in range(len(source))]


def test_each_row_is_had_by_place(source: Source) -> None:
    assert isinstance(source, Source)
    assert len(source) == COUNT
    assert sorted(order(source)) == list(range(COUNT))
    for place, i in reversed(list(enumerate(order(source)))):
        problem, told = source.problem(place), plain(i)
        assert problem.id == f"mine-{place}"
        assert (problem.question, problem.answer, problem.kind) == (told["question"], told["answer"], told["kind"])
        assert problem.images[0].encoded == picture(i)
        boxes = {} if told["box"] is None else {"box": tuple(told["box"]), "boxes": [tuple(told["box"])]}
        assert problem.meta == boxes


def test_facts_are_told_without_decoding(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = order(source)
    monkeypatch.setattr(columns_module, "row_images", None)  # whoever decodes would call it
    for place, i in enumerate(numbers):
        assert source.facts(place) == Facts(images=1, answer=i != 3, box=i != 2, kind=plain(i)["kind"])


def test_a_source_can_be_sent(source: Source) -> None:
    source.problem(0)
    sent = pickle.loads(pickle.dumps(source))
    assert sent.problem(5) == source.problem(5)
    assert sent.fingerprint == source.fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_source_is_known_by_what_it_holds(tmp_path: Path, layout: str) -> None:
    settings = SourceSettings(path=str(LAYOUTS[layout](tmp_path / "data")))
    assert open_source("a", settings).fingerprint == open_source("a", settings).fingerprint


def test_places_beyond_the_end_are_refused(source: Source) -> None:
    for ask in (source.problem, source.facts):
        for place in (-1, COUNT):
            with pytest.raises(IndexError):
                ask(place)


def test_count_takes_the_first_rows(tmp_path: Path) -> None:
    path = str(as_json_lines(tmp_path / "data"))
    few, all_rows = open_source("a", SourceSettings(path=path, count=2)), open_source("a", SourceSettings(path=path))
    assert len(few) == 2
    assert few.fingerprint != all_rows.fingerprint


def test_a_split_is_taken_and_another_refused(tmp_path: Path) -> None:
    for layout in (as_parquet, as_saved_splits):
        path = str(layout(tmp_path / layout.__name__))
        assert len(open_source("a", SourceSettings(path=path, split="test"))) == 1
        with pytest.raises(ConfigError, match=r"no split 'val'; its splits: (test, train|train, test)"):
            open_source("a", SourceSettings(path=path, split="val"))


def test_large_row_groups_are_read_in_passing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(as_hub_parquet(tmp_path / "data"))
    kept = open_source("a", SourceSettings(path=path))
    monkeypatch.setattr("thyme.data.sources.arrow.KEPT_BYTES", 100)
    streamed = open_source("a", SourceSettings(path=path))
    for place in (6, 0, 3):
        assert streamed.problem(place) == kept.problem(place)


def test_row_groups_are_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thyme.data.sources.arrow import ParquetRows

    rows = ParquetRows([as_hub_parquet(tmp_path / "one"), *sorted(as_parquet(tmp_path / "more").glob("train*"))][1:])
    size = max(rows.row(0)["image"].__sizeof__() * 3, 1)
    monkeypatch.setattr("thyme.data.sources.arrow.KEPT_BYTES", size)
    for index in range(len(rows)):
        rows.row(index)
        assert len(rows._kept) == 1 or sum(t.nbytes for t in rows._kept.values()) <= size


def test_facts_of_parquet_do_not_read_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thyme.data.sources.arrow import ParquetRows

    read: list[tuple[str, ...]] = []
    true_read = ParquetRows._read
    monkeypatch.setattr(ParquetRows, "_read", lambda self, i, names: read.append(names) or true_read(self, i, names))
    source = open_source("a", SourceSettings(path=str(as_hub_parquet(tmp_path / "data"))))
    assert source.facts(1).images == 1
    assert read == [("question", "answer", "box", "kind")]


@pytest.mark.parametrize("layout", ["parquet", "saved"])
def test_rows_without_images_are_known_as_such(tmp_path: Path, layout: str) -> None:
    import datasets

    features = datasets.Features(images=datasets.List(datasets.Image()), question=datasets.Value("string"))
    images = [[], [{"bytes": picture(1), "path": None}, {"bytes": picture(2), "path": None}], None]
    made = datasets.Dataset.from_dict({"images": images, "question": ["a", "b", "c"]}, features=features)
    path = tmp_path / "data.parquet" if layout == "parquet" else tmp_path / "data"
    _ = made.to_parquet(path) if layout == "parquet" else made.save_to_disk(path)
    source = open_source("a", SourceSettings(path=str(path)))
    assert [source.facts(i).images for i in range(3)] == [0, 2, 0]
    assert [len(source.problem(i).images) for i in range(3)] == [0, 2, 0]


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a"}\n{"question": "b"\n{"question": ""}\n{"question": "d", "image": "gone.png"}\n')
    source = open_source("a", SourceSettings(path=str(path)))
    with pytest.raises(StoreError, match="line 2: not JSON"):
        source.problem(1)
    with pytest.raises(EncodeError, match=r"rows\.jsonl, line 3 has no question") as caught:
        source.problem(2)
    assert caught.value.reason == "missing_field"
    with pytest.raises(EncodeError, match=r"gone\.png") as caught:
        source.problem(3)
    assert caught.value.reason == "image_missing"


def test_a_path_cannot_leave_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(0))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(json.dumps({"question": "a", "image": "../secret.png"}) + "\n")
    with pytest.raises(EncodeError, match="out of the folder"):
        open_source("a", SourceSettings(path=str(folder))).problem(0)


def test_a_tsv_row_of_another_width_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("question\tanswer\na\tb\nc\nd\te\n")
    source = open_source("a", SourceSettings(path=str(tmp_path / "rows.tsv")))
    with pytest.raises(StoreError, match="line 3: 1 fields, the header names 2"):
        source.problem(1)
    assert (len(source), source.problem(2).question) == (3, "d")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rows.json", "[]", "jq"),
        ("rows.xlsx", "", "convert it"),
        ("rows.jsonl", "", "holds no rows"),
        ("rows.jsonl", '{"image": "a.png"}\n', r"sources\.mine\.question"),
    ],
)
def test_what_cannot_be_read_is_said_with_a_way_out(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=told):
        open_source("mine", SourceSettings(path=str(tmp_path / name)))


def test_nothing_there_and_no_world_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        open_source("a", SourceSettings(path=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="holds no pictures"):
        open_source("a", SourceSettings(path=str(tmp_path)))
    with pytest.raises(ConfigError, match="no world 'mars'; known are none"):
        open_source("a", SourceSettings(world="mars"))


def test_pictures_alone_are_asked_the_question_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(file_of(30, 20))
    source = open_source("a", SourceSettings(path=str(tmp_path), question="What does the sign say?"))
    problem = source.problem(0)
    assert (problem.question, problem.answer) == ("What does the sign say?", None)
    assert "one" not in problem.images[0].name


def test_worlds_are_opened_by_those_who_bring_them() -> None:
    made = []
    open_source("a", SourceSettings(world="mars", count=3), 7, {"mars": lambda *told: made.append(told)})  # type: ignore[arg-type, func-returns-value]
    assert made[0][0] == "a"
    assert made[0][2] == 7
