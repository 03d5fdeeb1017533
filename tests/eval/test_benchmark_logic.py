"""VisuLogic reads a letter and nothing else; LogicVista wants all letters. Worked by hand, read from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_rows import encoded, item, problems_of, score_of, write_rows

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import without_judge
from thyme.eval.benchmarks.logic import stated_letter
from thyme.types import Problem


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" B\n", "B"),
        ("\\boxed{B}", "B"),
        ("so $\\boxed{\\text{B}}$.", "B"),
        ("\\boxed{A} or rather \\boxed{ C }", "C"),  # the last one
        ("\\boxed{B or C}", None),
        ("\\boxed{$LETTER}", None),
        ("It must be B.", "B"),
        ("It must be (D).", "D"),
        ("(A)\nbecause", "A"),
        ("A\nbecause", "A"),
        ("(A) A\nbecause", "A"),
        ("(A) B\nbecause", None),
        ("Answer: c", "C"),
        ("The answer is B. It is larger.", "B"),
        ("the correct answer is option: D", "D"),
        ("The answer is (B)", None),  # brackets only at the end of a sentence
        ("(B)", None),
        ("B.", None),
        ("B. the second", None),
        ("E", None),
        ("", None),
    ],
)
def test_worked_by_hand(answer: str, letter: str | None) -> None:
    assert stated_letter(answer) == letter


def test_visulogic_from_its_file_to_its_figures(tmp_path: Path) -> None:
    question = "Which one fits?\nA: A\nB: B\nC: C\nD: D"
    rows = [
        ["0", encoded(), question, "B", "Quantitative Reasoning"],
        ["1", encoded(1), question, "A", "Spatial Reasoning"],
        ["2", encoded(2), question, "A", "Spatial Reasoning"],
    ]
    columns = ["index", "image", "question", "answer", "category"]
    problems = problems_of("VisuLogic", write_rows(tmp_path / "VisuLogic.tsv", columns, rows))
    assert {(problem.question, problem.choices) for problem in problems} == {(question, ())}
    answers = ["\\boxed{B}", "A", "A."]
    items = [item(p.id, score_of("VisuLogic", p, a), p.kind) for p, a in zip(problems, answers, strict=True)]
    assert BENCHMARKS["VisuLogic"].figures(items) == {
        "overall": pytest.approx(2 / 3),
        "Quantitative Reasoning": 1.0,
        "Spatial Reasoning": 0.5,
    }
    assert BENCHMARKS["VisuLogic"].judge is None
    assert score_of("VisuLogic", problems[0], None) == 0.0


# --- LogicVista -------------------------------------------------------------------------------------------------------

ONE, TWO = (Problem(id="0", question="?", answer=answer) for answer in ("B", "A, C"))


@pytest.mark.parametrize(
    ("problem", "answer", "value"),
    [
        (ONE, "B", 1.0),
        (ONE, "(B)", 1.0),
        (ONE, "B.", 1.0),
        (ONE, " B ", 1.0),
        (ONE, "\\boxed{B}", 1.0),
        (ONE, "C", 0.0),
        (ONE, "A, B", 0.0),  # one letter too many
        (ONE, None, 0.0),
        (ONE, "", 0.0),
        (ONE, "the second one", None),
        (ONE, "Box B", None),
        (ONE, "B because it is larger", None),
        (TWO, "A, C", 1.0),
        (TWO, "C and A", 1.0),
        (TWO, "AC", 1.0),
        (TWO, "(A), (C)", 1.0),
        (TWO, "A", 0.0),
        (TWO, "A, C, D", 0.0),
    ],
)
def test_all_letters_and_no_other(problem: Problem, answer: str | None, value: float | None) -> None:
    assert score_of("LogicVista", problem, answer) == value


def test_logicvista_from_its_file_to_its_figures(tmp_path: Path) -> None:
    """A question of two skills counts for both, and once in the whole."""
    columns = ["index", "image", "question", "answer", "reasoning", "skill"]
    rows = [
        ["0", encoded(), "Which box? Select from A, B, C", "B", "because", "inductive"],
        ["1", encoded(1), "Which two?", "A, C", "because", "['numerical', 'inductive']"],
        ["2", encoded(2), "Which way?", "A", "because", "mechanical"],
    ]
    problems = problems_of("LogicVista", write_rows(tmp_path / "LogicVista.tsv", columns, rows))
    answers = ["B", "A", "A"]
    items = [item(p.id, score_of("LogicVista", p, a), **p.meta) for p, a in zip(problems, answers, strict=True)]
    assert BENCHMARKS["LogicVista"].figures(items) == {
        "overall": pytest.approx(2 / 3),
        "inductive": 0.5,
        "deductive": None,
        "numerical": 0.0,
        "spatial": None,
        "mechanical": 1.0,
    }
    assert without_judge(BENCHMARKS["LogicVista"].score(problems[0], "the second")).value == 0.0
    assert "letters" in problems[0].meta["wanted"]
