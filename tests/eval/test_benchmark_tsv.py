"""TSV files are read as pandas reads VLMEvalKit's, row by row, images of other rows included."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from benchmark_rows import encoded, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.errors import StoreError
from thyme.eval.benchmarks.cells import RowError
from thyme.eval.benchmarks.tsv import Tsv


def rows_of(path: Path) -> list[dict[str, str]]:
    with Tsv(path) as tsv:
        return [row for _, row in tsv]


def test_quotes_line_breaks_and_tabs_inside_of_fields(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.tsv", ["index", "question"], [[0, 'Say "no"\nor\ttab'], [1, "  spaces stay "]])
    with Tsv(path) as tsv:
        found = list(tsv)
    assert found == [
        (2, {"index": "0", "question": 'Say "no"\nor\ttab'}),
        (4, {"index": "1", "question": "  spaces stay "}),
    ]


def test_a_field_of_megabytes(tmp_path: Path) -> None:
    """csv's own limit is 131072 characters, less than nearly every image."""
    big = "Q" * 3_000_000
    assert rows_of(write_rows(tmp_path / "a.tsv", ["index", "image"], [[0, big]]))[0]["image"] == big


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=12),
            min_size=3, max_size=3,
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_the_same_fields_as_pandas(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = write_rows(tmp_path_factory.mktemp("t") / "a.tsv", ["a", "b", "c"], rows)
    expected = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert rows_of(path) == expected.to_dict("records")


def test_a_windows_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffindex\tquestion\r\n7\tWas ist das?\r\n".encode())
    assert rows_of(path) == [{"index": "7", "question": "Was ist das?"}]


def test_an_image_that_another_row_holds_before_or_after(tmp_path: Path) -> None:
    first, second = encoded(1), encoded(2)
    rows = [["0", first], ["x", "later"], ["1", "0"], ["later", second], ["2", "0"]]
    with Tsv(write_rows(tmp_path / "a.tsv", ["index", "image"], rows)) as tsv:
        seen = [tsv.image_of(row["image"]) if len(row["image"]) <= 64 else row["image"] for _, row in tsv]
    assert seen == [first, second, first, second, first]


@pytest.mark.parametrize(("named", "message"), [("9", "not in the file"), ("1", "none of its own")])
def test_an_image_that_no_row_holds(tmp_path: Path, named: str, message: str) -> None:
    with (
        Tsv(write_rows(tmp_path / "a.tsv", ["index", "image"], [["0", encoded()], ["1", "0"]])) as tsv,
        pytest.raises(RowError, match=message),
    ):
        tsv.image_of(named)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"index\tquestion\n0\ta\n1\n", r"a\.tsv, line 3: 1 fields, the header names 2"),
        (b"index\tquestion\n0\t\xff\n", r"a\.tsv, line 2: not UTF-8"),
        (b"index\tquestion\n0\ta\rb\n", r"a\.tsv, line 2: new-line"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        rows_of(path)


def test_no_more_than_a_row_is_taken_from_the_file(tmp_path: Path) -> None:
    """The place of each row is known exactly, which is what images of other rows are found by."""
    path = write_rows(tmp_path / "a.tsv", ["index", "q"], [[n, f"line\n{n}"] for n in range(50)])
    data = path.read_bytes()
    with Tsv(path) as tsv:
        for _, row in tsv:
            place, _ = tsv._places[row["index"]]
            assert next(csv.reader(io.StringIO(data[place:].decode()), delimiter="\t"))[0] == row["index"]
