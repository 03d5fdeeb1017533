"""What the base is taught to answer about what it sees: the perception that the tool user later builds on.

The order matters (shared study): lists of all plates in random order, with one spare token a coordinate, make the
language model match colours at all; digits and single questions come after that, the whole mixture last. Every answer
names the colour right before what it says of that plate: a model of this size finds a plate by the word that it has
just written, and learns nothing where the colour stands only in the question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from thyme.nano.perception.views import FAINT, Seen, View
from thyme.nano.world import CHARACTERS, COLORS, GRID, READ_ONE, SIDE, expression

Phase = Literal["lists", "digits", "mixture", "polish"]
PHASES: tuple[Phase, ...] = get_args(Phase)
Turn = tuple[str, str]
"""Question and answer."""

WHERE = ("Where is the {a} plate?", "Locate the {a} plate.")
LIST_PLATES = "List all plates."
LIST_PLACES = "Where are the plates?"
LIST_LABELS = "Read all plates."
UPRIGHT = "Is the image upright?"
COPY = "Copy: "


def coordinate_token(axis: Literal["x", "y"], value: int) -> str:
    """The spare token of one grid coordinate."""
    return f"<|{axis}{value // GRID}|>"


COORDINATE_TOKENS = [coordinate_token(axis, v) for axis in ("x", "y") for v in range(0, SIDE, GRID)]


def digits(point: tuple[int, int]) -> str:
    """A point as trajectories write it."""
    return f"({point[0]}, {point[1]})"


def tokens(point: tuple[int, int]) -> str:
    """A point in spare tokens."""
    return coordinate_token("x", point[0]) + coordinate_token("y", point[1])


def _listed(rng: random.Random, view: View) -> Turn:
    """Every plate in random order, with what can be seen of it."""
    items = []
    for plate in rng.sample(view.plates, len(view.plates)):
        place = "" if view.kind == "crop" else tokens(plate.stated)
        items.append(f" {plate.color}{place}{plate.label if plate.legible else ''}")
    return LIST_PLATES, ";".join(items) or " none"


def _places(rng: random.Random, view: View) -> Turn:
    plates = rng.sample(view.plates, len(view.plates))
    return LIST_PLACES, ",".join(f" {p.color} {digits(p.stated)}" for p in plates)


def _labels(rng: random.Random, view: View) -> Turn:
    plates = [p for p in rng.sample(view.plates, len(view.plates)) if p.legible]
    return LIST_LABELS, ",".join(f" {p.color} {p.label}" for p in plates) or " none"


def _where(rng: random.Random, plate: Seen) -> Turn:
    return rng.choice(WHERE).format(a=plate.color), f" {plate.color} {digits(plate.stated)}"


def reading(view: View, plate: Seen) -> str:
    """The answer to a reading question: the label, or why it cannot be read."""
    if view.state == FAINT:
        return "The contrast is low."
    if view.state:
        return f"Turn by {360 - 90 * view.state} degrees."
    return f" {plate.color} {plate.label if plate.legible else 'small'}"


def _read(rng: random.Random, view: View, plate: Seen) -> Turn:
    return rng.choice(READ_ONE).format(a=plate.color), reading(view, plate)


def _upright(view: View) -> Turn:
    if view.state in {0, FAINT}:
        return UPRIGHT, "yes"
    return UPRIGHT, f"no, turn by {360 - 90 * view.state} degrees"


def turns(rng: random.Random, view: View, phase: Phase, count: int) -> list[Turn]:
    """Questions and answers about one view.

    Args:
        rng: Source of every choice.
        view: What is asked about.
        phase: ``lists``, ``digits``, ``mixture`` or ``polish``.
        count: Turns at most; no question comes twice.
    """
    if phase == "lists" or (phase == "digits" and rng.random() < 0.25):
        return [_listed(rng, view)] if view.state == 0 else [_upright(view)]
    found: dict[str, str] = {}
    for _ in range(count):
        question, answer = _one(rng, view, _SHARES[phase])
        found.setdefault(question, answer)
    return list(found.items())


_SHARES: dict[Phase, tuple[float, float, float, float, float]] = {
    "digits": (0.34, 0.16, 0.40, 0.08, 0.02),
    "mixture": (0.36, 0.40, 0.10, 0.10, 0.04),
    "polish": (0.30, 0.40, 0.08, 0.18, 0.04),
}
"""How often an upright scene is asked where a plate is, what it says, where all are, what all say, if it is upright."""


def _one(rng: random.Random, view: View, shares: Sequence[float]) -> Turn:
    if not view.plates:
        return LIST_LABELS, " none"
    plate = rng.choice(view.plates)
    if view.state:
        return _upright(view) if rng.random() < 0.3 else _read(rng, view, plate)
    if view.kind == "crop":
        return _read(rng, view, plate) if rng.random() < 0.8 else _labels(rng, view)
    questions: Sequence[Callable[[], Turn]] = (
        lambda: _where(rng, plate),
        lambda: _read(rng, view, plate),
        lambda: _places(rng, view),
        lambda: _labels(rng, view),
        lambda: _upright(view),
    )
    return rng.choices(questions, shares)[0]()


def naming(rng: random.Random) -> Turn:
    """A question without a picture, answered by the colour it names: what makes an answer begin with the right one."""
    color = rng.choice(list(COLORS))
    return rng.choice((*READ_ONE, *WHERE)).format(a=color), f" {color}"


def copying(rng: random.Random) -> Turn:
    """Something to repeat: what makes code copy numbers that the text states."""
    form = rng.randrange(4)
    if form == 0:
        text = expression(rng)[0]
    elif form == 1:
        text = digits((rng.randrange(3, 30) * GRID, rng.randrange(3, 30) * GRID))
    elif form == 2:
        text = str(rng.randint(-999, 99_999))
    else:
        text = "".join(rng.choice(CHARACTERS) for _ in range(2))
    return COPY + text, text
