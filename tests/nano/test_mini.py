"""thyme-mini: the same problems on every machine, scored by the labels that an answer names."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from thyme.eval.items import TOOLS, ItemResult
from thyme.nano import mini
from thyme.nano.mini_files import CHECKSUM, COLUMNS
from thyme.nano.world import CHARACTERS
from thyme.nano.world import problems as world_problems
from thyme.types import Problem, StopReason

FIRST = "db20bdcef1a90cbf909a18b0d88f2ac3"
"""Checksum of the first two of each kind, drawn alike by Pillow 11.2 to 13.0, NumPy 2.0 to 2.4, Python 3.11 to 3.13."""


@pytest.fixture(scope="module")
def drawn() -> list[Problem]:
    return list(mini.problems(2))


def test_the_first_problems_are_the_published_ones(drawn):
    assert mini.checksum(drawn) == FIRST


def test_the_checksum_sees_words_facts_pixels_and_order(drawn):
    one, two, *rest = drawn
    changes = (
        [one.model_copy(update={"answer": "XX"}), two, *rest],
        [one.model_copy(update={"meta": {**one.meta, "boxes": [[0, 0, 1, 1]]}}), two, *rest],
        [one.model_copy(update={"images": two.images}), two, *rest],
        [two, one, *rest],
        drawn[:-1],
    )
    assert len({mini.checksum(problems) for problems in (drawn, *changes)}) == 1 + len(changes)
    only_pixels = changes[2]
    assert mini.words_checksum(only_pixels) == mini.words_checksum(drawn)


def test_kinds_alternate_and_ids_say_which(drawn):
    assert [problem.kind for problem in drawn] == [*mini.KINDS, *mini.KINDS]
    assert [problem.id for problem in drawn[:7]] == [f"{kind}-000" for kind in mini.KINDS] + ["easy-001"]
    assert list(mini.first(3)) == drawn[:3]
    assert mini.ROWS == 1200


def test_the_problems_are_those_that_nano_eval_asks_with_this_seed(drawn):
    world = list(world_problems("test", mini.SEED, 2, mini.KINDS))
    assert [(p.question, p.answer, p.images[0].id) for p in drawn] == [
        (p.question, p.answer, p.images[0].id) for p in world
    ]


def test_every_kind_has_the_facts_that_its_faithfulness_needs(drawn):
    for problem in drawn:
        plates = problem.answer.split()
        facts = problem.meta
        assert len(facts["boxes"]) == len(facts["large"]) == len(facts["colors"]) == len(plates)
        assert ("angle" in facts) == (problem.kind == "rotation")
        assert ("contrast" in facts) == (problem.kind == "contrast")
        assert all(0 <= left < right <= 1024 and 0 <= top < low <= 1024 for left, top, right, low in facts["boxes"])
        assert all(color in problem.question for color in facts["colors"])


def test_no_answer_stands_in_the_question_or_the_id(drawn):
    for problem in drawn:
        assert not set(problem.answer.split()) & set(mini.labels(problem.question + " " + problem.id))


RIGHT = {
    "A3": ("A3", "a3", "A3.", "**A3**", '"A3"', "The red plate says A3.", "the label is a3", "A3\n\nAnswer: A3"),
    "22": ("22", "It says 22.", "(22)"),
    "A3 F7": ("A3 F7", "A3, F7", "a3 and f7", "red: A3, blue: F7", "A3\nF7"),
    "7H 7H": ("7H 7H", "7H and 7H"),
}
WRONG = {
    "A3": ("", "A", "A4", "3A", "A33", "A3 or A4", "xA3", "O8", "I cannot read it."),
    "A3 F7": ("A3", "F7 A3", "A3 F7 22", "A3 A3"),
    "7H 7H": ("7H",),
}


def asked(answer: str) -> Problem:
    return Problem(id="x", question="?", answer=answer)


@pytest.mark.parametrize(("answer", "said"), [(a, s) for a, many in RIGHT.items() for s in many])
def test_right_however_it_is_said(answer, said):
    assert mini.score(asked(answer), said).value == 1.0


@pytest.mark.parametrize(("answer", "said"), [(a, s) for a, many in WRONG.items() for s in many])
def test_wrong(answer, said):
    assert mini.score(asked(answer), said).value == 0.0


def test_no_answer_is_wrong():
    assert mini.score(asked("A3"), None).value == 0.0


pairs = st.text(CHARACTERS, min_size=2, max_size=2)


@given(st.lists(pairs, min_size=1, max_size=2), st.lists(pairs, min_size=1, max_size=2))
def test_an_answer_of_bare_labels_is_right_only_if_it_is_the_reference(wanted, said):
    value = mini.score(asked(" ".join(wanted)), " ".join(said)).value
    assert value == float(said == wanted or said == 2 * wanted)


def item(kind: str, score: float | None) -> ItemResult:
    return ItemResult(benchmark=mini.NAME, arm=TOOLS, problem=kind, kind=kind, score=score, stop=StopReason.ANSWER)


def test_figures_leave_out_what_was_not_scored():
    found = mini.figures([item("zoom", 1.0), item("zoom", None), item("easy", 0.0)])
    assert (found["overall"], found["zoom"], found["easy"], found["contrast"]) == (0.5, 1.0, 0.0, None)
    assert mini.BENCHMARK.headline in found


def test_the_benchmark_reads_the_rows_of_every_layout(drawn):
    turned = drawn[3]
    facts = dict(turned.meta)
    common = {"id": turned.id, "question": turned.question, "answer": turned.answer, "category": turned.kind}
    as_lists = {**common, **facts, "contrast": None}
    as_cells = {**common, **{name: str(value).replace("'", '"').lower() for name, value in facts.items()}}
    as_pandas = {**as_cells, "contrast": float("nan")}
    for row in (as_lists, {**as_cells, "contrast": ""}, as_pandas):
        assert mini.BENCHMARK.to_problem(row, turned.images) == turned


def test_the_document_names_checksum_kinds_and_columns():
    text = (Path(__file__).parents[2] / "docs" / "thyme_mini.md").read_text(encoding="utf-8")
    assert CHECKSUM in text
    assert all(f"\n| {kind} |" in text for kind in mini.KINDS)
    assert all(f"`{name}`" in text for name in COLUMNS)
