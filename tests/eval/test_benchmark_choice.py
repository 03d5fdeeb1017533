"""Options are inferred from answers as VLMEvalKit of August 2025 infers them; worked by hand."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from benchmark_rows import encoded, item, problems_of, score_of, write_rows
from hypothesis import given
from hypothesis import strategies as st

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import WITHOUT_JUDGE, without_judge
from thyme.eval.benchmarks.choice import NO_OPTION, infer_option
from thyme.eval.benchmarks.custom import custom
from thyme.types import Problem

OPTIONS = {"A": "The bag is red.", "B": "The bag is blue.", "C": "12", "D": "none of these"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" B\n", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("B. 7 cm long", "B"),  # three words behind the letter
        ("B. 7 cm or so", None),  # four are too many
        ("B. 12 cm or so", "C"),  # and then the text decides: that is what the published rule does
        ("B) The bag is blue.", "B"),  # by its text
        ("B: The bag is blue", None),  # its full stop is missing
        ("The answer is B", "B"),
        ("The answer is (B).", "B"),
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("A or B", None),  # two letters
        ("A man with one", "A"),  # the article is taken for the letter
        ("A man with a bag", None),  # too far from the end
        ("b", None),  # letters count as capitals only
        ("the bag is blue.", "B"),  # the text of one option, in any case
        ("It must be 12 or so", "C"),
        ("125", "C"),  # as part of the answer: that is what the published rule does
        ("The bag is red. The bag is blue.", None),
        ("none of these", "D"),
        ("Z", NO_OPTION),
        ("I choose Z", NO_OPTION),
        ("Cannot determine the answer, but B", NO_OPTION),
        ("Sorry, I can't help with images of people yet.", NO_OPTION),
        ("E", None),  # no option of this question
        ("green", None),
        ("the bag is blue. " + "x" * 100, None),  # more than twice as long as all options together
    ],
)
def test_worked_by_hand(answer: str, letter: str | None) -> None:
    assert infer_option(answer, OPTIONS) == letter


@given(st.text(max_size=40), st.sets(st.sampled_from(string.ascii_uppercase), min_size=1, max_size=6))
def test_only_options_come_out(answer: str, letters: set[str]) -> None:
    options = {letter: f"text of {letter}" for letter in sorted(letters)}
    assert infer_option(answer, options) in {None, NO_OPTION, *options}


@given(
    st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}.", " {} ", "Answer: {}", "the answer is {}", "[{}]"])
)
def test_a_letter_alone_is_always_that_option(letter: str, form: str) -> None:
    assert infer_option(form.format(letter), OPTIONS) == letter


# --- the sets ---------------------------------------------------------------------------------------------------------

GLOVE = Problem(id="0", question="Material?", choices=("rubber", "cotton", "kevlar", "leather"), answer="A")


@pytest.mark.parametrize("name", ["VStarBench", "HRBench4K", "HRBench8K", "RealWorldQA", "MMStar", "BLINK", "WeMath"])
@pytest.mark.parametrize(
    ("answer", "value"),
    [("A", 1.0), ("(A) rubber", 1.0), ("Rubber", 1.0), ("B", 0.0), ("cotton", 0.0), ("Z", 0.0), ("", 0.0), (None, 0.0)],
)
def test_answers_that_rules_decide(name: str, answer: str | None, value: float) -> None:
    assert score_of(name, GLOVE, answer) == value


def test_what_rules_cannot_decide_is_a_judges_and_wrong_without_one() -> None:
    score = BENCHMARKS["VStarBench"].score(GLOVE, "Some kind of plastic")
    assert (score.value, score.parts) == (None, {WITHOUT_JUDGE: 0.0})
    assert without_judge(score).value == 0.0
    assert "no judge" in without_judge(score).note
    assert BENCHMARKS["VStarBench"].judge == "extract"


def test_a_question_without_reference_is_not_scored() -> None:
    open_question = GLOVE.model_copy(update={"answer": None})
    assert without_judge(BENCHMARKS["BLINK"].score(open_question, "A")).value is None


def test_vstar_by_category() -> None:
    """115 and 76 questions in the published set; overall is their weighted mean: here 3 of 4 and 1 of 2."""
    scores = [("direct_attributes", 1.0)] * 3 + [("direct_attributes", 0.0), ("relative_position", 1.0)]
    items = [item(str(place), score, kind) for place, (kind, score) in enumerate([*scores, ("relative_position", 0.0)])]
    assert BENCHMARKS["VStarBench"].figures(items) == {"overall": 4 / 6, "attribute": 3 / 4, "spatial": 1 / 2}
    assert BENCHMARKS["VStarBench"].figures(items[:1]) == {"overall": 1.0, "attribute": 1.0, "spatial": None}
    assert BENCHMARKS["VStarBench"].figures([]) == {"overall": None, "attribute": None, "spatial": None}


def test_unscored_items_are_in_no_mean() -> None:
    items = [item("0", 1.0, "Jigsaw"), item("1", None, "Jigsaw"), item("2", None, "Counting")]
    assert BENCHMARKS["BLINK"].figures(items) == {"overall": 1.0, "Jigsaw": 1.0, "Counting": None}


def test_mmstar_by_both_levels_of_category(tmp_path: Path) -> None:
    columns = ["index", "image", "question", "A", "B", "C", "D", "answer", "category", "l2-category"]
    rows = [
        [0, encoded(), "Which?", "a", "b", "c", "d", "A", "coarse perception", "image scene and topic"],
        [1, encoded(1), "Which?", "a", "b", "c", "d", "B", "math", "geometry"],
    ]
    problems = problems_of("MMStar", write_rows(tmp_path / "MMStar.tsv", columns, rows))
    items = [item(one.id, score_of("MMStar", one, "A"), one.kind, **one.meta) for one in problems]
    assert BENCHMARKS["MMStar"].figures(items) == {
        "overall": 0.5,
        "coarse perception": 1.0,
        "math": 0.0,
        "geometry": 0.0,
        "image scene and topic": 1.0,
    }


# --- files of one's own -----------------------------------------------------------------------------------------------


def test_a_file_of_ones_own_mixes_both_kinds_of_questions(tmp_path: Path) -> None:
    columns = ["index", "question", "A", "B", "answer", "category"]
    rows = [[0, "Which?", "red", "blue", "B", "colour"], [1, "How many?", "", "", "3", "count"]]
    own = custom(write_rows(tmp_path / "mine.tsv", columns, rows))
    from thyme.eval.benchmarks.files import read_benchmark

    first, second = read_benchmark(own, tmp_path / "mine.tsv")
    assert own.name == "mine"
    assert [own.score(first, answer).value for answer in ("B", "blue", "A")] == [1.0, 1.0, 0.0]
    assert own.score(second, "3").value == 1.0
    assert own.score(second, "4").value is None
    assert without_judge(own.score(second, "4")).value == 0.0
    assert own.score(second, None).value == 0.0
