"""Format and consistency by rule, and the codes that are no numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_samples import Ran, rollout

from thyme.rewards.answer import score_answer
from thyme.rewards.consistency import reasoning, states_answer
from thyme.rewards.format import as_released, by_grammar
from thyme.types import Problem


@pytest.mark.parametrize(
    ("response", "paper", "released"),
    [
        ("<think>a</think>\n<answer>b</answer>", 1, 1),
        ("<think>a</think> <answer>b</answer>", 1, 1),
        ("<think>a</think>\n\n<answer>b</answer>", 1, 0),
        ("<think>a</think><answer>b</answer>", 1, 0),
        ("<think>a</think>\n<answer>b</answer>\n", 1, 0),
        ("<think>a</think>\n<answer></answer>", 0, 1),
        ("before <think>a</think>\n<answer>b</answer>", 0, 1),
        ("<think>a <code>1</code> no output</think>\n<answer>b</answer>", 0, 1),
        ("<think>a <code>1</code>\n<sandbox_output>\n1\n</sandbox_output>\n</think>\n<answer>b</answer>", 1, 1),
        ("<think>a</think>\n<answer>b</answer> and more", 0, 0),
        ("<think>a</think>\n<answer>b</answer><answer>c</answer>", 0, 0),
        ("<think>a</think></think>\n<answer>b</answer>", 0, 0),
        ("a</think>\n<answer>b</answer>", 0, 0),
        ("<think>a</think>\nso <answer>b</answer>", 0, 0),
        ("<think>a</think>\n<answer>b", 0, 0),
        ("<answer>b</answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_format_by_grammar_and_as_released(response: str, paper: int, released: int) -> None:
    assert (by_grammar(response), as_released(response)) == (paper, released)


@given(st.text(st.characters(exclude_characters="<")), st.text(alphabet="ab <>/"), st.sampled_from([" ", "\n", "\t"]))
def test_the_released_format_wants_one_white_space(thought: str, answer: str, space: str) -> None:
    response = f"<think>{thought}</think>{space}<answer>{answer}</answer>"
    assert as_released(response) == 1
    assert as_released(response.replace(f"</think>{space}", f"</think>{space}{space}")) == 0


# --- codes and units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "answer", "value"),
    [
        ("9C", "9C", 1), ("9C", "9c", 1), ("9C", "9Y", 0), ("9C", "9", 0), ("39 FL", "39 FL", 1), ("39 FL", "39", 0),
        ("39 FL", "39 PT", 0), ("37 X3", "37 X8", 0), ("25 KM", "25 km", 1), ("25 KM", "25", 1), ("5 GB", "5", 1),
        ("12 cm", "12 mm", 0), ("12 cm", "12 cm.", 1), ("12 cm", "12", 1), ("12 cm", "12 centimetres", 1),
        ("8", "8 million", 0), ("8 million", "8,000,000", 1), ("8 million", "8", 1), ("8 million", "0.008 billion", 1),
        ("36", "3 dozen", 1), ("3", "less than 3", 0), ("3", "At least 3", 0), ("5", "not 5", 0), ("3", "about 3", 1),
        ("12", "12 mm", 1), ("5 s", "5 seconds", 1), ("5 s", "5 min", 0), ("90°", "90 degrees", 1),
    ],
)  # fmt: skip
def test_letters_behind_a_number_are_a_unit_or_a_code(reference: str, answer: str, value: float) -> None:
    """A policy must not be paid for half of a label."""
    assert score_answer(Problem(id="p", question="?", answer=reference), answer).value == value


@pytest.mark.parametrize(
    ("reference", "answer", "value"),
    [
        ("12.5%", "0.125", 1), ("12.5%", "12.5", 1), ("12.5%", "0.17", 0), ("12.5%", "0.1", 0),
        ("45%", "45 %", 1), ("45%", "0.45%", 0), ("45%", "4500%", 0), ("0.45", "45%", 1),
        ("2", r"\sqrt{2}", 0), ("2", "√2", 0), ("2", "2π", 0), ("2", r"2\pi", 0), ("2", "x^2", 0), ("3", "3²", 0),
        ("3", "x > 3", 0), ("3", r"x \le 3", 0), ("3", "±3", 0), ("90", r"90^\circ", 1), ("90", r"90^{\circ}", 1),
        ("3", "3x", 1), ("3", "x = 3", 1), ("3", "≈ 3", 1), ("5", "5!", 1), ("2", r"\log 2", 0),
        ("2x", "2", 0), ("2x", "2x", 1), ("3π", "3", 0), ("10²", "10", 0), ("10²", "10^2", 1), ("10²", "102", 0),
    ],
)  # fmt: skip
def test_a_number_is_that_number_and_not_a_part_of_another(reference: str, answer: str, value: float) -> None:
    assert score_answer(Problem(id="p", question="?", answer=reference), answer).value == value


@pytest.mark.parametrize(
    ("reference", "same", "another"),
    [
        ("2(x+1)", "2 (x + 1).", "2x+1"), ("x-1", "$x - 1$", "x1"), ("1/x", "1 / x", "1x"), ("-x", "-X", "x"),
        ("(1, 2)", r"\left(1,2\right)", "12"), ("[0, 1)", "[0,1)", "(0,1]"), ("-3, 5", "-3 and 5", "35"),
        (r"\frac{1}{23}", r" \frac{1}{23} ", r"\frac{12}{3}"), ("version 1.5", "Version 1.5!", "version 15"),
        ("gate -3", "the gate -3", "gate 3"), ("KX-47", "KX 47", "KX 4.7"), ("12/25/2020", "12-25-2020", "12/25/2021"),
        ("no. 12", "No.12", "no. 1.2"), ("v1.5", "V 1.5", "v15"),
        (".5 litres of milk", ".5 Litres of milk", "5 litres of milk"),
    ],
)  # fmt: skip
def test_signs_count_where_they_mean_something(reference: str, same: str, another: str) -> None:
    problem = Problem(id="p", question="?", answer=reference)
    assert score_answer(problem, same).value == 1
    assert score_answer(problem, another).value == 0


@pytest.mark.parametrize(
    "answer",
    ["A, B, C, D", "A. B.", "(A) (B)", "(A), (B)", "A/B", "A\nB", "a, b", "The answer is A or B", "Answer: A (or B)",
     "A) red, B) green", "A: red or B: green"],
)  # fmt: skip
def test_several_options_are_no_answer(answer: str) -> None:
    problem = Problem(id="p", question="?", answer="A", choices=COLOURS)
    assert score_answer(problem, answer).value == 0


@pytest.mark.parametrize(
    ("choices", "answer", "place"),
    [
        (("3", "-3"), "-3", 1), (("1.5", "15"), "15", 1), (("2(x+1)", "2x+1"), "2x+1", 1), (("1/2", "12"), "12", 1),
        (("x", "Both A and B", "A and C"), "A and C", 2), (("x", "Vitamin C", "z"), "B. Vitamin C", 1),
        (("x", "y", "z"), "A. I see it, so C is wrong", 0), (("red", "a dog"), "B. A dog", 1),
    ],
)  # fmt: skip
def test_one_option_is_told_from_the_others(choices: tuple[str, ...], answer: str, place: int) -> None:
    for right in range(len(choices)):
        problem = Problem(id="p", question="?", answer="ABC"[right], choices=choices)
        assert score_answer(problem, answer).value == (right == place)


# --- consistency ------------------------------------------------------------------------------------------------------

COLOURS = ("red", "green", "dark green", "none of these")


def stated(thought: str, answer: str, choices: tuple[str, ...] = ()) -> float | None:
    return states_answer(Problem(id="p", question="?", choices=choices), (thought,), answer)


@pytest.mark.parametrize(
    ("thought", "answer"),
    [
        ("The result is 1697.", "1697"),
        ("So 778 + 943 - 24 = 1697.", "1,697"),
        ("First I see 3 cats. Then 2 dogs. That makes 5 animals.", "5"),
        ("The answer is 5 because there are 3 cats and 2 dogs.", "5 animals"),
        ("Now I see green 9C.", "9C"),
        ("The sign reads KX-47.", "KX 47"),
        ("It is the word “Exit”.", "exit"),
        ("The area is $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("I see 42. Now I am done.", "42"),
        ("The ratio is 0.45", "45%"),
    ],
)
def test_a_conclusion_that_is_the_answer(thought: str, answer: str) -> None:
    assert stated(thought, answer) == 1


@pytest.mark.parametrize(
    ("thought", "answer"),
    [
        ("The result is 1697.", "1698"),
        ("The answer is 42. No, it is 43.", "42"),
        ("Now I see green 9C.", "9Y"),
        ("The sign reads KX 48.", "KX 47"),
        ("The result is red.", "blue"),
    ],
)
def test_a_conclusion_that_is_another(thought: str, answer: str) -> None:
    assert stated(thought, answer) == 0


@pytest.mark.parametrize(("thought", "answer"), [("", "42"), ("Now it is large enough.", "42"), ("Done.", "KX 47")])
def test_nothing_is_stated(thought: str, answer: str) -> None:
    assert stated(thought, answer) is None


@pytest.mark.parametrize(
    ("thought", "answer", "value"),
    [
        ("The car is dark green.", "C", 1),
        ("The car is dark green.", "dark green", 1),
        ("The car is dark green.", "B", 0),
        ("The car is green.", "B", 1),
        ("So the answer is (C).", "C", 1),
        ("So the answer is C.", "A", 0),
        ("It could be red or green.", "A", None),
        ("None of these. Hence option D", "D", 1),
        ("I cannot tell.", "A", None),
    ],
)
def test_conclusions_of_multiple_choice(thought: str, answer: str, value: float | None) -> None:
    assert stated(thought, answer, COLOURS) == value


def test_an_answer_of_several_words_may_be_stated_in_parts() -> None:
    problem = Problem(id="p", question="?")
    thoughts = ("Asked: red, blue.", "Now I see red T3.", "Now I see blue HL.")
    assert states_answer(problem, thoughts, "T3 HL") == 1
    assert states_answer(problem, thoughts, "T4 HL") == 0
    assert states_answer(problem, thoughts, "HL T3") == 0


def test_reasoning_is_text_without_code_observations_and_answer() -> None:
    made = rollout("<think>I look. <code>", Ran("print(7)", "7"), "It is 42.</think>\n<answer>43</answer>")
    assert reasoning(made) == ("I look.", "It is 42.")


def test_only_what_follows_the_last_observation_is_a_conclusion() -> None:
    made = rollout("<think>I guess 42. <code>", Ran("print(42)", "42"), "Good.</think>\n<answer>42</answer>")
    assert states_answer(made.problem, reasoning(made), "42") is None


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20), st.lists(st.text(max_size=8), max_size=4))
def test_any_texts_can_be_held_against_each_other(before: str, thought: str, answer: str, choices: list[str]) -> None:
    problem = Problem(id="p", question="?", choices=tuple(choices))
    assert states_answer(problem, (before, thought), answer) in {0.0, 1.0, None}
