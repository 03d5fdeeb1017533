"""Hand-made drafts for tests of the data factory: a picture with a readable sign, and records in which blocks ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from thyme.data.drafts import Draft
from thyme.data.stages.prepare import prepared
from thyme.markup import format_code, observation_text
from thyme.types import Execution, ExecutionError, Generated, ImageRecord, Observation, Problem, Segment

BOX = (400, 120, 470, 160)
"""Where the sign is, pixels."""
SIZE = (800, 600)
FOLDER = "/mnt/data/temp_processed_images"


def street(seed: int = 0) -> Image.Image:
    """Sky, road, houses, and a small sign that says KX; nothing in it looks the same from two sides."""
    noise = np.random.default_rng(seed)
    image = Image.new("RGB", SIZE, (150, 190, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 420, 800, 600), fill=(95, 95, 100))
    for x in range(0, 800, 100):
        height = int(noise.integers(80, 300))
        color = tuple(int(v) for v in noise.integers(40, 220, 3))
        draw.rectangle((x + 10, 420 - height, x + 85, 420), fill=color)
        draw.ellipse((x + 20, 470, x + 60, 500), fill=tuple(int(v) for v in noise.integers(0, 255, 3)))
    draw.rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill=(250, 240, 60), outline=(0, 0, 0), width=2)
    draw.text((BOX[0] + 14, BOX[1] + 4), "KX", fill=(0, 0, 0), font_size=30)
    return image


def question(**changes: object) -> Problem:
    """A problem about `street`."""
    fields: dict[str, object] = {
        "id": "street",
        "question": "What does the sign say?",
        "images": (ImageRecord.of(street(), name="street.jpg"),),
        "answer": "KX",
        "meta": {"box": list(BOX)},
    }
    return Problem.model_validate({**fields, **changes})


def calculation(**changes: object) -> Problem:
    """A problem without a picture."""
    return question(images=(), question="What is 12 * 13?", answer="156", meta={}).model_copy(update=changes)


def ready(scenario: str, origin: Problem | None = None, seed: int = 5) -> Draft:
    """A prepared draft."""
    chosen = origin or (calculation() if scenario == "computation" else question())
    drawn = Draft(
        id=f"photos-00000001-{scenario}", scenario=scenario, seed=seed, source="photos", origin=chosen, problem=chosen
    )
    made = prepared(drawn)
    assert isinstance(made, Draft), made
    return made


@dataclass(frozen=True)
class Round:
    """A block, and what came of it."""

    before: str
    """Text before it."""
    code: str
    images: Sequence[Image.Image] = ()
    stdout: str = ""
    """Beside the paths of the images."""
    failed: bool = False
    names: Sequence[str] = ()
    """Of the images; plain ones where there are fewer."""


def finished(draft: Draft, rounds: Sequence[Round], conclusion: str, answer: str) -> Draft:
    """The draft after a teacher who wrote this, and a sandbox that gave that."""
    segments: list[Segment] = []
    text = "<think>"
    for number, one in enumerate(rounds):
        block = format_code(one.code)
        border = block.index(">") + 1
        segments.append(_wrote("text", f"{text}{one.before}\n{block[:border]}"))
        segments.append(_wrote("code", block[border:]))
        segments.append(_observed(one, number))
        text = ""
    segments.append(_wrote("text", f"{text}{conclusion}</think>\n<answer>{answer}</answer>"))
    return draft.model_copy(update={"segments": tuple(segments), "finished": True, "teacher": "hand"})


def _wrote(kind: str, text: str) -> Generated:
    return Generated(kind="code" if kind == "code" else "text", text=text, temperature=0.0)


def _observed(one: Round, number: int) -> Observation:
    usual = (f"view_{number + 1}_{place + 1}.png" for place in range(len(one.images)))
    names = [given or name for given, name in zip([*one.names, *[""] * len(one.images)], usual, strict=False)]
    execution = Execution(
        code=one.code,
        ran=one.code,
        stdout="\n".join([one.stdout, *(f"{FOLDER}/{name}" for name in names)]).strip() + "\n",
        images=tuple(ImageRecord.of(image, name=name) for image, name in zip(one.images, names, strict=True)),
        error=ExecutionError(type="NameError", message="name 'x' is not defined", line=1) if one.failed else None,
        isolation="scripted",
    )
    return Observation(execution=execution, text=observation_text(execution))


def cropped(draft: Draft, box: Sequence[int], before: str = "The sign is small. I cut it out.", zoom: int = 4) -> Round:
    """A block that cuts a box out of the draft's picture and enlarges it."""
    left, top, right, bottom = box
    part = draft.problem.images[0].image.crop((left, top, right, bottom))
    code = (
        "from PIL import Image\nimage = Image.open(image_path)\n"
        f"part = image.crop(({left}, {top}, {right}, {bottom}))\n"
        f"part = part.resize((part.width * {zoom}, part.height * {zoom}))\n"
        f'part.save("{FOLDER}/view.png")\nprint("{FOLDER}/view.png")'
    )
    return Round(before, code, [part.resize((part.width * zoom, part.height * zoom))])
