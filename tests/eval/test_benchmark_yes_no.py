"""HallusionBench: yes and no as VQA's scoring reads them; figures and questions count only as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_rows import encoded, item, problems_of, score_of, write_rows

from thyme.errors import StoreError
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import without_judge
from thyme.eval.benchmarks.yes_no import yes_or_no
from thyme.eval.items import ItemResult


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes", "Yes"),
        ("no", "No"),
        ("NO.", "No"),
        ("Yes, it is.", "Yes"),
        ("No, there is not.", "No"),
        ("\\boxed{Yes}", "Yes"),
        ("yes/no", None),  # a slash without spaces parts words
        ("Yes and no", None),
        ("It is not", None),
        ("Nothing", None),
        ("**Yes**", None),  # asterisks are no punctuation to that scoring
        ("Yes: it is", None),  # nor are colons
        ("yes.No", None),  # a point is taken off, and the words become one
        ("No-one says 1,000 yes", "Yes"),  # beside a number with a comma every mark is taken off: "noone"
        ("No-one says yes", None),  # without one the hyphen parts the words
        ("", None),
    ],
)
def test_worked_by_hand(answer: str, said: str | None) -> None:
    assert yes_or_no(answer) == said


COLUMNS = ["index", "image", "question", "answer", "category", "l2-category"]
# Set 0: two figures with two questions each. Set 1: one figure, one question.
ROWS = [
    ("VD_illusion_1_0_0_0", "Yes", "VD", "illusion"),
    ("VD_illusion_1_0_0_1", "Yes", "VD", "illusion"),
    ("VD_illusion_1_0_1_0", "No", "VD", "illusion"),
    ("VD_illusion_1_0_1_1", "Yes", "VD", "illusion"),
    ("VS_chart_1_0_1_0", "No", "VS", "chart"),
]


def items_of(path: Path, *answers: str | None) -> list[ItemResult]:
    rows = [(index, encoded(), "Is it?", *rest) for index, *rest in ROWS]
    problems = problems_of("HallusionBench", write_rows(path / "HallusionBench.tsv", COLUMNS, rows))
    name = "HallusionBench"
    return [
        item(one.id, score_of(name, one, said), one.kind, **one.meta)
        for one, said in zip(problems, answers, strict=True)
    ]


def test_from_its_file_to_its_figures(tmp_path: Path) -> None:
    """Right, right, wrong, right, right: 4 of 5 answers; figures 0_0, 1_0 of 3; questions 0_1, 1_0 of 3."""
    items = items_of(tmp_path, "Yes", "yes.", "Yes", "Yes", "No")
    figures = BENCHMARKS["HallusionBench"].figures(items)
    assert {name: figures[name] for name in ("aAcc", "fAcc", "qAcc")} == {"aAcc": 0.8, "fAcc": 2 / 3, "qAcc": 2 / 3}
    assert figures["overall"] == pytest.approx((0.8 + 2 / 3 + 2 / 3) / 3)
    assert (figures["VD/aAcc"], figures["VD/fAcc"], figures["VD/qAcc"]) == (0.75, 0.5, 0.5)
    assert (figures["chart/aAcc"], figures["chart/fAcc"], figures["chart/qAcc"]) == (1.0, 1.0, 1.0)
    clusters = [BENCHMARKS["HallusionBench"].cluster(one) for one in items]
    assert clusters == ["illusion_0"] * 4 + ["chart_0"]


def test_the_mean_of_all_three_needs_all_three() -> None:
    assert BENCHMARKS["HallusionBench"].figures([]) == {"overall": None, "aAcc": None, "fAcc": None, "qAcc": None}


def test_a_wrong_answer_decides_a_figure_that_an_unscored_one_leaves_open(tmp_path: Path) -> None:
    """Unscored: the first question of figure 0. Its other question is right, so nothing can be said of the figure."""
    items = items_of(tmp_path, "maybe", "Yes", "maybe", "No", "No")
    assert [one.score for one in items] == [None, 1.0, None, 0.0, 1.0]
    figures = BENCHMARKS["HallusionBench"].figures(items)
    assert figures["aAcc"] == 2 / 3
    assert figures["fAcc"] == 1 / 2  # figure 0 unknown, figure 1 wrong, the chart right
    assert figures["qAcc"] == 1 / 2  # question 0 unknown, question 1 wrong, the chart right


def test_a_set_that_is_drawn_twice_counts_twice(tmp_path: Path) -> None:
    """A bootstrap draws whole clusters with replacement."""
    items = items_of(tmp_path, "Yes", "Yes", "Yes", "Yes", "No")
    twice = [*items, *items[4:]]
    assert BENCHMARKS["HallusionBench"].figures(twice)["fAcc"] == 3 / 4
    assert BENCHMARKS["HallusionBench"].figures([*items, *items[:4]])["fAcc"] == 3 / 5


def test_neither_yes_nor_no_is_a_judges(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.tsv", COLUMNS, [("VD_map_1_0_0_0", encoded(), "Is it?", "Yes", "VD", "map")])
    [problem] = problems_of("HallusionBench", path)
    score = BENCHMARKS["HallusionBench"].score(problem, "It certainly is")
    assert (score.value, without_judge(score).value) == (None, 0.0)
    assert problem.meta["wanted"] == "Yes or No"
    assert score_of("HallusionBench", problem, None) == 0.0


def test_an_index_of_another_set(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.tsv", COLUMNS, [("17", encoded(), "Is it?", "Yes", "VD", "map")])
    with pytest.raises(StoreError, match=r"line 2: no row of HallusionBench: the index '17' does not name set"):
        problems_of("HallusionBench", path)
