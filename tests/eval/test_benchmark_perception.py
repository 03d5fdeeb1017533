"""HRBench: the mean over cyclic permutations. MME-RealWorld: the first letter. Worked by hand, read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import encoded, item, problems_of, score_of, write_rows

from thyme.errors import StoreError
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.perception import first_letter
from thyme.eval.items import ItemResult

HR_COLUMNS = ["index", "question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image"]


def hr_file(path: Path) -> Path:
    """Two questions in four cyclic orders of their options each, in the columns and their order as published."""
    rows: list[list[Any]] = []
    for number, (category, options) in enumerate((("single", "abcd"), ("cross", "efgh"))):
        for turn in range(4):
            turned = options[turn:] + options[:turn]
            right = "ABCD"[turned.index(options[0])]
            rows.append([len(rows), f"Question {number}?", right, category, *turned, f"cycle_{turn}", encoded(number)])
    return write_rows(path / "hr_bench_4k.tsv", HR_COLUMNS, rows)


def test_hrbench_from_its_file_to_its_figures(tmp_path: Path) -> None:
    """Always answering A is right in the order in which A is right, and nowhere else: a quarter, not all or nothing."""
    benchmark = BENCHMARKS["HRBench4K"]
    problems = problems_of("HRBench4K", hr_file(tmp_path))
    assert [problem.answer for problem in problems] == ["A", "D", "C", "B"] * 2
    assert [problem.meta["cycle"] for problem in problems[:4]] == [f"cycle_{turn}" for turn in range(4)]
    items = [item(one.id, score_of("HRBench4K", one, "A"), one.kind, **one.meta) for one in problems]
    assert benchmark.figures(items) == {"overall": 0.25, "single": 0.25, "cross": 0.25}
    clusters = [benchmark.cluster(one) for one in items]
    assert len(set(clusters)) == 2
    assert clusters[:4] == [clusters[0]] * 4


def hr_items(*orders: tuple[str, str, float | None]) -> list[ItemResult]:
    return [item(str(n), score, kind, cycle=cycle) for n, (cycle, kind, score) in enumerate(orders)]


def test_hrbench_is_the_mean_over_orders_and_not_over_rows() -> None:
    """Orders of 1 and 3 rows weigh alike: (1 + 1/3) / 2. Of cross there is one order only."""
    items = hr_items(("0", "single", 1.0), ("1", "single", 0.0), ("1", "single", 1.0), ("1", "cross", 0.0))
    assert BENCHMARKS["HRBench8K"].figures(items) == {
        "overall": pytest.approx((1 + 1 / 3) / 2),
        "single": (1 + 0.5) / 2,
        "cross": 0.0,
    }
    assert BENCHMARKS["HRBench8K"].figures([]) == {"overall": None, "single": None, "cross": None}
    assert BENCHMARKS["HRBench8K"].figures(hr_items(("0", "single", None)))["overall"] is None


# --- MME-RealWorld ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"),
        ("(E)", "E"),
        ("b", "B"),  # part of "(b)"
        ("(c)", "C"),
        ("(C) 12", "C"),
        ("The best answer is D.", "D"),
        ("The answer is: E", "E"),
        ("Best option: B", "B"),
        ("Apple", "A"),  # the first capital A to E, wherever it is
        ("I think it is B", "B"),
        ("The image does not show it", ""),
        ("Definitely A", "D"),
        ("The correct answer is the Car", "C"),
        ("the sign says stop and nothing more than that as far as one sees", ""),
        ("12", ""),
        ("f", ""),
        ("F", ""),
        (")", "A"),  # part of "(a)": published, and odd
        ("The answer is", "A"),  # nothing is left, which is part of everything: published, and odd
    ],
)
def test_the_first_letter(answer: str, letter: str) -> None:
    assert first_letter(answer) == letter


OPTIONS = ["(A) 3", "(B) 4", "(C) 5", "(D) 6", "(E) The image does not feature the object"]
RW_COLUMNS = ["index", "image", "question", "multi-choice options", *"ABCDE", "answer", "category", "l2-category"]


def rw_row(index: int, category: str, l2: str, *, split: bool = True) -> list[Any]:
    listed = "The choices are listed below:\n" + "\n".join(OPTIONS)
    return [
        index,
        encoded(),
        "How many?",
        listed,
        *(option[4:] if split else "" for option in OPTIONS),
        "B",
        category,
        l2,
    ]


def test_mme_realworld_from_its_file_to_its_figures(tmp_path: Path) -> None:
    rows = [
        rw_row(0, "Perception/OCR with Complex Context", "license"),
        rw_row(1, "Perception/Remote Sensing", "count", split=False),
        rw_row(2, "Reasoning/Monitoring", "calculate"),
        rw_row(3, "Perception/Remote Sensing", "color"),
    ]
    problems = problems_of("MME-RealWorld", write_rows(tmp_path / "MME-RealWorld.tsv", RW_COLUMNS, rows))
    assert {problem.choices for problem in problems} == {("3", "4", "5", "6", "The image does not feature the object")}
    assert (problems[1].kind, problems[1].meta) == ("Perception", {"domain": "Remote Sensing", "l2_category": "count"})
    answers = ["B", "(B) 4", "None", "C"]
    items = [
        item(one.id, score_of("MME-RealWorld", one, answer), one.kind, **one.meta)
        for one, answer in zip(problems, answers, strict=True)
    ]
    assert [one.score for one in items] == [1.0, 1.0, 0.0, 0.0]
    assert BENCHMARKS["MME-RealWorld"].figures(items) == {
        "overall": 0.5,
        "perception": pytest.approx(2 / 3),
        "reasoning": 0.0,
        "Perception/OCR with Complex Context": 1.0,
        "Perception/Remote Sensing": 0.5,
        "Reasoning/Monitoring": 0.0,
    }


def test_the_lite_file_lists_its_options_as_python_writes_a_list(tmp_path: Path) -> None:
    """Published without the columns A to E."""
    columns = ["index", "image", "question", "multi-choice options", "answer", "category", "l2-category"]
    rows = [[7, encoded(), "How many?", str(OPTIONS), "E", "Reasoning/Autonomous_Driving", "intention/ego"]]
    [problem] = problems_of("MME-RealWorld-Lite", write_rows(tmp_path / "mme_realworld_lite.tsv", columns, rows))
    assert problem.choices[1] == "4"
    assert problem.choices[4] == "The image does not feature the object"
    assert (score_of("MME-RealWorld-Lite", problem, "e"), score_of("MME-RealWorld-Lite", problem, "B")) == (1.0, 0.0)


def test_no_option_of_a_list_is_lost(tmp_path: Path) -> None:
    """Some brackets are full-width; the published code cuts entries by place, whatever they begin with."""
    options = ["(A) one", "（B） two", "（C）three", "four", "(E) five"]
    columns = ["index", "image", "question", "multi-choice options", "answer", "category", "l2-category"]
    row = ["0", encoded(), "?", str(options), "C", "Perception/Remote Sensing", "count"]
    [problem] = problems_of("MME-RealWorld-CN", write_rows(tmp_path / "MME-RealWorld-CN.tsv", columns, [row]))
    assert (problem.choices, problem.answer) == (("one", "two", "three", "four", "five"), "C")


def test_the_chinese_set(tmp_path: Path) -> None:
    listed = ["(A) 三", "(B) 四", "(C) 五", "(D) 六", "(E) 图片中没有"]
    columns = ["index", "image", "question", "multi-choice options", *"ABCDE", "answer", "category", "l2-category"]
    row = [0, encoded(), "有几个?", "选项如下所示:\n" + "\n".join(listed), *(one[4:] for one in listed), "C",
           "Perception/OCR with Complex Context", "标识"]  # fmt: skip
    [problem] = problems_of("MME-RealWorld-CN", write_rows(tmp_path / "MME-RealWorld-CN.tsv", columns, [row]))
    assert problem.choices[2] == "五"
    assert score_of("MME-RealWorld-CN", problem, "最佳答案为：C") == 1.0
    assert score_of("MME-RealWorld-CN", problem, "五") == 0.0


@pytest.mark.parametrize(("answer", "value"), [(None, 0.0), ("", 0.0), (" \n", 0.0), ("\\boxed{b}", 1.0)])
def test_no_answer_is_wrong_and_a_box_is_unwrapped(answer: str | None, value: float, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.tsv", RW_COLUMNS, [rw_row(0, "Perception/Remote Sensing", "count")])
    [problem] = problems_of("MME-RealWorld", path)
    assert score_of("MME-RealWorld", problem, answer) == value
    assert BENCHMARKS["MME-RealWorld"].judge is None


@pytest.mark.parametrize(
    ("category", "listed", "message"),
    [("Perception/x", "", "no options"), ("Sight/x", "(A) 1\n(B) 2", "'Sight' is neither of Perception, Reasoning")],
)
def test_rows_that_are_not_of_the_set(tmp_path: Path, category: str, listed: str, message: str) -> None:
    columns = ["index", "image", "question", "multi-choice options", "answer", "category", "l2-category"]
    path = write_rows(tmp_path / "a.tsv", columns, [[0, encoded(), "?", listed, "A", category, "x"]])
    with pytest.raises(StoreError, match=f"line 2: no row of MME-RealWorld: .*{message}"):
        problems_of("MME-RealWorld", path)
