"""How the rule-based teacher of the data factory solves what it is asked, in the embedded model's own few words.

It goes by what any teacher gets: the functional prompt with its notes, and the picture, which it reads
(`thyme.nano.factory.reader`). Nothing of the build reaches it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from thyme.nano.factory.reader import Sight, asked_colors, expression_of, true_answer
from thyme.nano.teacher import Plan, cleared, computed, crop_code, near, says, turned_upright
from thyme.nano.world import COLORS, CROP, GRID, SIDE

Box = tuple[float, float, float, float]

WIDE: Final = 384
"""Side of a first, wider look, pixels."""

_MEASURE = """from PIL import Image
import numpy as np
image = np.array(Image.open(image_path))
same = (image == {color}).all(2).any(0).nonzero()[0]
print(same[-1] - same[0] + 1)"""


class NotOurProblemError(ValueError):
    """A request is none of the data factory, or about no scene of the embedded world."""


@dataclass(frozen=True)
class Asked:
    """What a teacher is asked."""

    scenario: str
    question: str
    targets: tuple[Box, ...] = ()
    wider: Box | None = None
    wrong: Box | None = None
    back: int = 0
    """Degrees counter-clockwise that put the picture upright."""

    @classmethod
    def of(cls, text: str) -> Asked:
        """Read a functional prompt.

        Raises:
            NotOurProblemError: It is none.
        """
        kind, question = _KIND.search(text), _QUESTION.search(text)
        if kind is None or question is None or kind.group(1) not in PLANS:
            raise NotOurProblemError("this teacher knows the data factory's requests only")
        notes = text[kind.end() :]
        back = _BACK.search(notes)
        return cls(
            scenario=kind.group(1),
            question=question.group(1),
            targets=_boxes("Target", notes),
            wider=next(iter(_boxes("Wider region", notes)), None),
            wrong=next(iter(_boxes("First region", notes)), None),
            back=int(back.group(1)) if back else 0,
        )

    @property
    def colors(self) -> list[str]:
        """Of the plates that are asked for, in order."""
        return asked_colors(self.question)

    @property
    def points(self) -> list[tuple[int, int]]:
        """Where the targets are, as the embedded model states places."""
        return [stated(box, side_for(box)) for box in self.targets]


_KIND = re.compile(r"^Kind of example: (\w+)$", re.MULTILINE)
_QUESTION = re.compile(r"^Question: (.+)$", re.MULTILINE)
_BACK = re.compile(r"Image\.rotate\((\d+)")


def _boxes(name: str, notes: str) -> tuple[Box, ...]:
    found = re.findall(rf"^{name}\b[^:\n]*: \(([-\d., ]+)\)$", notes, re.MULTILINE)
    return tuple((a, b, c, d) for a, b, c, d in ([float(v) for v in numbers.split(",")] for numbers in found))


def stated(box: Box, side: int = CROP) -> tuple[int, int]:
    """The middle of a box on the grid, so far inside that a look of this side stays in the scene."""
    low, high = side // 2, SIDE - side // 2
    x, y = (min(max(round(v / GRID) * GRID, low), high) for v in ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    return x, y


def side_for(box: Box) -> int:
    """Side of the look that holds a target whole, pixels."""
    return CROP if box[2] - box[0] <= CROP // 2 else WIDE


def solve(asked: Asked, sight: Sight | None) -> Plan:
    """How a request is answered without fault.

    Args:
        asked: The request.
        sight: What its picture shows; None where it has none.

    Raises:
        NotOurProblemError: The picture does not show what is asked for.
    """
    answer = true_answer(asked.question, sight)
    if answer is None:
        raise NotOurProblemError(f"the picture does not tell: {asked.question}")
    return PLANS[asked.scenario](asked, answer)


def at_sight(asked: Asked, answer: str) -> Plan:
    """Read without code; what is calculated, in the head."""
    if not asked.colors or asked.question.startswith("How wide"):
        return Plan((), f"The result is {answer}.", answer)
    read = (f"I see {color} {label}." for color, label in zip(asked.colors, answer.split(), strict=True))
    return Plan((), " ".join(read), answer)


def crops(asked: Asked, answer: str) -> Plan:
    """A crop around each plate that is asked for."""
    rounds, said = [], ""
    for number, (color, box, label) in enumerate(zip(asked.colors, asked.targets, answer.split(), strict=True), 1):
        side = side_for(box)
        point = stated(box, side)
        rounds.append((f"{said}{near(color, point)}", crop_code(point, number, side)))
        said = f"{says(color, label)} "
    return Plan(tuple(rounds), said.strip(), answer)


def _rotation(asked: Asked, answer: str) -> Plan:
    return turned_upright(asked.colors[0], asked.back, answer)


def _contrast(asked: Asked, answer: str) -> Plan:
    return cleared(asked.colors[0], answer)


def _computation(asked: Asked, answer: str) -> Plan:
    expression = expression_of(asked.question)
    if expression is None:
        raise NotOurProblemError(f"nothing is to be computed in: {asked.question}")
    return computed(expression, answer)


def _operations(asked: Asked, answer: str) -> Plan:
    color = asked.colors[0]
    code = _MEASURE.format(color=COLORS[color])
    return Plan(((f"I see {color}. I compute the plate.\n", code),), f"The result is {answer}.", answer)


def _enhancement(asked: Asked, answer: str) -> Plan:
    color, point = asked.colors[0], asked.points[0]
    first = stated(_held(asked.wider or asked.targets[0], asked.targets[0]), WIDE)
    rounds = (
        (near(color, first), crop_code(first, 1, WIDE)),
        (f"Now {near(color, point)}", crop_code(point, 2)),
    )
    return Plan(rounds, says(color, answer), answer)


def _held(wider: Box, target: Box) -> Box:
    """The point near the middle of a region from which a wide look holds the target; at edges the middle may not."""
    room = WIDE / 2 - GRID
    middles = ((wider[0] + wider[2]) / 2, (wider[1] + wider[3]) / 2)
    x, y = (min(max(v, target[i + 2] - room), target[i] + room) for i, v in enumerate(middles))
    return x, y, x, y


def _correction(asked: Asked, answer: str) -> Plan:
    color, point = asked.colors[0], asked.points[0]
    first = stated(asked.wrong or asked.targets[0])
    rounds = (
        (near(color, first), crop_code(first, 1)),
        (f"Now I see no {color}. It is near {color} ({point[0]}, {point[1]}). I zoom in.\n", crop_code(point, 2)),
    )
    return Plan(rounds, says(color, answer), answer)


PLANS: Final[dict[str, Callable[[Asked, str], Plan]]] = {
    "no_code": at_sight,
    "crop": crops,
    "rotation": _rotation,
    "contrast": _contrast,
    "operations": _operations,
    "computation": _computation,
    "enhancement": _enhancement,
    "correction": _correction,
}
"""By scenario."""
