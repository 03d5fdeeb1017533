"""Charts, documents, mathematics and tool benchmarks: each answer here was scored by hand from the published rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import WITHOUT_JUDGE
from thyme.eval.benchmarks.free_text import as_number, unboxed
from thyme.eval.benchmarks.maths_vista import OFFICIAL, edit_distance
from thyme.eval.benchmarks.tools_tir import overlap
from thyme.eval.items import ItemResult
from thyme.types import Problem, StopReason

OPEN = "open"
"""The rules leave the answer to a judge."""


def problem(name: str, /, **row: Any) -> Problem:
    defaults = {"index": "1", "question": "What is it?", "id": "1", "prompt": "What is it?"}
    return BENCHMARKS[name].to_problem({**defaults, **row}, ())


def told(name: str, answer: str | None, /, **row: Any) -> float | str | None:
    """The score; `OPEN` where rules leave it."""
    score = BENCHMARKS[name].score(problem(name, **row), answer)
    return OPEN if score.value is None and WITHOUT_JUDGE in score.parts else score.value


def by_rules(name: str, answer: str, /, **row: Any) -> float | None:
    """What counts where no judge is there."""
    return BENCHMARKS[name].score(problem(name, **row), answer).parts[WITHOUT_JUDGE]


def item(name: str, score: float | None, kind: str = "", **fields: Any) -> ItemResult:
    values = {"benchmark": name, "arm": "tools", "problem": "1", "kind": kind, "stop": StopReason.ANSWER}
    return ItemResult(**(values | {"score": score} | fields))


@pytest.mark.parametrize("name", ["ChartQA_TEST", "OCRBench", "MathVista_MINI", "MathVerse_MINI_Vision_Only",
                                  "MathVision_MINI", "MMVet", "TIR-Bench"])  # fmt: skip
def test_no_answer_is_wrong_and_no_reference_is_no_score(name: str) -> None:
    row = {"category": "rec", "task": "math"}
    assert told(name, None, answer="['3']", **row) == 0.0
    assert told(name, "  ", answer="3", **row) == 0.0
    assert told(name, "3", **row) is None


# --- ChartQA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("100", "95", 1), ("100", "105", 1), ("100", "94.9", 0), ("100", "105.1", 0),  # 5 % and no more
        ("0.45", "45%", 1), ("45", "45%", 0), ("45%", "0.44", 1), ("45%", "44%", 1),  # a percentage is a share
        ("0", "0", 1), ("0", "0.0", 0), ("0", "0.01", 0),  # 0 is compared as a text
        ("Yes", "yes", 1), ("Yes", "Yes.", 0), ("2016", "2008", 1),  # years are numbers, as published
        ("1,200", "1200", 0), ("1200", "1,200", 0), ("12", "12 cm", 0), ("-3", "3", 0),
        ("['Blue', 'Navy']", "navy", 1), ("['Blue', 'Navy']", "red", 0), ("[x", "[x", 1), ("nan", "nan", 1),
    ],
)  # fmt: skip
def test_chartqa(reference: str, answer: str, score: float) -> None:
    assert told("ChartQA_TEST", answer, answer=reference) == score


def test_chartqa_has_two_halves() -> None:
    kinds = [problem("ChartQA_TEST", answer="1", **row).kind
             for row in ({"split": "test_human"}, {"split": "test_augmented"}, {"type": "human_test"})]  # fmt: skip
    assert kinds == ["human", "augmented", "human"]
    items = [
        item("ChartQA_TEST", 1.0, "human"),
        item("ChartQA_TEST", 0.0, "human"),
        item("ChartQA_TEST", 1.0, "augmented"),
    ]
    assert BENCHMARKS["ChartQA_TEST"].figures(items) == {"overall": 2 / 3, "augmented": 1.0, "human": 0.5}


# --- OCRBench ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("category", "reference", "answer", "score"),
    [
        ("Regular Text Recognition", "['CENTRE']", "The word is centre.", 1),
        ("Regular Text Recognition", "['CENTRE']", "center", 0),
        ("Doc-oriented VQA", "['a b', 'c']", "it is C", 1),
        ("Doc-oriented VQA", "['a b']", "a\nb", 1),
        ("Doc-oriented VQA", "['a b']", "ab", 0),
        ("Handwritten Mathematical Expression Recognition", r"['x ^ { 2 } + 1']", "x^{2}+1", 1),
        ("Handwritten Mathematical Expression Recognition", r"['x ^ { 2 }']", "X^{2}", 0),
        ("Handwritten Mathematical Expression Recognition", r"['a b']", "a\n b", 1),
    ],
)
def test_ocrbench(category: str, reference: str, answer: str, score: float) -> None:
    assert told("OCRBench", answer, answer=reference, category=category) == score


def test_ocrbench_reports_six_categories_of_recognition_together() -> None:
    items = [item("OCRBench", 1.0, "Handwriting Recognition"), item("OCRBench", 0.0, "Digit String Recognition"),
             item("OCRBench", 1.0, "Doc-oriented VQA"), item("OCRBench", None, "Doc-oriented VQA"),
             item("OCRBench", 0.0, "Handwritten Mathematical Expression Recognition")]  # fmt: skip
    found = BENCHMARKS["OCRBench"].figures(items)
    assert (found["overall"], found["Text Recognition"], found["Doc-oriented VQA"]) == (0.5, 0.5, 1.0)
    assert found["Handwritten Mathematical Expression Recognition"] == 0.0
    assert BENCHMARKS["OCRBench"].figures([])["overall"] is None


# --- MathVista --------------------------------------------------------------------------------------------------------

CHOICE = {"question_type": "multi_choice", "answer_type": "text", "choices": "['3/11', '8/11', '6/11']",
          "answer": "8/11", "answer_option": "B"}  # fmt: skip
WHOLE = {"question_type": "free_form", "answer_type": "integer", "answer": "14"}
DECIMAL = {"question_type": "free_form", "answer_type": "float", "answer": "1.45", "precision": "2.0"}
LIST = {"question_type": "free_form", "answer_type": "list", "answer": "[2007, 2008]"}


@pytest.mark.parametrize(
    ("row", "answer", "score", "official"),
    [
        (CHOICE, "B", 1, 1), (CHOICE, "(B) 8/11", 1, 1), (CHOICE, "8/11", 1, 1), (CHOICE, "C", 0, 0),
        (CHOICE, "8 / 11", OPEN, 1),  # the authors take the option that is nearest in spelling
        (WHOLE, "14", 1, 1), (WHOLE, "14.0", 1, 1), (WHOLE, "15", 0, 0),
        (WHOLE, "14.7", 0, 1),  # the authors cut the digits behind the point off
        (WHOLE, "There are 14.", OPEN, 0),
        (DECIMAL, "1.45", 1, 1), (DECIMAL, "1.450", 1, 1), (DECIMAL, "1.449", 0, 1), (DECIMAL, "1.5", 0, 0),
        (DECIMAL, "$1.45", OPEN, 0),
        (LIST, "[2007, 2008]", 1, 1), (LIST, "[2007,2008]", 1, 0), (LIST, "2007 and 2008", OPEN, 0),
    ],
)  # fmt: skip
def test_mathvista(row: dict[str, str], answer: str, score: float | str, official: float) -> None:
    assert told("MathVista_MINI", answer, **row) == score
    made = BENCHMARKS["MathVista_MINI"].score(problem("MathVista_MINI", **row), answer)
    assert made.parts[OFFICIAL] == official


def test_mathvista_without_a_judge_reads_the_only_number() -> None:
    assert by_rules("MathVista_MINI", "There are 14.", **WHOLE) == 1.0
    assert by_rules("MathVista_MINI", "There are 14 of 20.", **WHOLE) == 0.0


def test_mathvista_figures() -> None:
    items = [item("MathVista_MINI", 1.0, "geometry", parts={OFFICIAL: 1.0}, meta={"skills": ["algebra", "logic"]}),
             item("MathVista_MINI", 0.0, "geometry", parts={OFFICIAL: 1.0}, meta={"skills": ["algebra"]}),
             item("MathVista_MINI", 0.0, "charts", meta={"skills": []}),
             item("MathVista_MINI", None, "charts", parts={OFFICIAL: 1.0})]  # fmt: skip
    assert BENCHMARKS["MathVista_MINI"].figures(items) == {
        "overall": 1 / 3, "official": 2 / 3, "charts": 0.0, "geometry": 0.5, "algebra": 0.5, "logic": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "steps"), [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
)
def test_edit_distance(one: str, other: str, steps: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == steps


# --- MATH-Vision and MathVerse ----------------------------------------------------------------------------------------

LETTERS = {"choices": "['A', 'B', 'C', 'D', 'E']", "answer": "D"}


@pytest.mark.parametrize(
    ("row", "answer", "score"),
    [
        (LETTERS, "D", 1), (LETTERS, "(D)", 1), (LETTERS, "A", 0), (LETTERS, "A or D", OPEN),
        ({"choices": "['2', '3']", "answer": "B"}, "3", 1), ({"options": "['2', '3']", "answer": "B"}, "2", 0),
        ({"choices": "[]", "answer": "0.75"}, "3/4", 1), ({"choices": "[]", "answer": "0.75"}, "0.7500001", 1),
        ({"choices": "[]", "answer": "0.75"}, "0.7501", 0), ({"answer": "12"}, "12.0", 1), ({"answer": "12"}, "13", 0),
        ({"answer": r"2\sqrt{3}"}, r"2\sqrt{3}", 1), ({"answer": r"2\sqrt{3}"}, r"\sqrt{12}", OPEN),
        ({"answer": "12"}, "12 cm", OPEN), ({"answer": "a, b"}, "A, B", 1),
    ],
)  # fmt: skip
def test_mathvision(row: dict[str, str], answer: str, score: float | str) -> None:
    assert told("MathVision_MINI", answer, **row) == score


IN_PICTURE = {"question_type": "multi-choice", "answer": "C",
              "question_for_eval": "How long is BC?\nChoices:\nA:2\nB:2√{3}\nC:√{3}\nD:2√{2}"}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "answer", "score"),
    [
        (IN_PICTURE, "C", 1), (IN_PICTURE, "C: √{3}", 1), (IN_PICTURE, "B", 0), (IN_PICTURE, "about 1.7", OPEN),
        ({"question_type": "multi-choice", "answer": "C"}, "(C)", 1),
        ({"question_type": "multi-choice", "answer": "C"}, "A", 0),
        ({"question_type": "free-form", "answer": "0.5 m"}, "0.5 m", 1),
        ({"question_type": "free-form", "answer": "0.5 m"}, "50 cm", OPEN),
        ({"question_type": "free-form", "answer": "(-2,1]"}, "(-2,1)", OPEN),
        ({"question_type": "free-form", "answer": "22.3"}, "22.30", 1),
        ({"question_type": "free-form", "answer": "22.3"}, "22.4", OPEN),  # every mismatch is compared by the judge
    ],
)  # fmt: skip
def test_mathverse(row: dict[str, str], answer: str, score: float | str) -> None:
    assert told("MathVerse_MINI_Vision_Only", answer, **row) == score


def test_mathverse_reads_metadata_as_json_or_python() -> None:
    for text in (
        "{'subject': 'Plane Geometry', 'subfield': 'Area'}",
        '{"subject": "Plane Geometry", "subfield": "Area"}',
    ):
        made = problem("MathVerse_MINI_Vision_Only", answer="3", metadata=text)
        assert (made.kind, made.meta["subfield"]) == ("Plane Geometry", "Area")
    assert problem("MathVerse_MINI_Vision_Only", answer="3", metadata="damaged").kind == ""


# --- MM-Vet -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MMVet", "MMVet_Hard"])
def test_mmvet_is_the_judges_alone(name: str) -> None:
    assert told(name, "x = -1", answer="-1<AND>-5", category="ocr,math") == OPEN
    assert by_rules(name, "-1 and -5", answer="-1<AND>-5", category="ocr,math") is None
    asked = BENCHMARKS[name].asked
    assert asked is not None
    shown = asked(problem(name, answer="-1<AND>-5<OR>five", category="ocr"), "x = -1")
    assert shown["reference"] == "-1 [AND] -5 [OR] five"


def test_mmvet_counts_a_question_for_each_capability_that_it_needs() -> None:
    items = [item("MMVet", 0.4, "rec,know"), item("MMVet", 1.0, "rec"), item("MMVet", None, "math")]
    found = BENCHMARKS["MMVet"].figures(items)
    assert found["overall"] == found["rec"] == pytest.approx(0.7)
    assert (found["know"], found["math"], found["gen"]) == (0.4, None, None)


# --- TIR-Bench --------------------------------------------------------------------------------------------------------

OFFERED = "Which is it?\nA. red car\nB. blue car\nC. no car"
JIGSAW = {"task": "jigsaw", "answer": "[3, 1, 4, 2]", "meta_data": {"difficulty": 2}}


@pytest.mark.parametrize(
    ("row", "answer", "score"),
    [
        ({"task": "ocr", "answer": "aXes"}, "it says aXes", 1), ({"task": "ocr", "answer": "aXes"}, "axes", 0),
        ({"task": "ocr", "answer": "m", "image_1": "data/ocr/60.jpg"}, "mobi", 1),  # corrected by the published scorer
        ({"task": "ocr", "answer": "m", "image_1": "data/ocr/61.jpg"}, "obi", 0),
        ({"task": "ocr", "answer": "m", "image_1": "data/ocr/60.jpg"}, "m", 0),
        ({"task": "word_search", "answer": "7"}, "7", 1), ({"task": "word_search", "answer": "7"}, "8", 0),
        ({"task": "word_search", "answer": "[17, 1]"}, "(17,1)", 1),
        ({"task": "word_search", "answer": "[17, 1]"}, "row 17, column 1", OPEN),
        ({"task": "word_search", "answer": "[17, 1]"}, "1, 17", 0),
        ({"task": "spot_difference", "answer": "[1, 4, 9]"}, "1, 4", 2 / 3),
        ({"task": "spot_difference", "answer": "[1, 4, 9]"}, "4, 9, 1, 2", 3 / 4),
        ({"task": "spot_difference", "answer": "[1, 4, 9]"}, "3 places: 1, 4, 9", OPEN),
        ({"task": "spot_difference", "answer": "5"}, "**5**", 1),
        (JIGSAW, "3, 1, 4, 2", 1), (JIGSAW, "3, 1\n2, 4", 0.5), (JIGSAW, "The order is 1 3 4 2", 0.5),
        (JIGSAW, "3, 1, 4", OPEN), ({**JIGSAW, "meta_data": '{"difficulty": 2}'}, "3 1 4 2", 1),
        ({"task": "instrument", "answer": "72"}, "72", 1), ({"task": "instrument", "answer": "72"}, "72 degrees", 1),
        ({"task": "instrument", "answer": "72"}, "72.0", 1), ({"task": "instrument", "answer": "72"}, "73", 0),
        ({"task": "instrument", "answer": "72"}, "between 70 and 74", OPEN),
        ({"task": "math", "answer": "0.25"}, "0.25", 1), ({"task": "math", "answer": "0.25"}, "1/4", OPEN),
        ({"task": "color", "answer": "B", "prompt": OFFERED}, "B", 1),
        ({"task": "color", "answer": "B", "prompt": OFFERED}, "B. blue car", 1),
        ({"task": "color", "answer": "B", "prompt": OFFERED}, "the blue car", 1),
        ({"task": "color", "answer": "B", "prompt": OFFERED}, "the red car", 0),
        ({"task": "color", "answer": "A", "prompt": OFFERED}, "a lorry", OPEN),  # published: A, the nearest in spelling
        ({"task": "maze", "answer": "AC", "prompt": OFFERED}, "C, A", 1),
        ({"task": "maze", "answer": "AC", "prompt": OFFERED}, "A", 0),
    ],
)  # fmt: skip
def test_tir_bench(row: dict[str, Any], answer: str, score: float | str) -> None:
    assert told("TIR-Bench", answer, **row) == pytest.approx(score)


def test_tir_bench_without_a_judge() -> None:
    assert by_rules("TIR-Bench", "3 places: 1, 4, 9", task="spot_difference", answer="[1, 4, 9]") == 3 / 4
    assert by_rules("TIR-Bench", "between 70 and 74", task="instrument", answer="72") == 0.0
    assert told("TIR-Bench", "1 2", task="jigsaw", answer="1, 2", meta_data={"difficulty": 3}) is None


def test_tir_bench_ids_are_unique_over_the_tasks() -> None:
    assert {BENCHMARKS["TIR-Bench"].to_problem({"id": 6, "task": task, "prompt": "?", "answer": "1"}, ()).id
            for task in ("maze", "math")} == {"maze-6", "math-6"}  # fmt: skip


def test_overlap_of_nothing_with_nothing_is_whole() -> None:
    assert (overlap([], []), overlap([1], []), overlap([2, 2, 1], [1, 2])) == (1.0, 0.0, 1.0)


# --- MVToolBench ------------------------------------------------------------------------------------------------------

EXTRA = {"answer": "park", "bbox": [1060, 82, 1072, 286], "dataset_name": "hiertext", "index": 0,
         "question": 'What is the shortest word on the line that starts with "LANDSCAPE..."?', "split": "train",
         "transform": ["crop", "rotate_90"]}  # fmt: skip


def test_mvtoolbench_knows_the_target_and_what_was_done_to_the_picture() -> None:
    made = BENCHMARKS["MVToolBench"].to_problem({"extra_info": EXTRA, "prompt": []}, ())
    assert (made.id, made.kind, made.answer) == ("0", "crop+rotate_90", "park")
    assert made.meta == {"boxes": [[1060, 82, 1072, 286]], "changes": ["crop", "rotate_90"], "from": "hiertext"}
    prompt = [{"role": "user", "content": "<image>\nWhich word?"}]
    row = {"prompt": prompt, "extra_info": {"index": 3}, "reward_model": {"ground_truth": 7}}
    other = BENCHMARKS["MVToolBench"].to_problem(row, ())
    assert (other.question, other.answer, other.kind) == ("Which word?", "7", "")


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("park", "park", 1), ("park", "Park", 1), ("park", "the park", 1), ("park", "parks", OPEN),
        ("12", "12.00001", 1), ("12", "12.1", OPEN),
        ("12", "it is 12", 1), ("12", "12 of 13", OPEN), ("0.5", "1/2", 1), ("B", "option B", 1), ("B", "A", OPEN),
        ("1234", "the number 1234", 1),
    ],
)  # fmt: skip
def test_mvtoolbench(reference: str, answer: str, score: float | str) -> None:
    assert told("MVToolBench", answer, extra_info={**EXTRA, "answer": reference}) == score


# --- what they share --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "inner"),
    [
        (r"\boxed{14}", "14"), (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"), (r"\boxed{A} or \boxed{B}", "B"),
        (r"\boxed{never closed", r"\boxed{never closed"), ("plain", "plain"), (r"\boxed{}", ""),
    ],
)  # fmt: skip
def test_the_last_box_holds_the_answer(answer: str, inner: str) -> None:
    assert unboxed(answer) == inner


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3/4", 0.75),
        ("-1 / 2", -0.5),
        ("-\n1/2", -0.5),
        ("+\u00a01/2", 0.5),
        ("1e3", 1000.0),
        ("1/0", None),
        ("x", None),
        ("inf", None),
        ("1e999999999", None),
        ("1/2/3", None),
    ],
)
def test_numbers(text: str, value: float | None) -> None:
    assert as_number(text) == value


ROWS = {
    "ChartQA_TEST": {"answer": "12"}, "OCRBench": {"answer": "['a']", "category": "Doc-oriented VQA"},
    "MathVista_MINI": WHOLE, "MathVision_MINI": {"answer": "1/2"}, "MVToolBench": {"extra_info": EXTRA},
    "MathVerse_MINI_Vision_Only": {"question_type": "free-form", "answer": "12"},
    "TIR-Bench": {"task": "spot_difference", "answer": "[1, 4]"},
}  # fmt: skip
ODD = ("9" * 5000, "1e999999999", "1/0", "\\boxed{" * 500, "(" * 2000, "-", "٣", "A" * 3000, "nan", "[[[", "\ud800")


@given(answer=st.text(max_size=60) | st.from_regex(r"[-+0-9./,%eE() A-E]{0,20}") | st.sampled_from(ODD))
@settings(max_examples=150, deadline=None)
def test_any_answer_has_a_score_from_0_to_1_or_is_left_open(answer: str) -> None:
    for name, row in ROWS.items():
        score = BENCHMARKS[name].score(problem(name, **row), unboxed(answer))
        values = [score.value, *score.parts.values()]
        assert all(value is None or 0.0 <= value <= 1.0 for value in values), name
        assert score.value is not None or WITHOUT_JUDGE in score.parts, name
