"""Figures of tool use, worked by hand: rates, flips, groups, crops, changed evidence. Failures count in none."""

from __future__ import annotations

from typing import Any

import evaluation_items as made
import pytest

from thyme.eval.flips import change, compare, flips, pair, same_answer
from thyme.eval.items import Faithfulness, ItemResult
from thyme.eval.worth import CATEGORY, SHOWN, SIZE, by_length, groups, looking, lucky, missed, shown_of, size_of, worth
from thyme.types import StopReason


def own(item: ItemResult) -> str:
    return item.problem


def test_rates_have_the_right_cases() -> None:
    items = [
        made.item("1", score=1.0, blocks=2, ran=2, repaired=1, generated_tokens=100, seconds=2.0),
        made.item("2", score=0.0, blocks=2, ran=1, generated_tokens=200, seconds=4.0, judged=True),
        made.item("3", score=1.0, generated_tokens=30, seconds=1.0),
        made.item("4", score=None, generated_tokens=70, seconds=1.0),  # no verdict of a judge
        made.item("5", score=None, stop=StopReason.ERROR, blocks=9, seconds=99.0),
        made.item("6", score=0.0, prediction=None, stop=StopReason.MAX_TOKENS, generated_tokens=400, seconds=8.0),
    ]
    found = worth("tools", items, own)
    assert (found.n, found.failed, found.unscored, found.unanswered, found.judged) == (6, 1, 1, 2, 1)
    assert found.accuracy.value == 0.5
    assert found.accuracy.n == 4
    assert found.tool_rate.value == pytest.approx(2 / 5)
    assert (found.executable.value, found.repaired.value, found.rounds.value) == (0.75, 0.25, 2.0)
    assert found.generated_tokens.value == 160
    assert found.seconds.value == pytest.approx(16 / 5)


def test_rates_without_cases_are_none() -> None:
    found = worth("tools", [made.item(score=None, stop=StopReason.ERROR)], own)
    assert found.failed == 1
    rates = (found.accuracy, found.tool_rate, found.executable, found.repaired, found.rounds, found.seconds)
    assert [rate.value for rate in rates] == [None] * 6


def _pairs(*scores: tuple[float | None, float | None]) -> list[tuple[ItemResult, ItemResult]]:
    return [
        (made.item(str(place), score=one, blocks=place % 2), made.item(str(place), "no_tools", other))
        for place, (one, other) in enumerate(scores)
    ]


def test_flips_by_hand() -> None:
    pairs = _pairs((1, 1), (1, 0), (1, 0), (0, 1), (0, 0), (None, 1), (1, None))
    found = flips(pairs)
    assert (found.both_right, found.gained, found.lost, found.both_wrong, found.pairs) == (1, 2, 1, 1, 5)
    assert found.needless == pytest.approx(1 / 3)
    assert flips([]).needless is None
    tested = compare(pairs, own)
    assert (tested.gained, tested.lost, tested.difference.n, tested.first, tested.second) == (2, 1, 5, 0.6, 0.4)
    assert tested.p == 1.0


def test_pairs_are_of_one_problem_of_one_benchmark() -> None:
    first = [made.item("1"), made.item("2"), made.item("1", benchmark="other")]
    second = [made.item("2", "no_tools"), made.item("1", "no_tools", benchmark="other")]
    assert [(a.benchmark, a.problem, b.arm) for a, b in pair(first, second)] == [
        ("VStarBench", "2", "no_tools"),
        ("other", "1", "no_tools"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("A", " a. ", True), ("A", "B", False), ("3", "-3", False), (None, None, True), (None, "", False)],
)
def test_same_answers(one: str | None, other: str | None, same: bool) -> None:
    assert same_answer(made.item(prediction=one), made.item(prediction=other)) is same


