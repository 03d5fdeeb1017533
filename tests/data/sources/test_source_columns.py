"""What may stand in a row's columns, and what becomes of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_rows import file_of

from thyme.data.sources.base import NEEDS, Facts
from thyme.data.sources.columns import Columns, boxes_of, clipped
from thyme.errors import ConfigError, EncodeError

USUAL = Columns({})
PICTURE = file_of(100, 80, format="PNG")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def problem(row: dict[str, Any], columns: Columns = USUAL) -> Any:
    return columns.problem(row, id="x-0", label="row 0", folder=None)


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"question": "<image>\nWhat?", "answer": "a dog"}, "What?", "a dog"),
        ({"question": "What?", "answer": 3.0}, "What?", "3"),
        ({"question": "What?", "answers": ["one", "two"]}, "What?", "one"),
        ({"question": "What?", "answer": float("nan")}, "What?", None),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "Q", "A"),
        ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]}, "Q", None),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q"}]}]}, "Q", None),
        ({"texts": [{"user": "Q", "assistant": "A", "source": "x"}]}, "Q", "A"),
    ],
)
def test_questions_and_answers(row: dict[str, Any], question: str, answer: str | None) -> None:
    made = problem(row)
    assert (made.question, made.answer) == (question, answer)
    assert USUAL.facts(row).answer is (answer is not None)


@pytest.mark.parametrize(
    "row",
    [{"choices": ["red", "blue"]}, {"options": '["red", "blue"]'}, {"A": "red", "B": "blue", "C": None}],
)
def test_choices(row: dict[str, Any]) -> None:
    assert problem({"question": "Which?", **row}).choices == ("red", "blue")


@pytest.mark.parametrize(
    "box",
    [
        [10, 20, 30, 40],
        "[10, 20, 30, 40]",
        [[10, 20, 30, 40]],
        {"x1": 10, "y1": 20, "x2": 30, "y2": 40},
        {"left": 10, "top": 20, "right": 30, "bottom": 40},
        {"x": 10, "y": 20, "width": 20, "height": 20},
        [{"x": 10, "y": 20, "w": 20, "h": 20}],
    ],
)
def test_boxes_in_every_spelling(box: Any) -> None:
    row = {"question": "Where?", "image": PICTURE, "bbox": box}
    assert problem(row).meta == {"box": (10, 20, 30, 40), "boxes": [(10, 20, 30, 40)]}
    assert USUAL.facts(row).box


@pytest.mark.parametrize(
    "box", [[1, 2, 3], "somewhere", [200, 0, 300, 50], [30, 40, 10, 20], [True, 1, 2, 3], "[" * 10**5]
)
def test_what_is_no_box_in_the_picture_is_refused(box: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        problem({"question": "Where?", "image": PICTURE, "box": box})
    assert caught.value.reason == "bad_box"


@given(JSON)
def test_any_cell_is_read_as_boxes_or_refused(value: Any) -> None:
    try:
        found = boxes_of(value, "row")
    except EncodeError:
        return
    assert all(len(box) == 4 and all(map(math.isfinite, box)) for box in found)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["question", "answer", "choices", "kind", "messages"], JSON)))
def test_any_row_is_a_problem_or_refused(row: dict[str, Any]) -> None:
    try:
        made = problem(row)
    except EncodeError:
        return
    assert made.question.strip()
    assert made.model_dump_json()


@given(*(st.floats(-50, 150) for _ in range(4)))
def test_boxes_end_up_in_the_picture(left: float, top: float, right: float, bottom: float) -> None:
    try:
        x1, y1, x2, y2 = clipped((left, top, right, bottom), (100, 80), "row")
    except EncodeError:
        assert right - left < 1 or bottom - top < 1 or right < 1 or bottom < 1 or left > 99 or top > 79
    else:
        assert 0 <= x1 < x2 <= 100
        assert 0 <= y1 < y2 <= 80


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(EncodeError, match="surrogate"):
        problem({"question": "What is \ud800?"})


def test_columns_that_are_named_count_and_must_be_there() -> None:
    columns = Columns({"question": "frage", "image": "bild"})
    made = problem({"frage": "Was?", "question": "What?", "bild": PICTURE, "image": None}, columns)
    assert (made.question, len(made.images)) == ("Was?", 1)
    columns.check(["frage", "bild"], "rows.jsonl")
    with pytest.raises(ConfigError, match=r"columns\.image: rows\.jsonl has no column 'bild', but frage"):
        columns.check(["frage"], "rows.jsonl")
    with pytest.raises(ConfigError, match=r"columns\.picture: no such field"):
        Columns({"picture": "x"}).check(["x"], "rows.jsonl")


def test_needs_are_met_or_not() -> None:
    whole, text = Facts(images=1, answer=True, box=True), Facts(answer=True)
    assert whole.meets(frozenset({"image", "answer", "box"}))
    assert not whole.meets(frozenset({"text_only"}))
    assert text.meets(frozenset({"text_only", "answer"}))
    assert not text.meets(frozenset({"image"}))
    assert frozenset({"image", "answer", "box", "text_only"}) == NEEDS
    with pytest.raises(ValueError, match="no such need: angle"):
        whole.meets(frozenset({"angle"}))
