"""WeMath's four cases and both scores, worked by hand on eight problems."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_rows import encoded, item, problems_of, score_of, write_rows

from thyme.errors import StoreError
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.items import ItemResult

COLUMNS = ["index", "ID", "split", "knowledge concept", "question", *"ABCDE", "answer", "image", "key"]


def group(steps: int, number: int, right: str) -> list[ItemResult]:
    """Results of one problem; `right` has one sign a step and one for the whole, + right, - wrong, ? not scored."""
    scores = {"+": 1.0, "-": 0.0, "?": None}
    names = [*map(str, range(1, steps + 1)), "multi"]
    return [
        item(f"{steps}.{number}.{name}", scores[sign], steps=steps, step=name, group=f"{steps}_{number}")
        for name, sign in zip(names, right, strict=True)
    ]


CASES = [
    group(2, 0, "+++"),  # complete mastery
    group(2, 1, "+-+"),  # rote by the strict reading, mastery by the loose
    group(2, 2, "--+"),  # rote by both
    group(2, 3, "++-"),  # inadequate generalization
    group(2, 4, "-+-"),  # insufficient knowledge
    group(3, 0, "++++"),  # complete mastery
    group(3, 1, "+---"),  # insufficient knowledge
    group(3, 2, "-+-+"),  # as the second
]


def test_eight_problems() -> None:
    """Strict: 1 - (2 insufficient + 3 rote + 1/2) / 8. Loose: the same with 1 by rote."""
    figures = BENCHMARKS["WeMath"].figures([one for case in CASES for one in case])
    assert figures == {
        "strict": (8 - 2 - 3 - 0.5) / 8,
        "loose": (8 - 2 - 1 - 0.5) / 8,
        "insufficient_knowledge": 2 / 8,
        "inadequate_generalization": 1 / 8,
        "complete_mastery_strict": 2 / 8,
        "complete_mastery_loose": 4 / 8,
        "rote_memorization_strict": 3 / 5,
        "rote_memorization_loose": 1 / 5,
        "one_step": pytest.approx(11 / 19),
        "two_steps": 3 / 5,
        "three_steps": 2 / 3,
    }


def test_problems_that_are_not_whole_are_left_out() -> None:
    """A step that was not scored, or not asked, says nothing about the problem; the means over steps keep the rest."""
    items = [*CASES[0], *group(2, 5, "+?+"), *group(3, 3, "++++")[:-1]]
    figures = BENCHMARKS["WeMath"].figures(items)
    assert figures["strict"] == 1.0
    assert figures["two_steps"] == 1.0
    assert figures["three_steps"] is None
    assert BENCHMARKS["WeMath"].figures([])["strict"] is None


def test_a_problem_that_is_drawn_twice_counts_twice() -> None:
    items = [*CASES[0], *CASES[0], *CASES[4]]
    assert BENCHMARKS["WeMath"].figures(items)["strict"] == 2 / 3
    assert BENCHMARKS["WeMath"].cluster(items[0]) == "2_0"


def test_from_its_file(tmp_path: Path) -> None:
    options = ["3", "4", "5", "6", "No correct answer"]
    rows = [
        [n, 1, "testmini", "Area of Circles", "How many?", *options, "B", encoded(n), key]
        for n, key in enumerate(("2steps_1", "2steps_2", "2steps_multi"))
    ]
    problems = problems_of("WeMath", write_rows(tmp_path / "WeMath.tsv", COLUMNS, rows))
    assert [problem.meta for problem in problems] == [
        {"concept": "Area of Circles", "steps": 2, "step": step, "group": "2_1"} for step in ("1", "2", "multi")
    ]
    answers = ["B", "The answer is 4", "No correct answer"]
    items = [item(p.id, score_of("WeMath", p, a), **p.meta) for p, a in zip(problems, answers, strict=True)]
    assert [one.score for one in items] == [1.0, 1.0, 0.0]
    assert BENCHMARKS["WeMath"].figures(items)["inadequate_generalization"] == 1.0


def test_a_key_that_is_none(tmp_path: Path) -> None:
    row = [0, 1, "testmini", "x", "?", "1", "2", "", "", "", "A", encoded(), "4steps_1"]
    with pytest.raises(StoreError, match="the key '4steps_1' is none of 2steps_1"):
        problems_of("WeMath", write_rows(tmp_path / "WeMath.tsv", COLUMNS, [row]))
