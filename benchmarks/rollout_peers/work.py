"""What is written in the benchmark: reasoning, code, and a crop that comes back, as a trajectory of the paper has them.

The words are fixed and their numbers differ from one trajectory to the next. Nothing of it was written by a model: a
speed does not depend on what the tokens say, and all sides have to write the same ones.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from rollout_peers.protocol import Round, Script, Work
from thyme.families import load_family
from thyme.families.qwen_vl import QwenVLFamily
from thyme.markup import observation_parts
from thyme.prompts import PromptSet
from thyme.types import Execution, ImageRecord, Problem

PICTURE, CROP = (1024, 768), (960, 640)
_TEXT = (
    "{opening}The {thing} stands at about ({x}, {y}) and is far too small to be read at this size. I will cut out the "
    "region ({x}, {y}, {right}, {bottom}) and enlarge it {factor} times, so that its {part} can be told apart.\n<code>"
)
_CODE = (
    "\n```python\nfrom PIL import Image\nimage = Image.open(image_path)\n"
    "crop = image.crop(({x}, {y}, {right}, {bottom}))\n"
    'crop = crop.resize(({width}, {height}))\nprocessed_path = "/mnt/data/temp_processed_images/crop_{number}.png"\n'
    "crop.save(processed_path)\nprint(processed_path)\n```\n</code>"
)
_ANSWER = (
    "\nNow the {part} of the {thing} can be read: the first sign is {a}, the second is {b} and the last one is {c}. "
    "Nothing else stands there, and the crop shows all of it.</think>\n<answer>{a}{b}{c}</answer>"
)
_THINGS = ("plate", "label", "clock", "sign", "poster", "bottle")
_PARTS = ("number", "letters", "word", "digits")


def make_work(folder: Path, model: Path, *, trajectories: int, rounds: int, threads: int) -> Work:
    """Write the pictures and the scripts of some trajectories.

    Args:
        folder: Where to.
        model: The checkpoint whose tokenizer and image settings count.
        trajectories: How many.
        rounds: Pieces of code in each, with a crop coming back for each.
        threads: CPU threads that every side may use.
    """
    family = load_family(model)
    scripts = [_script(folder, family, index, rounds) for index in range(trajectories)]
    return Work(str(model), threads, family.image_token_id, family.end_ids[0], scripts, folder)


def _script(folder: Path, family: QwenVLFamily, index: int, rounds: int) -> Script:
    draw = random.Random(index)
    shown = _picture(folder, f"{index}_input.png", PICTURE, draw)
    prompts = PromptSet.load(None)
    facts = {"thing": draw.choice(_THINGS), "part": draw.choice(_PARTS)}
    question = "What is the {part} on the {thing}?".format(**facts)
    problem = Problem(id=str(index), question=question, images=(shown,))
    system, user = prompts.render(problem, [family.seen_size(*shown.size)])
    prompt = family.encode_parts(family.prompt_parts(system, user, [shown])).ids
    return Script(
        name=f"trajectory {index}",
        system=system,
        user=user,
        image=shown.name,
        prompt=list(prompt),
        rounds=[_round(folder, family, index, number, draw, facts) for number in range(1, rounds + 1)],
        answer=family.encode_text(_ANSWER.format(**facts, **{name: draw.randint(0, 9) for name in "abc"})),
    )


def _round(
    folder: Path, family: QwenVLFamily, index: int, number: int, draw: random.Random, facts: dict[str, str]
) -> Round:
    x, y, factor = draw.randint(100, 700), draw.randint(100, 600), draw.randint(3, 6)
    width, height = draw.randint(100, 240), draw.randint(80, 160)
    where = {"x": x, "y": y, "right": x + width, "bottom": y + height, "factor": factor}
    size = {"width": width * factor, "height": height * factor, "number": number}
    opening = "<think>" if number == 1 else "\nThat is closer, and still not enough. "
    crop = _picture(folder, f"{index}_crop_{number}.png", CROP, draw)
    stdout = f"/mnt/data/temp_processed_images/crop_{number}.png"
    execution = Execution(code="", stdout=stdout, images=(crop,))
    return Round(
        text=family.encode_text(_TEXT.format(opening=opening, **where, **facts)),
        code=family.encode_text(_CODE.format(**where, **size)),
        stdout=stdout,
        image=crop.name,
        observation=list(family.encode_parts(observation_parts(execution)).ids),
    )


def _picture(folder: Path, name: str, size: tuple[int, int], draw: random.Random) -> ImageRecord:
    """A picture that differs from every other one: soft noise."""
    coarse = np.random.default_rng(draw.getrandbits(32)).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)
    image.save(folder / name, compress_level=1)
    return ImageRecord.of(image, name=name)
