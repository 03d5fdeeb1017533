"""The embedded world: scenes of coloured plates with two-character labels, and questions about them.

Every scene is a 1024 px square that the model first sees at 128 px. A label on a large plate is legible at that size,
one on a small plate is not: it has to be cropped from the original. Scenes may be turned by a quarter, half or three
quarters, or be nearly grey. The world is drawn with Pillow's embedded font, so it needs no file of the machine.

A problem is a function of (split, seed, index, kind). The split salts the random stream, so problems of the training
split and of the test split never come from one stream, whatever their seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thyme.types import ImageRecord, Problem

Kind = Literal["easy", "medium", "zoom", "rotation", "contrast", "arithmetic", "two_round"]
Split = Literal["train", "validation", "test"]
Style = Literal["large", "mixed", "small"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SIDE = 1024
"""Side of a scene, pixels."""
CROP = 192
"""Side of the crop that the teacher takes around a small plate, pixels of the original."""
GRID = 32
"""Stated coordinates are multiples of this, pixels of the original."""
CHARACTERS = "2347ACEFHKLPTXY9"
"""What labels are made of; no two look alike in the embedded font."""

Color = tuple[int, int, int]

COLORS: dict[str, Color] = {
    "red": (205, 30, 35),
    "green": (25, 140, 45),
    "blue": (30, 60, 200),
    "yellow": (240, 215, 40),
    "orange": (245, 130, 20),
    "purple": (130, 40, 160),
    "cyan": (50, 200, 215),
    "pink": (245, 120, 180),
}
_DARK = {"red", "green", "blue", "purple"}

LARGE_TEXT = (120.0, 144.0)
"""Font size of labels that are legible at first sight, pixels of the original."""
SMALL_TEXT = (22.5, 27.0)
"""Font size of labels that are legible only in a crop: as large there as large labels are in the scene."""
LOW_CONTRAST = (0.04, 0.07)
"""Share of the full contrast that a contrast scene keeps."""

READ_ONE = ("What does the {a} plate say?", "Read the {a} plate.", "Which label is on the {a} plate?")
READ_TWO = (
    "Read the {a} plate and the {b} plate.",
    "What do the {a} plate and the {b} plate say?",
    "Which labels are on the {a} plate and the {b} plate?",
)
COMPUTE = ("What is {a}?", "Compute {a}.", "Work out {a}.")


@dataclass(frozen=True)
class Plate:
    """A labelled plate; all lengths are pixels of the upright scene."""

    color: str
    label: str
    x: float
    """Centre."""
    y: float
    """Centre."""
    text_size: float
    """Font size."""

    @property
    def width(self) -> float:
        """Full width."""
        return 2.2 * self.text_size

    @property
    def height(self) -> float:
        """Full height."""
        return 1.5 * self.text_size

    @property
    def large(self) -> bool:
        """Whether its label is legible at first sight."""
        return self.text_size >= LARGE_TEXT[0]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return (
            self.x - self.width / 2,
            self.y - self.height / 2,
            self.x + self.width / 2,
            self.y + self.height / 2,
        )

    @property
    def stated(self) -> tuple[int, int]:
        """The centre as trajectories state it: on the grid, and so far inside that the crop stays in the scene."""
        return _on_grid(self.x), _on_grid(self.y)

    def character_x(self, place: int) -> float:
        """Centre of the character at `place` (0 or 1)."""
        return self.x + (place - 0.5) * 0.8 * self.text_size


@dataclass(frozen=True)
class Scene:
    """A drawn scene, upright and at full contrast."""

    image: Image.Image
    plates: tuple[Plate, ...]


def _on_grid(value: float) -> int:
    low, high = CROP // 2, SIDE - CROP // 2
    return min(max(round(value / GRID) * GRID, low), high)


@lru_cache(maxsize=256)
def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType: the embedded world cannot be drawn")
    return font


def _background(rng: random.Random) -> Image.Image:
    """Light above, darker below, as in most photographs: what tells a turned scene from an upright one."""
    noise = np.random.default_rng(rng.getrandbits(64))
    tint = noise.uniform(-12, 12, 3)
    rows = np.linspace(noise.uniform(195, 225), noise.uniform(105, 135), 16)
    small = rows[:, None, None] + tint + noise.normal(0, 4, (16, 16, 1))
    return Image.fromarray(small.clip(0, 255).astype(np.uint8), "RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def ink_of(color: str) -> Color:
    """Colour of the letters and the border of a plate: white on dark plates, black on light ones."""
    return (255, 255, 255) if color in _DARK else (0, 0, 0)


def draw_plate(image: Image.Image, plate: Plate) -> None:
    """Draw a plate into a picture."""
    pen = ImageDraw.Draw(image)
    ink = ink_of(plate.color)
    border = max(1, round(plate.text_size / 18))
    pen.rounded_rectangle(plate.box, plate.text_size / 6, fill=COLORS[plate.color], outline=ink, width=border)
    font, bold = _font(plate.text_size), plate.text_size / 30
    for place, character in enumerate(plate.label):
        pen.text(
            (plate.character_x(place), plate.y + 0.36 * plate.text_size),
            character,
            ink,
            font,
            anchor="ms",
            stroke_width=bold,
            stroke_fill=ink,
        )


def _text_size(rng: random.Random, large: bool) -> float:
    """One of nine sizes of the range, so that a handful of fonts serves every scene."""
    low, high = LARGE_TEXT if large else SMALL_TEXT
    return low + (high - low) * rng.randrange(9) / 8


def _place(rng: random.Random, color: str, large: bool, placed: Sequence[Plate]) -> Plate | None:
    size = _text_size(rng, large)
    label = "".join(rng.choice(CHARACTERS) for _ in range(2))
    for _ in range(40):
        margin_x, margin_y = max(1.1 * size, 40) + 8, max(0.75 * size, 40) + 8
        plate = Plate(
            color, label, rng.uniform(margin_x, SIDE - margin_x), rng.uniform(margin_y, SIDE - margin_y), size
        )
        if all(_apart(plate, other) for other in placed):
            return plate
    return None


def _apart(one: Plate, other: Plate) -> bool:
    """Whether two plates leave a gap, and two small ones so wide a gap that a crop shows one of them whole at most."""
    gap = 24 if one.large or other.large else 70
    return (
        abs(one.x - other.x) > (one.width + other.width) / 2 + gap
        or abs(one.y - other.y) > (one.height + other.height) / 2 + gap
    )


def _layout(rng: random.Random, style: Style) -> list[bool]:
    """Which plates are large, largest first."""
    if style == "large":
        return [True] * rng.randint(2, 3)
    if style == "small":
        return [False] * rng.randint(2, 5)
    large = rng.randint(1, 2)
    return [True] * large + [False] * rng.randint(1, 2)


def draw_scene(rng: random.Random, style: Style) -> Scene:
    """Draw a scene.

    Args:
        rng: Source of every choice.
        style: ``large`` (2 or 3 plates, all legible at first sight), ``small`` (2 to 5, none legible), or ``mixed``.

    Returns:
        The scene, 1024 x 1024 px, RGB; no two plates share a colour.
    """
    while True:
        sizes = _layout(rng, style)
        colors = rng.sample(list(COLORS), len(sizes))
        plates: list[Plate] = []
        for color, large in zip(colors, sizes, strict=True):
            plate = _place(rng, color, large, plates)
            if plate is None:
                break
            plates.append(plate)
        if len(plates) == len(sizes):
            break
    image = _background(rng)
    for plate in plates:
        draw_plate(image, plate)
    return Scene(image, tuple(plates))


def turned(image: Image.Image, angle: int) -> Image.Image:
    """The image turned counter-clockwise by `angle` degrees, a multiple of 90."""
    return image.rotate(angle, expand=True)


def flattened(image: Image.Image, contrast: float) -> Image.Image:
    """The image with only a share of its contrast left, around middle grey."""
    return Image.blend(Image.new("RGB", image.size, (128, 128, 128)), image, contrast)


def expression(rng: random.Random) -> tuple[str, int]:
    """An integer expression and its value."""
    form = rng.randrange(3)
    a, b, c = rng.randint(12, 99), rng.randint(12, 99), rng.randint(12, 99)
    if form == 0:
        return f"{a} * {b}", a * b
    if form == 1:
        return f"{a} * {b} + {c}", a * b + c
    a, b = a * 10 + rng.randrange(10), b * 10 + rng.randrange(10)
    return f"{a} + {b} - {c}", a + b - c


def stream(split: Split, seed: int, index: int, kind: str) -> random.Random:
    """The random stream of one problem; the split salts it."""
    return random.Random(f"thyme.nano/{split}/{seed}/{index}/{kind}")


def _arithmetic(rng: random.Random, name: str) -> Problem:
    text, value = expression(rng)
    return Problem(
        id=name,
        question=rng.choice(COMPUTE).format(a=text),
        answer=str(value),
        kind="arithmetic",
        meta={"expression": text},
    )


def _box(plate: Plate) -> list[float]:
    return [round(v, 1) for v in plate.box]


def _turned_box(box: list[float], angle: int) -> list[float]:
    """Where a box of the upright scene lies once the scene has been turned counter-clockwise by `angle`."""
    left, top, right, bottom = box
    for _ in range(angle // 90):
        left, top, right, bottom = top, SIDE - right, bottom, SIDE - left
    return [round(v, 1) for v in (left, top, right, bottom)]


_STYLES: dict[str, Style] = {"medium": "mixed", "zoom": "small", "two_round": "small"}


def problem_id(split: Split, seed: int, index: int, kind: Kind) -> str:
    """Name of a problem."""
    return f"nano-{split}-{seed}-{kind}-{index}"


def problem(split: Split, seed: int, index: int, kind: Kind) -> Problem:
    """Make one problem.

    Args:
        split: Salts the stream; ``train`` problems can never come up in another split.
        seed: Any integer.
        index: Position in the stream.
        kind: What the question needs; in ``medium`` scenes half of the plates asked for are legible as first seen.

    Returns:
        The problem. ``meta`` holds the box or boxes of the asked plates in pixels of the problem's image, whether
        they are large, their stated centres (upright scenes), and the angle or contrast, all for scoring only.
    """
    rng = stream(split, seed, index, kind)
    name = problem_id(split, seed, index, kind)
    if kind == "arithmetic":
        return _arithmetic(rng, name)
    scene = draw_scene(rng, _STYLES.get(kind, "large"))
    asked = rng.sample(scene.plates, 2) if kind == "two_round" else [_asked(rng, kind, scene.plates)]
    image = scene.image
    meta: dict[str, object] = {"large": [p.large for p in asked], "stated": [list(p.stated) for p in asked]}
    boxes = [_box(p) for p in asked]
    if kind == "rotation":
        angle = rng.choice((90, 180, 270))
        image, boxes, meta["angle"] = turned(image, angle), [_turned_box(b, angle) for b in boxes], angle
    if kind == "contrast":
        contrast = rng.uniform(*LOW_CONTRAST)
        image, meta["contrast"] = flattened(image, contrast), contrast
    words = dict(zip("ab", [p.color for p in asked], strict=False))
    question = rng.choice(READ_TWO if kind == "two_round" else READ_ONE).format(**words)
    return Problem(
        id=name,
        question=question,
        images=(ImageRecord.of(image),),
        answer=" ".join(p.label for p in asked),
        kind=kind,
        meta={**meta, "box": boxes[0], "boxes": boxes, "colors": [p.color for p in asked]},
    )


def _asked(rng: random.Random, kind: Kind, plates: Sequence[Plate]) -> Plate:
    if kind != "medium":
        return rng.choice(plates)
    large = rng.random() < 0.5
    return rng.choice([p for p in plates if p.large == large])


def problems(split: Split, seed: int, count: int, kinds: Sequence[Kind] = KINDS) -> Iterator[Problem]:
    """`count` problems of each kind, drawn when asked for; kinds alternate."""
    for index in range(count):
        for kind in kinds:
            yield problem(split, seed, index, kind)
