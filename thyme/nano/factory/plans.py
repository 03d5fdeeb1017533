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
from thyme.nano.teacher import Plan
from thyme.nano.world import COLORS, CROP, GRID, SIDE
from thyme.types import OUTPUT_DIR

Box = tuple[float, float, float, float]

WIDE: Final = 384
"""Side of a first, wider look, pixels."""

_OPEN = "from PIL import Image\nimage = Image.open(image_path)\n"
_CROP = """x, y = {x}, {y}
crop = image.crop((x - {half}, y - {half}, x + {half}, y + {half}))
path = "{folder}/crop_{number}.png"
crop.save(path)
print(path)"""
_TURN = (
    _OPEN + 'image = image.rotate({angle}, expand=True)\npath = "{folder}/upright.png"\nimage.save(path)\nprint(path)'
)
_CLEAR = (
    "from PIL import Image, ImageOps\nimage = Image.open(image_path)\nimage = ImageOps.autocontrast(image)\n"
    'path = "{folder}/clear.png"\nimage.save(path)\nprint(path)'
)
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


def crop_code(point: tuple[int, int], number: int, side: int = CROP) -> str:
    """A block that cuts a square out; the first one opens the picture."""
    body = _CROP.format(x=point[0], y=point[1], half=side // 2, folder=OUTPUT_DIR, number=number)
    return (_OPEN if number == 1 else "") + body


def turn_code(angle: int) -> str:
    """A block that turns the picture, degrees counter-clockwise."""
    return _TURN.format(angle=angle, folder=OUTPUT_DIR)


def near(color: str, point: tuple[int, int]) -> str:
    """Where a small plate is, before it is cut out."""
    return f"I see {color} small. It is near {color} ({point[0]}, {point[1]}). I zoom in.\n"


def says(color: str, label: str) -> str:
    """What a plate says."""
    return f"Now I see {color} {label}."


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
    before = f"The image is not upright. I turn it by {asked.back} degrees.\n"
    return Plan(((before, turn_code(asked.back)),), says(asked.colors[0], answer), answer)


def _contrast(asked: Asked, answer: str) -> Plan:
    code = _CLEAR.format(folder=OUTPUT_DIR)
    return Plan((("The contrast is low. I raise it.\n", code),), says(asked.colors[0], answer), answer)


def _computation(asked: Asked, answer: str) -> Plan:
    text = expression_of(asked.question)
    return Plan(((f"I compute {text}.\n", f"print({text})"),), f"The result is {answer}.", answer)


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
