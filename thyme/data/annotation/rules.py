"""What a question must meet before it is submitted, exported or taken in; the server's word, and the importers'."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.records import CATEGORIES, Annotation, Box
from thyme.rewards.answer import NUMBER, normalise

MOST_QUESTION: Final = 2000
"""Characters."""
MOST_ANSWER: Final = 300
"""Characters of an answer or option."""
YES_NO: Final = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a question."""

    field: str
    """Field of `Annotation` that it is about."""
    message: str
    """For people; names the way out."""


def faults(annotation: Annotation, settings: AnnotationSettings) -> list[Fault]:
    """All that is wrong with a question; empty where it may be submitted.

    Args:
        annotation: The question; of its image the size is read only.
        settings: The rules (paper, section 4.1: images above 2048 pixels, targets of at most 5 % of the area).
    """
    return [Fault(field, message) for rule in _RULES for field, message in rule(annotation, settings)]


def share(box: Box, size: tuple[int, int]) -> float:
    """Part of an image's area that a box takes, 0 to 1; a box that is turned round takes none.

    Args:
        box: Pixels.
        size: Width and height of the image, pixels.
    """
    left, top, right, bottom = box
    return max(0, right - left) * max(0, bottom - top) / (size[0] * size[1])


def _image(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    longer = max(annotation.image.size)
    if longer <= settings.min_side:
        yield "image", f"its longer side has {longer} pixels; a side must be longer than {settings.min_side}"


def _question(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    words = annotation.question.strip()
    if not words:
        yield "question", "ask something"
    elif len(words) > MOST_QUESTION:
        yield "question", f"it has {len(words)} characters; at most {MOST_QUESTION} are read"


def _answer(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    words = annotation.answer.strip()
    if not words:
        yield "answer", "say the right answer"
    elif len(words) > MOST_ANSWER:
        yield "answer", f"it has {len(words)} characters; at most {MOST_ANSWER} are compared by rule"
    elif annotation.answer_type == "yes_no" and words.casefold() not in YES_NO:
        yield "answer", "say yes or no"
    elif annotation.answer_type == "number" and NUMBER.match(words) is None:
        yield "answer", "begin with a number, such as 12, 0.5 or 40 km"


def _choices(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    options = annotation.choices
    if annotation.answer_type != "choice":
        if options:
            yield "choices", "only a multiple-choice question has options; remove them, or change the type"
        return
    fewest, most = settings.choices
    if not fewest <= len(options) <= most:
        yield "choices", f"there are {len(options)} options; {fewest} to {most} are wanted"
    if not all(option.strip() for option in options):
        yield "choices", "an option is empty; fill it in, or remove it"
    if any(len(option) > MOST_ANSWER for option in options):
        yield "choices", f"an option has more than {MOST_ANSWER} characters; shorten it"
    named = [normalise(option) for option in options if option.strip()]
    if len(set(named)) < len(named):
        yield "choices", "two options are the same; change or remove one"
    if annotation.answer.strip() and annotation.answer not in options:
        yield "answer", "the answer is none of the options; choose one of them"


def _category(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    if annotation.category not in CATEGORIES:
        yield "category", f"choose one of {', '.join(CATEGORIES)}"


def _box(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    if annotation.box is None:
        yield "box", "draw a box around what shows the answer"
        return
    (left, top, right, bottom), (width, height) = annotation.box, annotation.image.size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        yield "box", f"the box does not lie in the image of {width} x {height} pixels; draw it anew"
        return
    if min(right - left, bottom - top) < settings.min_box:
        yield "box", f"the box has {right - left} x {bottom - top} pixels; at least {settings.min_box} each are wanted"
    taken = share(annotation.box, annotation.image.size)
    if taken > settings.max_share:
        told = _above(taken, settings)
        yield "box", f"the box takes {told} of the image; at most {settings.max_share:.1%} are allowed"


def _above(taken: float, settings: AnnotationSettings) -> str:
    """A share with as many digits as it takes to tell that it is too large."""
    shown = (f"{taken * 100:.{digits}f}" for digits in range(1, 10))
    found = next((text for text in shown if float(text) > settings.max_share * 100), f"{taken * 100:.9f}")
    return f"{found}%"


def _hidden(annotation: Annotation, settings: AnnotationSettings) -> Iterator[tuple[str, str]]:
    if not settings.require_hidden or annotation.hidden_when_small:
        return
    if annotation.hidden_when_small is None:
        yield "hidden_when_small", "look at the image as the model first sees it, and say whether it shows the answer"
    else:
        yield "hidden_when_small", "the answer is to be seen in the reduced image already; ask about something smaller"


_RULES: Final[tuple[Callable[[Annotation, AnnotationSettings], Iterator[tuple[str, str]]], ...]] = (
    _image, _question, _answer, _choices, _category, _box, _hidden,
)  # fmt: skip
