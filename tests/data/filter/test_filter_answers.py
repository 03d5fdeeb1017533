"""Which answers a rule can check, and in which language a question is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.config.rl_filter import AnswerStep
from thyme.data.filter.language import language_of
from thyme.data.filter.verifiable import answer_kind, count_words, why_not
from thyme.types import Problem


def problem(answer: str | None, question: str = "What is it?", choices: tuple[str, ...] = ()) -> Problem:
    return Problem(id="x", question=question, answer=answer, choices=choices)


@pytest.mark.parametrize(
    ("answer", "choices", "kind"),
    [
        ("B", ("red", "blue"), "choice"),
        ("(b) blue", ("red", "blue"), "choice"),
        ("blue", ("red", "blue"), "choice"),
        ("green", ("red", "blue"), None),
        ("Yes", (), "yes_no"),
        ("不是", (), "yes_no"),
        ("12", (), "number"),
        ("-3.5 %", (), "number"),
        ("1/2", (), "number"),
        ("x^2 + 1", (), "formula"),
        ("\\frac{1}{2}", (), "formula"),
        ("2x", (), "text"),
        ("Main Street", (), "text"),
        ("9C", (), "text"),
        ("A", (), "text"),
        ("", (), None),
        (None, (), None),
    ],
)
def test_an_answer_is_of_a_kind(answer: str | None, choices: tuple[str, ...], kind: str | None) -> None:
    assert answer_kind(problem(answer, choices=choices)) == kind


def test_a_letter_is_a_choice_where_the_question_has_such_options() -> None:
    asked = "Which one?\nA. a dog\nB. a cat\nC. a cow"
    assert answer_kind(problem("C", asked)) == "choice"
    assert answer_kind(problem("(B)", "Which? (A) dog (B) cat")) == "choice"
    assert answer_kind(problem("D", asked)) == "text"


@pytest.mark.parametrize(
    ("asked", "settings", "reason"),
    [
        (problem(None), {}, "no_answer"),
        (problem("green", choices=("red", "blue")), {}, "no_option"),
        (problem("red"), {"kinds": ("number",)}, "answer_kind"),
        (problem("a man who walks his dog in the rain"), {}, "long_answer"),
        (problem("一只狗在雨中和它的主人一起散步回家"), {}, "long_answer"),
        (problem("1" * 300), {}, "long_answer"),
        (problem("a man who walks his dog in the rain"), {"max_words": 9}, None),
        (problem("red"), {}, None),
        (problem("1,024 px"), {}, None),
        (problem("$\\sqrt{2}$"), {}, None),
    ],
)
def test_what_no_rule_can_check_has_a_reason(asked: Problem, settings: dict[str, object], reason: str | None) -> None:
    found = why_not(asked, answer_kind(asked), AnswerStep(**settings))
    assert (found and found[0]) == reason


@given(st.text(max_size=40), st.lists(st.text(max_size=10), max_size=5))
def test_no_answer_breaks_the_step_and_what_is_kept_is_found_right(answer: str, choices: list[str]) -> None:
    from thyme.rewards.answer import score_answer

    asked = problem(answer, choices=tuple(choices))
    if why_not(asked, answer_kind(asked), AnswerStep()) is None:
        assert score_answer(asked, answer.strip()).value == 1


def test_words_of_scripts_without_spaces_are_counted_too() -> None:
    assert count_words("two words") == 2
    assert count_words("红色的汽车") == 3
    assert count_words("NIKE 红色") == 2


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What color is the car on the left?", "en"),
        ("图中有几辆车？", "zh"),
        ("車は何台ありますか？", "ja"),
        ("Welche Farbe hat das Auto?", "de"),
        ("Сколько машин на картинке?", "ru"),
        ("¿De qué color es el coche?", "es"),
        ("x^2 + 3 = 7", ""),
        ("$\\frac{a}{b}$ = ?", ""),
        ("Find x.", ""),
        ("", ""),
    ],
)
def test_the_language_of_a_question(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_language_that_is_wanted_wins_where_it_is_nearly_as_likely() -> None:
    assert language_of("Сколько машин на картинке?", ["uk"]) == "uk"
    assert language_of("Welche Farbe hat das Auto?", ["en"]) == "de"


@given(st.text(max_size=200))
def test_any_text_has_a_code_or_none(text: str) -> None:
    assert len(language_of(text, ["en"])) in (0, 2)
