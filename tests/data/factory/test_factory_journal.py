"""Journals survive being cut anywhere; shards hold the same records, and the same records make the same bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.journal import Outcome, open_journal, outcomes
from thyme.data.factory.shard import count_rows, read_shard, write_shard
from thyme.errors import StoreError
from thyme.types import Problem


def draft(question: str = "What?", answer: str | None = None) -> Draft:
    problem = Problem(id="row", question=question, answer=answer)
    return Draft(id="a-0000000-plain", scenario="plain", seed=1, source="a", origin=problem, problem=problem)


def outcome(index: int, question: str = "What?") -> Outcome:
    record = draft(question)
    return Outcome.of(index, record if index % 2 else Rejection.of(record, "accept", "wrong", question), ["ab", "cd"])


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5), st.integers(0, 400))
def test_whatever_is_said_comes_back_and_a_torn_end_counts_as_none(questions: list[str], torn: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal" / "000000.jsonl"
        added = [
            outcome(index, question.encode("utf-8", "replace").decode()) for index, question in enumerate(questions)
        ]
        with open_journal(path) as journal:
            for one in added:
                journal.add(one)
        assert outcomes(path) == {one.index: one for one in added}
        size = path.stat().st_size
        os.truncate(path, max(0, size - torn))
        left = outcomes(path)
        assert all(left[index] == added[index] for index in left)
        with open_journal(path) as journal:
            journal.add(outcome(99, "again"))
        assert outcomes(path) == {**left, 99: outcome(99, "again")}, "a torn line does not spoil the next"


def test_a_text_that_looks_like_the_rest_of_a_line_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    one = outcome(1, '"}, "record": {"index": 3}}\n')
    with open_journal(path) as journal:
        journal.add(one)
    assert outcomes(path) == {1: one}
    assert one.record() == draft('"}, "record": {"index": 3}}\n')


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert outcomes(tmp_path / "none.jsonl") == {}


def test_shards_give_back_their_records_and_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    kept = [outcome(index, f"Question {index}") for index in range(1, 300, 2)]
    dropped = [outcome(index, f"Question {index}") for index in range(0, 300, 2)]
    for name in ("one", "other"):
        write_shard(tmp_path / f"{name}-kept.parquet", kept, kept=True)
        write_shard(tmp_path / f"{name}-dropped.parquet", dropped, kept=False)
    assert list(read_shard(tmp_path / "one-kept.parquet", kept=True)) == kept
    assert list(read_shard(tmp_path / "one-dropped.parquet", kept=False)) == dropped
    assert count_rows(tmp_path / "one-kept.parquet") == 150
    for kind in ("kept", "dropped"):
        assert (tmp_path / f"one-{kind}.parquet").read_bytes() == (tmp_path / f"other-{kind}.parquet").read_bytes()


def test_columns_are_those_that_people_filter_by(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    write_shard(tmp_path / "kept.parquet", [Outcome.of(7, draft("Which?", "red"), ["ab"])], kept=True)
    (row,) = parquet.read_table(tmp_path / "kept.parquet").drop_columns("record").to_pylist()
    assert row == {
        "index": 7, "id": "a-0000000-plain", "scenario": "plain", "source": "a", "teacher": "", "question": "Which?",
        "answer": "red", "kind": "", "rounds": 0, "images": ["ab"],
    }  # fmt: skip
    write_shard(tmp_path / "dropped.parquet", [outcome(0, "Why?")], kept=False)
    (row,) = parquet.read_table(tmp_path / "dropped.parquet").to_pylist()
    assert (row["stage"], row["reason"], row["note"]) == ("accept", "wrong", "Why?")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "000003.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match=r"000003\.parquet: cannot be read"):
        list(read_shard(path, kept=True))
    with pytest.raises(StoreError, match=r"000003\.parquet: cannot be read"):
        count_rows(path)


def test_a_record_of_another_version_says_so() -> None:
    strange = Outcome(4, True, (), b'{"id": "a", "colour": "red"}')
    with pytest.raises(StoreError, match="item 4 is no record of this version"):
        strange.record()
