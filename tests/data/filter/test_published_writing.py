"""The published Thyme-RL layout is written as its readers expect it, and read back without loss."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thyme.data.published_problems import ProblemShards, to_problem, to_row
from thyme.errors import EncodeError
from thyme.images import load_image
from thyme.prompts import PromptSet
from thyme.types import ImageRecord, Problem

WORDS = PromptSet.load()


def picture(shade: int = 90) -> ImageRecord:
    return ImageRecord.of(Image.new("RGB", (40, 30), (shade, 10, 200)), name="image 1")


def boxed(**changed: object) -> Problem:
    told = {
        "id": "photos-3",
        "question": "Which colour has the sign?",
        "images": (picture(),),
        "answer": "red",
        "choices": ("blue", "red"),
        "kind": "attribute",
        "meta": {"box": [1, 2, 9, 8], "answer_type": "choice"},
    }
    return Problem(**{**told, **changed})


def told(problem: Problem) -> str:
    """All that is stored of a problem; the id of an image is a hash of its pixels."""
    return problem.model_dump_json()


def test_a_row_has_the_published_columns_and_says_the_options_and_the_letter() -> None:
    row = to_row(boxed(), WORDS)
    assert [turn["role"] for turn in row["messages"]] == ["system", "user"]
    assert row["messages"][1]["content"].count("<image>") == 1
    assert row["question"] == "Which colour has the sign?\nA. blue\nB. red"
    assert row["solution"] == "B"
    assert load_image(base64.b64decode(row["images"][0])).id == picture().id


def test_a_problem_comes_back_whole_and_without_the_fifth_column_as_far_as_the_published_ones_say() -> None:
    row = to_row(boxed(), WORDS)
    assert told(to_problem(row, name="other")) == told(boxed())
    del row["record"]
    bare = to_problem(row, name="other")
    assert (bare.id, bare.answer, bare.choices, bare.kind, bare.meta) == ("other", "B", (), "", {})


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(min_size=0, max_size=5), st.booleans())
def test_any_text_comes_back(question: str, kind: str, pictured: bool) -> None:
    kind = kind.encode("utf-8", "ignore").decode()
    if not question.replace("<image>", "").strip():
        return
    problem = Problem(id="x", question=question, images=(picture(),) if pictured else (), answer="7", kind=kind)
    assert told(to_problem(to_row(problem, WORDS), name="y")) == told(problem)


def test_what_is_no_row_says_why() -> None:
    with pytest.raises(EncodeError, match="has no answer"):
        to_row(boxed(answer=None), WORDS)
    with pytest.raises(EncodeError, match="none of its options"):
        to_row(boxed(answer="green"), WORDS)
    with pytest.raises(EncodeError, match="no pixels"):
        to_row(boxed(images=(ImageRecord(id="ab", width=3, height=3, mode="RGB"),)), WORDS)


@pytest.mark.parametrize("record", ["{", "[]", '{"images": []}', '{"meta": 3}', '{"unknown": 1}', "[" * 9999])
def test_a_damaged_fifth_column_is_an_error_that_can_be_counted(record: str) -> None:
    row = {**to_row(boxed(), WORDS), "record": record}
    with pytest.raises(EncodeError, match="row 3") as error:
        to_problem(row, name="row 3")
    assert error.value.reason == "bad_record"


def test_the_real_reader_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_dataset

    monkeypatch.setattr("thyme.data.export.shards.GROUP_BYTES", 9000)
    monkeypatch.setattr("thyme.data.export.shards.SHARD_BYTES", 20_000)
    writer = ProblemShards(tmp_path)
    problems = [boxed(id=f"p-{n}", images=(picture(n),), answer="blue") for n in range(8)]
    for problem in problems:
        writer.add(problem)
    writer.close()
    files = sorted(tmp_path.rglob("*.parquet"))
    assert len(files) > 1
    read = load_dataset("parquet", data_files=[str(f) for f in files], split="train", cache_dir=str(tmp_path / "c"))
    assert [told(to_problem(row, name="?")) for row in read] == [told(problem) for problem in problems]
    assert json.loads(read[0]["record"])["meta"]["box"] == [1, 2, 9, 8]


def test_nothing_is_a_file_without_rows(tmp_path: Path) -> None:
    from pyarrow import parquet

    ProblemShards(tmp_path).close()
    table = parquet.read_table(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert table.num_rows == 0
    assert table.column_names == ["messages", "images", "solution", "question", "record"]
