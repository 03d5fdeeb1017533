"""What a question must meet, whether two answers are the same, and wrong options that might be right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.agreement import agrees, kappa
from thyme.data.annotation.distractors import distractors
from thyme.data.annotation.records import Annotation
from thyme.data.annotation.rules import faults, share
from thyme.rewards.answer import normalise
from thyme.types import ImageRecord

SETTINGS = AnnotationSettings()
IMAGE = ImageRecord(id="a" * 32, width=4000, height=3000, mode="RGB")


def annotation(**changed: Any) -> Annotation:
    """A question that meets all rules, but for what is changed."""
    made = Annotation(
        id="q", image=IMAGE, question="What does the sign say?", answer="KX7", category="ocr",
        box=(100, 100, 300, 200), hidden_when_small=True,
    )  # fmt: skip
    return made.model_copy(update=changed)


def fields(found: Annotation, settings: AnnotationSettings = SETTINGS) -> list[str]:
    return [fault.field for fault in faults(found, settings)]


def test_a_good_question_has_no_faults() -> None:
    assert faults(annotation(), SETTINGS) == []
    options = annotation(answer_type="choice", answer="red", choices=("red", "blue"))
    assert faults(options, SETTINGS) == []
    assert faults(annotation(answer_type="number", answer="40 km"), SETTINGS) == []
    assert faults(annotation(answer_type="yes_no", answer="Yes"), SETTINGS) == []


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ({"question": "  "}, "question", "ask something"),
        ({"question": "x" * 2001}, "question", "2001 characters"),
        ({"answer": ""}, "answer", "right answer"),
        ({"answer": "x" * 301}, "answer", "301 characters"),
        ({"answer_type": "yes_no", "answer": "maybe"}, "answer", "yes or no"),
        ({"answer_type": "number", "answer": "many"}, "answer", "a number"),
        ({"choices": ("a", "b")}, "choices", "only a multiple-choice"),
        ({"answer_type": "choice", "choices": ("KX7",)}, "choices", "1 options; 2 to 10"),
        ({"answer_type": "choice", "choices": ("KX7", " ")}, "choices", "empty"),
        ({"answer_type": "choice", "choices": ("KX7", "kx7.", "b")}, "choices", "the same"),
        ({"answer_type": "choice", "choices": ("KX7", "y" * 301)}, "choices", "300 characters"),
        ({"answer_type": "choice", "choices": ("a", "b")}, "answer", "none of the options"),
        ({"category": "other"}, "category", "choose one of ocr"),
        ({"box": None}, "box", "draw a box"),
        ({"box": (300, 100, 100, 200)}, "box", "does not lie in the image"),
        ({"box": (3900, 100, 4001, 200)}, "box", "does not lie in the image"),
        ({"box": (100, 100, 103, 200)}, "box", "3 x 100 pixels"),
        ({"box": (0, 0, 1000, 601)}, "box", "5.01% of the image"),
        ({"hidden_when_small": None}, "hidden_when_small", "look at the image"),
        ({"hidden_when_small": False}, "hidden_when_small", "ask about something smaller"),
        ({"image": IMAGE.model_copy(update={"width": 2048, "height": 2048})}, "image", "2048 pixels"),
    ],
)
def test_each_rule_names_its_field(changed: dict[str, Any], field: str, message: str) -> None:
    found = faults(annotation(**changed), SETTINGS)
    assert [fault.field for fault in found] == [field]
    assert message in found[0].message


def test_the_settings_decide() -> None:
    large = annotation(box=(0, 0, 2000, 1500), hidden_when_small=None)
    assert fields(large) == ["box", "hidden_when_small"]
    assert fields(large, AnnotationSettings(max_share=0.25, require_hidden=False)) == []
    assert fields(annotation(), AnnotationSettings(min_side=5000)) == ["image"]


SIDE = st.integers(-50, 4100)


@given(box=st.tuples(SIDE, SIDE, SIDE, SIDE))
def test_boxes_that_pass_lie_inside_and_take_no_more_than_is_allowed(box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    good = (
        left >= 0 and right <= 4000 and top >= 0 and bottom <= 3000
        and right - left >= 4 and bottom - top >= 4
        and (right - left) * (bottom - top) <= 0.05 * 4000 * 3000
    )  # fmt: skip
    assert (fields(annotation(box=box)) == []) is good
    assert share(box, (4000, 3000)) >= 0


@pytest.mark.parametrize(
    ("answer", "given_", "choices", "same"),
    [
        ("KX7", "kx7", (), True),
        ("KX7", "KX8", (), False),
        ("KX7", "  ", (), False),
        ("12", "12 cars", (), True),
        ("40 km", "40", (), True),
        ("red", "red", ("red", "blue"), True),
        ("red", "A", ("red", "blue"), True),
        ("red", "B", ("red", "blue"), False),
        ("B", "A", ("B", "A"), False),  # options that are letters themselves: the text counts
        ("B", "B", ("A", "B"), True),
        ("yes", "Yes.", (), True),
    ],
)
def test_the_same_answer(answer: str, given_: str, choices: tuple[str, ...], same: bool) -> None:
    assert agrees(answer, given_, choices=choices) is same


def test_kappa_where_nothing_can_be_said() -> None:
    assert kappa({}) is None
    assert kappa({("ocr", "ocr"): 5}) is None
    assert kappa({("ocr", "chart"): 1, ("ocr", "ocr"): 1, ("chart", "chart"): 1, ("chart", "ocr"): 1}) == 0


@pytest.mark.parametrize(
    ("answer", "category", "like"),
    [
        (
            "red",
            "attribute",
            {"blue", "green", "yellow", "black", "white", "grey", "orange", "purple", "pink", "brown"},
        ),
        ("A blue car", "attribute", {"A red car", "A green car", "A black car", "A white car", "A grey car"}),
        ("top left", "location", {"top right", "bottom left", "bottom right", "centre"}),
        ("Monday", "ocr", {"Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}),
    ],
)
def test_words_of_a_set_give_others_of_it(answer: str, category: str, like: set[str]) -> None:
    found = distractors(answer, category=category, count=10)
    assert set(found[:3]) <= like | set(distractors(answer, category=category, count=20))
    assert len(like & set(found)) >= 3


def test_numbers_are_written_like_the_answer() -> None:
    assert all(option.endswith(" km") and option[0].isdigit() for option in distractors("40 km", category="quantity"))
    assert all(len(option.partition(".")[2]) == 2 for option in distractors("3.75"))
    assert all("," in option for option in distractors("12,345"))
    assert "-1" not in distractors("0", count=10)


def test_others_of_the_category_that_look_alike() -> None:
    found = distractors("Harbour Street", others=["Mill Lane", "Market Square", "7", "harbour street", ""])
    assert set(found) == {"Mill Lane", "Market Square"}


def test_codes_are_misread() -> None:
    found = distractors("KX70")
    assert len(found) == 3
    for option in found:
        assert len(option) == 4
        assert sum(a != b for a, b in zip(option, "KX70", strict=True)) <= 2


@given(answer=st.text(max_size=30), others=st.lists(st.text(max_size=12), max_size=5), count=st.integers(0, 6))
def test_no_option_is_the_answer_or_another_one(answer: str, others: list[str], count: int) -> None:
    found = distractors(answer, others=others, count=count)
    named = [normalise(option) for option in (answer.strip(), *found)]
    assert len(found) <= count
    assert len(set(named)) == len(named)
    assert found == distractors(answer, others=others, count=count)


@pytest.mark.parametrize(("right", "bottom", "told"), [(800, 750, []), (800, 751, ["5.01%"]), (3001, 200, ["5.002%"])])
def test_a_share_just_above_is_not_said_to_be_what_is_allowed(right: int, bottom: int, told: list[str]) -> None:
    found = faults(annotation(box=(0, 0, right, bottom)), SETTINGS)
    assert [fault.message.split()[3] for fault in found] == told
