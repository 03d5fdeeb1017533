"""What the perception phases ask about a view: nothing that cannot be seen, nothing twice, and what gates accept."""

import random

import pytest

from thyme.nano.perception.language import _is_near, _listed_check
from thyme.nano.perception.questions import (
    COORDINATE_TOKENS,
    LIST_LABELS,
    LIST_PLACES,
    LIST_PLATES,
    UPRIGHT,
    copying,
    digits,
    reading,
    tokens,
    turns,
)
from thyme.nano.perception.views import FAINT, Seen, View

PLATES = (
    Seen("red", "K7", True, (640, 320)),
    Seen("blue", "A3", False, (96, 928)),
)
UPRIGHT_VIEW = View("mixed", 0, PLATES)


def test_what_cannot_be_read_is_said_to_be_so():
    assert reading(UPRIGHT_VIEW, PLATES[0]) == " red K7"
    assert reading(UPRIGHT_VIEW, PLATES[1]) == " blue small"
    assert reading(View("turned", 1, PLATES), PLATES[0]) == "Turn by 270 degrees."
    assert reading(View("faint", FAINT, PLATES), PLATES[0]) == "The contrast is low."


def test_lists_name_every_plate_in_spare_tokens_and_in_any_order():
    rng = random.Random(0)
    seen = {turns(rng, UPRIGHT_VIEW, "lists", 4)[0] for _ in range(20)}
    red, blue = f" red{tokens((640, 320))}K7", f" blue{tokens((96, 928))}"
    assert seen == {(LIST_PLATES, f"{red};{blue}"), (LIST_PLATES, f"{blue};{red}")}


def test_the_mixture_never_tells_what_cannot_be_seen():
    rng = random.Random(1)
    asked = [turn for _ in range(200) for turn in turns(rng, UPRIGHT_VIEW, "mixture", 4)]
    assert not any("A3" in answer for _, answer in asked)
    assert {question for question, _ in asked} >= {LIST_PLACES, LIST_LABELS, UPRIGHT, "Where is the blue plate?"}
    assert all("<|" not in answer for _, answer in asked)


@pytest.mark.parametrize("phase", ["lists", "digits", "mixture", "polish"])
@pytest.mark.parametrize("view", [View("turned", 3, PLATES), View("faint", FAINT, PLATES), View("crop", 0, ())])
def test_every_view_has_a_question_in_every_phase(phase, view):
    rng = random.Random(2)
    for _ in range(20):
        asked = turns(rng, view, phase, 3)
        assert asked
        assert all(question and answer for question, answer in asked)


def test_no_question_comes_twice():
    rng = random.Random(3)
    for _ in range(50):
        questions = [question for question, _ in turns(rng, UPRIGHT_VIEW, "mixture", 4)]
        assert len(questions) == len(set(questions))


def test_copying_repeats_its_text():
    rng = random.Random(4)
    for _ in range(50):
        question, answer = copying(rng)
        assert question.endswith(answer)
        assert answer


def test_gates_judge_places_within_tolerance():
    assert _is_near((640, 320))(digits((672, 288)))
    assert not _is_near((640, 320))(digits((640, 384)))
    assert not _is_near((640, 320))("(640 320)")
    check = _listed_check("red", (640, 320))
    assert check(tokens((608, 320)))
    assert not check(tokens((640, 256)))
    assert len(set(COORDINATE_TOKENS)) == 64
