"""A small file in the published layout of each benchmark with free answers is read, and its first answer scored."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from thyme.errors import StoreError
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.files import find_file, read_benchmark
from thyme.types import Problem


def png(shade: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(made, "PNG")
    return made.getvalue()


def write_tsv(path: Path, *rows: dict[str, Any]) -> Path:
    """As VLMEvalKit publishes it: pandas' TSV with the picture in base64."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["index", "image", *rows[0]], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for index, row in enumerate(rows):
            writer.writerow({"index": index, "image": base64.b64encode(png(index)).decode(), **row})
    return path


VISTA = {
    "question": "Hint: Please answer the question and provide the correct option letter at the end.\n"
    "Question: What fraction is blue?\nChoices:\n(A) 3/11\n(B) 8/11",
    "question_type": "multi_choice", "answer_type": "text", "answer": "8/11", "answer_option": "B",
    "choices": "['3/11', '8/11']", "precision": "", "task": "figure question answering",
    "category": "math-targeted-vqa",
    "skills": "['arithmetic reasoning', 'logical reasoning']", "grade": "elementary school", "context": "bar chart",
}  # fmt: skip
VERSE = {
    "question": "Please answer the question in the picture.",
    "question_for_eval": "How long is BC?\nChoices:\nA:2\nB:3",
    "question_type": "multi-choice", "answer": "B", "problem_version": "Vision Only", "query_cot": "…", "query_wo": "…",
    "metadata": "{'split': 'testmini', 'source': 'GeoQA', 'subject': 'Plane Geometry', 'subfield': 'Length'}",
}  # fmt: skip
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "ChartQA_TEST": ({"question": "How many?", "answer": "100", "split": "test_human"}, "97"),
    "OCRBench": (
        {"question": "What is written?", "answer": "['CENTRE']", "category": "Regular Text Recognition"}, "centre"
    ),
    "MathVista_MINI": (VISTA, "(B)"),
    "MathVerse_MINI_Vision_Only": (VERSE, "B"),
    "MathVision_MINI": (
        {"question": "How many <image1>?", "choices": "[]", "answer": "12", "category": "counting", "level": "3"}, "12"
    ),
    "MMVet": ({"question": "What is x?", "answer": "-1<AND>-5", "category": "ocr,math"}, "-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_tsv_file_of_vlmevalkit(name: str, tmp_path: Path) -> None:
    row, answer = ROWS[name]
    write_tsv(tmp_path / f"{name}.tsv", row, {**row, "question": "Another?"})
    benchmark = BENCHMARKS[name]
    first, second = read_benchmark(benchmark, find_file(name, [tmp_path], other=benchmark.files))
    assert (first.id, second.id, first.images[0].size) == ("0", "1", (8, 6))
    assert first.kind
    assert first.answer
    assert first.images[0].id != second.images[0].id
    assert benchmark.score(first, answer).value == (None if name == "MMVet" else 1.0)


def test_options_that_stand_in_the_question_are_not_shown_twice(tmp_path: Path) -> None:
    write_tsv(tmp_path / "a.tsv", VISTA, {**VISTA, "question": "What fraction is blue?"})
    inside, apart = read_benchmark(BENCHMARKS["MathVista_MINI"], tmp_path / "a.tsv")
    assert (inside.choices, inside.meta["options"]) == ((), ["3/11", "8/11"])
    assert (apart.choices, "options" in apart.meta) == (("3/11", "8/11"), False)
    score = BENCHMARKS["MathVista_MINI"].score
    assert [score(one, "8/11").value for one in (inside, apart)] == [1.0, 1.0]


def test_mathverse_is_found_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "MathVerse_MINIVOnly.tsv", VERSE)
    benchmark = BENCHMARKS["MathVerse_MINI_Vision_Only"]
    assert find_file(benchmark.name, [tmp_path], other=benchmark.files) == path


def test_mathvista_as_its_authors_publish_it(tmp_path: Path) -> None:
    """Parquet, the whole prompt in ``query``, categories in ``metadata``, the picture in ``decoded_image``."""
    row = {
        "pid": "7", "question": "What fraction is blue?", "query": VISTA["question"], "image": "images/7.jpg",
        "decoded_image": {"bytes": png(), "path": None}, "choices": ["3/11", "8/11"], "unit": None, "precision": None,
        "answer": "8/11", "question_type": "multi_choice", "answer_type": "text",
        "metadata": {"task": "figure question answering", "skills": ["arithmetic reasoning"]},
    }  # fmt: skip
    (made,) = parquet(tmp_path, "MathVista_MINI", row)
    assert (made.id, made.answer, made.kind) == ("7", "B", "figure question answering")
    assert made.question.startswith("Hint:")
    assert list(made.meta["skills"]) == ["arithmetic reasoning"]
    assert made.images[0].size == (8, 6)


def test_tir_bench_is_a_json_array_with_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "spot_difference"
    folder.mkdir(parents=True)
    for name in ("1a.png", "1b.png"):
        (folder / name).write_bytes(png(len(name)))
    rows = [
        {"id": 1, "task": "spot_difference", "prompt": "What differs?", "answer": [1, 4], "meta_data": {},
         "image_1": "data/spot_difference/1a.png", "image_2": "data/spot_difference/1b.png"},
        {"id": 1, "task": "jigsaw", "prompt": "Which order?", "answer": "2, 1, 3, 4", "image_2": None,
         "image_1": "data/spot_difference/1a.png", "meta_data": {"difficulty": 2}},
    ]  # fmt: skip
    (tmp_path / "TIR-Bench.json").write_text(json.dumps(rows), encoding="utf-8")
    benchmark = BENCHMARKS["TIR-Bench"]
    pair, jigsaw = read_benchmark(benchmark, find_file("TIR-Bench", [tmp_path], other=benchmark.files))
    assert ([pair.id, jigsaw.id], len(pair.images), len(jigsaw.images)) == (["spot_difference-1", "jigsaw-1"], 2, 1)
    assert benchmark.score(pair, "4, 1").value == 1.0
    assert benchmark.score(jigsaw, "1, 2, 3, 4").value == 0.5


def test_mvtoolbench_is_parquet_as_verl_reads_it(tmp_path: Path) -> None:
    row = {
        "data_source": "hiertext", "prompt": [{"role": "user", "content": "<image>\nWhich word?"}],
        "images": [{"bytes": png(size=(40, 30)), "path": None}],
        "reward_model": {"ground_truth": "park", "style": "rule"},
        "extra_info": {"answer": "park", "bbox": [1, 2, 12, 20], "dataset_name": "hiertext", "index": 0,
                       "split": "train", "question": "Which word?", "transform": ["crop", "rotate_90"]},
    }  # fmt: skip
    (made,) = parquet(tmp_path, "MVToolBench", row)
    assert (made.question, made.kind, made.images[0].size) == ("Which word?", "crop+rotate_90", (40, 30))
    assert made.meta["boxes"] == [[1, 2, 12, 20]]


def parquet(folder: Path, name: str, row: dict[str, Any]) -> list[Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    return list(read_benchmark(BENCHMARKS[name], path))


def test_a_row_that_says_no_task_is_named(tmp_path: Path) -> None:
    path = tmp_path / "TIR-Bench.json"
    path.write_text(json.dumps([{"id": 1, "prompt": "?", "answer": "1"}]), encoding="utf-8")
    with pytest.raises(StoreError, match=r"TIR-Bench\.json, entry 1: .*'task' or 'category'"):
        list(read_benchmark(BENCHMARKS["TIR-Bench"], path))
