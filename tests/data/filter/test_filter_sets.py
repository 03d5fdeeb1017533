"""Steps that compare rows with each other: duplicates and balance."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.config.rl_filter import BalanceStep, DuplicatesStep
from thyme.data.filter.balance import balanced, quotas, without_surplus
from thyme.data.filter.duplicates import without_duplicates
from thyme.data.filter.records import Seen


def seen(row: int, **changed: Any) -> Seen:
    told = {
        "question": "What?",
        "images": (f"{row:032x}",),
        "hashes": (f"{row * 0x1234567890ABCD:016x}",),
        "kind": "ocr",
    }
    return Seen(**{"source": "a", "row": row, "id": f"a-{row}", **told, **changed})


def dropped(rows: list[Seen], **settings: Any) -> dict[int, tuple[str, str]]:
    found = without_duplicates(rows, DuplicatesStep(**settings))
    return {one.row: (one.reason, one.detail) for one in found if not one.kept}


def test_the_earlier_of_two_that_ask_the_same_of_the_same_stays() -> None:
    rows = [seen(1), seen(2, question="Where?"), seen(3, images=seen(1).images, question=" what? ")]
    assert dropped(rows) == {3: ("duplicate", "as a-1")}


def test_pictures_that_are_nearly_the_same_are_told_by_bits() -> None:
    rows = [seen(1, hashes=("0" * 16,)), seen(2, hashes=("000000000000000f",)), seen(3, hashes=("00000000000000ff",))]
    assert dropped(rows, bits=4) == {2: ("near_duplicate", "as a-1")}
    assert set(dropped(rows, bits=8)) == {2, 3}
    assert dropped(rows, bits=-1) == {}


def test_text_is_the_same_where_its_question_is_and_what_was_dropped_makes_nothing_needless() -> None:
    text = [seen(1, images=(), hashes=()), seen(2, images=(), hashes=())]
    assert set(dropped(text)) == {2}
    assert dropped(text, exact=False) == {}
    gone = [seen(1).drop("answer", "no_answer"), seen(2, images=seen(1).images)]
    assert dropped(gone) == {1: ("no_answer", "")}


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {"ocr": 10, "chart": 4, "object": 1}),
        ({"each": 3}, {"ocr": 3, "chart": 3, "object": 1}),
        ({"ratio": 2.0}, {"ocr": 2, "chart": 2, "object": 1}),
        ({"count": 7}, {"ocr": 3, "chart": 3, "object": 1}),
        ({"shares": {"ocr": 0.5, "chart": 0.5}}, {"ocr": 4, "chart": 4, "object": 0}),
        ({"shares": {"ocr": 3, "chart": 1}, "count": 8}, {"ocr": 6, "chart": 2, "object": 0}),
        ({"shares": {"ocr": 1, "location": 1}}, {"ocr": 0, "chart": 0, "object": 0, "location": 0}),
    ],
)
def test_what_is_kept_of_categories(settings: dict[str, Any], kept: dict[str, int]) -> None:
    assert quotas({"ocr": 10, "chart": 4, "object": 1}, BalanceStep(**settings)) == kept


names = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.dictionaries(names, st.integers(1, 50), min_size=1),
    st.none() | st.integers(1, 60),
    st.none() | st.integers(1, 20),
    st.none() | st.floats(1, 5),
    st.dictionaries(names, st.floats(0.01, 10)),
)
def test_quotas_never_ask_for_more_than_there_is(
    found: dict[str, int], count: int | None, each: int | None, ratio: float | None, shares: dict[str, float]
) -> None:
    kept = quotas(found, BalanceStep(count=count, each=each, ratio=ratio, shares=shares))
    assert all(0 <= kept[name] <= found.get(name, 0) for name in kept)
    assert set(found) <= set(kept)
    if count is not None:
        assert sum(kept.values()) <= count
    if each is not None:
        assert max(kept.values()) <= each


def test_who_stays_is_the_same_in_any_order_of_rows_and_another_with_another_seed() -> None:
    rows = [seen(place) for place in range(40)]
    some = balanced(rows, BalanceStep(each=10), seed=0)
    assert some is not None
    assert len(some) == 10
    assert balanced(rows[::-1], BalanceStep(each=10), seed=0) == some
    assert balanced(rows, BalanceStep(each=10), seed=1) != some
    left = [one for one in without_surplus(rows, some, BalanceStep(each=10)) if one.kept]
    assert {one.id for one in left} == some
    assert balanced(rows, BalanceStep(), seed=0) is None