def test_only_changed_evidence_counts() -> None:
    """Five cases: one in which nothing was changed, one that failed; of three left one answer changes, a right one."""
    tools = [made.item(str(place), score=1.0 if place != 2 else 0.0, blocks=1) for place in range(5)]
    held = [
        made.item("0", "withheld", 0.0, changed=1),
        made.item("1", "withheld", 1.0, changed=1),
        made.item("2", "withheld", 0.0, changed=1),
        made.item("3", "withheld", 0.0, changed=0),
        made.item("4", "withheld", None, changed=1, stop=StopReason.ERROR),
    ]
    found = change("withheld", pair(tools, held), own)
    assert found.cases == 3
    assert found.changed.value == pytest.approx(1 / 3)
    assert (found.lost.value, found.lost.n) == (0.5, 2)


def _looked(covered: bool | None, coverage: float | None, **fields: Any) -> ItemResult:
    seen = Faithfulness(coverage=coverage, iou=None if coverage is None else coverage / 2, covered=covered)
    return made.item(faithfulness=seen, meta={"boxes": [[0, 0, 5, 5]]}, **fields)


def test_where_crops_look_by_hand() -> None:
    items = [
        _looked(True, 1.0, problem="1"),
        _looked(True, 0.8, problem="2", score=0.0),
        _looked(False, 0.0, problem="3"),
        _looked(None, None, problem="4", score=0.0),
        made.item("5", meta={"boxes": [[0, 0, 5, 5]]}),
        _looked(False, None, problem="7", score=1.0, blocks=1, ran=1),  # code ran, and no image came back
        made.item("6"),  # no target known
    ]
    found = looking("tools", items, own)
    assert found is not None
    assert found.known == 6
    assert found.cropped.value == pytest.approx(3 / 6)
    assert found.covered.value == pytest.approx(2 / 3)
    assert found.coverage.value == pytest.approx(0.6)
    assert found.iou.value == pytest.approx(0.3)
    assert (found.right_covered.value, found.right_missed.value, found.right_uncropped.value) == (0.5, 1.0, 2 / 3)
    assert [lucky(item) for item in items] == [False, False, True, False, False, False, False]
    assert [missed(item) for item in items] == [False, False, True, False, False, False, False]
    assert looking("tools", [made.item()], own) is None


@pytest.mark.parametrize(
    ("sizes", "seen", "size", "shown"),
    [
        ([(640, 480)], [(640, 480)], "under 1 megapixel", "90 % of its pixels and more"),
        ([(640, 480), (2000, 2000)], [(640, 480), (1000, 1000)], "4 to 16 megapixels", "10 to 50 % of its pixels"),
        ([(1000, 1000)], [(800, 800)], "1 to 4 megapixels", "50 to 90 % of its pixels"),
        ([(8000, 4000)], [(800, 400)], "16 megapixels and more", "under 10 % of its pixels"),
        ([(8000, 4000)], [], "16 megapixels and more", ""),
        ([], [], "", ""),
    ],
)
def test_sizes_in_words(sizes: list[tuple[int, int]], seen: list[tuple[int, int]], size: str, shown: str) -> None:
    item = made.item(image_sizes=sizes, seen_sizes=seen)
    assert (size_of(item), shown_of(item)) == (size, shown)


def test_groups_pair_within_themselves() -> None:
    items = made.run_items(n=60, arms=["tools", "no_tools"])
    tools, without = ([item for item in items if item.arm == arm] for arm in ("tools", "no_tools"))
    found = groups(tools, without, own)
    assert {group.by for group in found} == {CATEGORY, SIZE, SHOWN}
    for by in (CATEGORY, SIZE, SHOWN):
        assert sum(group.n for group in found if group.by == by) == 60
    some = next(group for group in found if group.name == "relative_position")
    pairs = pair([item for item in tools if item.kind == "relative_position"], without)
    assert some.versus == compare(pairs, own)
    assert some.flips == flips(pairs)
    alone = groups(tools, [], own)
    assert [group.versus for group in alone] == [None] * len(found)
    assert groups([made.item("1", kind="a"), made.item("2", kind="a")], [], own) == []


def test_lengths_are_quarters_of_the_problems() -> None:
    items = [made.item(str(place), score=float(place >= 4), generated_tokens=10 * place) for place in range(8)]
    found = by_length(items, own)
    assert [(one.tokens, one.accuracy.value) for one in found] == [(5, 0), (25, 0), (45, 1), (65, 1)]
    assert by_length(items[:7], own) == []
