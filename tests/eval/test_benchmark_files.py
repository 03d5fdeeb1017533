"""A benchmark's file is found, and read as the same problems whatever layout it has."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_rows import encoded, picture, problems_of, write_rows

from thyme.errors import MissingExtraError, StoreError, UsageError
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.custom import custom
from thyme.eval.benchmarks.files import (
    count_problems,
    data_folders,
    digest,
    find_file,
    read_benchmark,
    read_numbered,
)
from thyme.types import Problem

COLUMNS = ["index", "image", "question", "A", "B", "C", "D", "answer", "category"]
ROWS: list[dict[str, Any]] = [
    dict(zip(COLUMNS, row, strict=True))
    for row in (
        [0, encoded(0), "What is the material of the glove?", "rubber", "cotton", "kevlar", "leather", "A",
         "direct_attributes"],
        [1, encoded(1), "Is the dog left of the cat?", "left", "right", None, None, "B", "relative_position"],
        [2, encoded(2), "What colour?", "red", "None", "", "blue", "D", "direct_attributes"],
    )
]  # fmt: skip


def tsv(path: Path) -> Path:
    return write_rows(path / "VStarBench.tsv", COLUMNS, [row.values() for row in ROWS])


def parquet(path: Path) -> Path:
    """As Hugging Face stores images: a struct of bytes and path."""
    images = [{"bytes": base64.b64decode(row["image"]), "path": None} for row in ROWS]
    table = pa.Table.from_pylist([{**row, "image": image} for row, image in zip(ROWS, images, strict=True)])
    pq.write_table(table, path / "VStarBench.parquet")
    return path / "VStarBench.parquet"


def json_lines(path: Path) -> Path:
    (path / "VStarBench.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    return path / "VStarBench.jsonl"


def json_array(path: Path) -> Path:
    (path / "VStarBench.json").write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    return path / "VStarBench.json"


def saved(path: Path) -> Path:
    """What ``save_to_disk`` of the datasets library writes, of one split."""
    datasets.Dataset.from_list(ROWS).save_to_disk(path / "saved", num_shards=2)
    return path / "saved"


def saved_splits(path: Path) -> Path:
    """The same of a dictionary, of which the split for testing is taken."""
    splits = {"train": datasets.Dataset.from_list(ROWS[:1]), "test": datasets.Dataset.from_list(ROWS)}
    datasets.DatasetDict(splits).save_to_disk(path / "splits")
    return path / "splits"


def hub_folder(path: Path) -> Path:
    """Parquet in shards below ``data``, as a data set is downloaded."""
    folder = path / "VStarBench" / "data"
    folder.mkdir(parents=True)
    for shard, rows in enumerate((ROWS[:2], ROWS[2:])):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"test-{shard:05}-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), folder / "train-00000-of-00001.parquet")
    return path / "VStarBench"


def without_image_names(problem: Problem) -> dict[str, Any]:
    return problem.model_dump(exclude={"images": {"__all__": {"name"}}})


LAYOUTS = [tsv, parquet, json_lines, json_array, saved, saved_splits, hub_folder]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_problems(tmp_path: Path, layout: Any) -> None:
    path = layout(tmp_path)
    found = problems_of("VStarBench", path)
    assert [problem.id for problem in found] == ["0", "1", "2"]
    assert found[0].choices == ("rubber", "cotton", "kevlar", "leather")
    assert found[0].question == "What is the material of the glove?"
    assert [(problem.answer, problem.kind) for problem in found[:2]] == [
        ("A", "direct_attributes"),
        ("B", "relative_position"),
    ]
    assert [problem.images[0].encoded for problem in found] == [picture(seed) for seed in range(3)]
    assert count_problems(path) == 3
    assert not any(problem.meta for problem in found)


def test_an_option_that_is_left_out_moves_the_letters_behind_it(tmp_path: Path) -> None:
    """Options are shown as A, B, C without a gap, so the reference names them so, too; ``None`` is an option."""
    third = problems_of("VStarBench", tsv(tmp_path))[2]
    assert (third.choices, third.answer) == (("red", "None", "blue"), "C")


def test_rows_of_several_images_and_of_images_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "images" / "BLINK").mkdir(parents=True)
    (tmp_path / "images" / "BLINK" / "it's 4.png").write_bytes(picture(4))
    columns = ["index", "image", "image_path", "question", "A", "B", "answer", "category"]
    rows = [
        [
            "0",
            str([encoded(0), encoded(1)]),
            "['0_0.png', '0_1.png']",
            "Which?",
            "the first",
            "the second",
            "A",
            "Jigsaw",
        ],
        ["1", json.dumps([encoded(2)]), "1.png", "Which?", "the first", "the second", "B", "Jigsaw"],
        ["2", "0", "x.png", "Which?", "the first", "the second", "B", "Jigsaw"],
    ]
    problems = problems_of("BLINK", write_rows(tmp_path / "BLINK.tsv", columns, rows))
    assert [[image.encoded for image in problem.images] for problem in problems] == [
        [picture(0), picture(1)],
        [picture(2)],
        [picture(0), picture(1)],
    ]
    local = [["0", """["it's 4.png"]""", "Which?", "a", "b", "A", "c"],
             ["1", str(tmp_path / "images" / "BLINK" / "it's 4.png"), "Which?", "a", "b", "A", "c"]]  # fmt: skip
    columns.remove("image")
    path = write_rows(tmp_path / "BLINK_local.tsv", columns, local)
    assert [problem.images[0].encoded for problem in problems_of("BLINK", path)] == [picture(4)] * 2


@pytest.mark.parametrize("named", ["../secret.png", "/etc/hostname.png", "{outside}"])
def test_a_row_cannot_name_a_picture_outside_of_its_folder(tmp_path: Path, named: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    (tmp_path / "data").mkdir()
    named = named.format(outside=tmp_path / "secret.png")
    path = write_rows(
        tmp_path / "data" / "a.tsv", ["index", "image_path", "question", "answer"], [[0, named, "?", "x"]]
    )
    with pytest.raises(StoreError, match=r"a\.tsv, line 2: .*is not in"):
        list(read_benchmark(custom(path), path))


def test_rows_without_image_are_left_out_where_others_have_one(tmp_path: Path) -> None:
    columns = ["index", "image", "question", "answer", "category", "l2-category"]
    rows = [
        ["VS_chart_0_0_0_0", "", "Is it?", "No", "VS", "chart"],
        ["VS_chart_1_0_1_0", encoded(), "Is it?", "No", "VS", "chart"],
    ]
    path = write_rows(tmp_path / "HallusionBench.tsv", columns, rows)
    assert [problem.id for problem in problems_of("HallusionBench", path)] == ["VS_chart_1_0_1_0"]
    assert count_problems(path) == 1


def test_questions_without_images_come_from_files_without_such_columns(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "sums.tsv", ["index", "question", "answer"], [[0, "1 + 1?", "2"]])
    [problem] = read_benchmark(custom(path), path)
    assert (problem.images, problem.answer) == ((), "2")


def test_limit_places_and_a_random_part(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.tsv", ["index", "question", "answer"], [[n, "?", "x"] for n in range(40)])
    own = custom(path)
    assert [problem.id for problem in read_benchmark(own, path, limit=3)] == ["0", "1", "2"]
    assert count_problems(path, limit=3) == 3
    assert count_problems(path, limit=99) == 40
    drawn = [[problem.id for problem in read_benchmark(own, path, limit=9, shuffle_seed=seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 9
    assert drawn[0] == sorted(drawn[0], key=int)
    assert len(list(read_benchmark(own, path, limit=99, shuffle_seed=1))) == 40
    odd = list(read_numbered(own, path, limit=9, shuffle_seed=1, wanted=lambda place: place % 2 == 1))
    assert [(place, problem.id) for place, problem in odd] == [(place, drawn[0][place]) for place in (1, 3, 5, 7)]


def test_images_that_are_not_wanted_are_not_decoded(tmp_path: Path) -> None:
    rows = [[0, base64.b64encode(b"no picture at all" * 9).decode(), "?", "x"], [1, encoded(), "?", "x"]]
    path = write_rows(tmp_path / "a.tsv", ["index", "image", "question", "answer"], rows)
    assert [place for place, _ in read_numbered(custom(path), path, wanted=lambda place: place == 1)] == [1]
    assert count_problems(path) == 2
    with pytest.raises(StoreError, match=r"a\.tsv, line 2: .*not an image"):
        list(read_benchmark(custom(path), path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["", encoded(), "?", "a", "b", "A", "c"], "'index' is missing or empty"),
        (["0", encoded(), " ", "a", "b", "A", "c"], "'question' is missing or empty"),
        (["0", encoded()[:-40] + "*" * 40, "?", "a", "b", "A", "c"], "not base64"),
        (["0", encoded()[: len(encoded()) // 8 * 4], "?", "a", "b", "A", "c"], "damaged or cut off"),
        (["0", "[" + encoded() + "]", "?", "a", "b", "A", "c"], "looks like a list"),
        (["0", "17", "?", "a", "b", "A", "c"], "row '17', which is not in the file"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, row: list[str], message: str) -> None:
    columns = ["index", "image", "question", "A", "B", "answer", "category"]
    path = write_rows(tmp_path / "MMStar.tsv", columns, [["99", encoded(), "?", "a", "b", "A", "c"], row])
    with pytest.raises(StoreError, match=rf"MMStar\.tsv, line 3: no row of MMStar: .*{message}"):
        problems_of("MMStar", path)


def test_the_same_index_twice(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.tsv", ["index", "question", "answer"], [[5, "?", "x"], [5, "?", "x"]])
    with pytest.raises(StoreError, match=r"line 3: the index '5' was there before"):
        list(read_benchmark(custom(path), path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"index": 0, "question": "?"}\n{"index"', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl, line 1: a list, not an object"),
        ("a.json", b'{"index": 0}', "holds no array of rows"),
        ("a.json", b'[{"index": 0, "question": "?", "answer": "x"}, {"ind', r"a\.json, entry 2: not JSON, or cut off"),
        ("a.json", b"[3]", r"a\.json, entry 1: a int"),
        ("a.parquet", b"PAR1 nothing", "not readable as Parquet"),
        ("a.arrow", b"nothing", "not readable as Arrow"),
    ],
)
def test_damaged_files_of_other_layouts(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=message):
        list(read_benchmark(custom(tmp_path / name), tmp_path / name))


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"thyme-vl\[eval\]"):
        problems_of("VStarBench", path)


def test_a_json_array_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = [{"index": n, "question": "?" * 700_000, "answer": "]"} for n in range(4)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [one.id for one in read_benchmark(custom(tmp_path / "a.json"), tmp_path / "a.json")] == ["0", "1", "2", "3"]


# --- finding ----------------------------------------------------------------------------------------------------------


def test_names_are_looked_for_in_folders_and_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    path = tsv(second)
    assert find_file("VStarBench", [first, second]) == path
    (first / "VStarBench.parquet").touch()
    assert find_file("VStarBench", [first, second]) == first / "VStarBench.parquet"
    assert find_file(str(path), []) == path
    assert find_file(str(second), []) == second
    (second / "hr_bench_4k.tsv").touch()
    assert find_file("HRBench4K", [second], other=BENCHMARKS["HRBench4K"].files) == second / "hr_bench_4k.tsv"
    (second / "MMStar_local.tsv").touch()
    assert find_file("MMStar", [first, second]) == second / "MMStar_local.tsv"
    (second / "BLINK").mkdir()
    assert find_file("BLINK", [first, second]) == second / "BLINK"


def test_a_folder_may_be_named_without_a_slash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert find_file("mine", []) == Path("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.tsv").touch()
    assert find_file("mine", [tmp_path / "data"]) == tmp_path / "data" / "mine.tsv"


def test_what_is_not_found_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=rf"no BLINK\.tsv in {tmp_path}; .*--data, or the file with --bench BLINK=PATH"
    ):
        find_file("BLINK", [tmp_path])
    with pytest.raises(UsageError, match="no such file or folder"):
        find_file(str(tmp_path / "a.tsv"), [])
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(UsageError, match=r"no \.tsv, \.jsonl"):
        find_file(str(tmp_path / "a.xlsx"), [])


def test_folders_of_vlmevalkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LMUData", str(tmp_path / "lmu"))
    assert data_folders(tmp_path / "own") == [tmp_path / "own", tmp_path / "lmu", tmp_path / "LMUData"]
    monkeypatch.delenv("LMUData")
    assert data_folders() == [tmp_path / "LMUData"]


def test_a_folder_of_several_splits_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("hrbench_4k", "hrbench_8k"):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / f"{name}-00000-of-00001.parquet")
    with pytest.raises(UsageError, match="holds hrbench_4k, hrbench_8k; name one of them by its path"):
        count_problems(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nothing of save_to_disk"):
        count_problems(tmp_path / "empty")


def test_a_saved_set_that_lacks_a_file(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    next(folder.glob("*.arrow")).unlink()
    with pytest.raises(StoreError, match=r"lacks data-00000-of-00002\.arrow"):
        count_problems(folder)


def test_the_digest_is_the_md5_that_vlmevalkit_names(tmp_path: Path) -> None:
    path = tsv(tmp_path)
    assert digest(path) == hashlib.md5(path.read_bytes()).hexdigest()
    folder = saved(tmp_path)
    before = digest(folder)
    assert before == digest(folder)
    shard = sorted(folder.glob("*.arrow"))[0]
    shard.write_bytes(shard.read_bytes() + b"x")
    assert digest(folder) != before
