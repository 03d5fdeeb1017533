"""Code as a teacher would write it really runs, and its record passes preparation, acceptance and the leak check."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from drafted import BOX, FOLDER, calculation, question, ready

from thyme.data.drafts import Draft
from thyme.data.leaks import leaks
from thyme.data.stages.accept import accepted
from thyme.markup import format_code, observation_text
from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.types import Generated, Observation, Segment

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN = "from PIL import Image, ImageOps\nimage = Image.open(image_path)\n"
SAVE = f"\nprocessed_path = '{FOLDER}/view.png'\nview.save(processed_path)\nprint(processed_path)"
LOOK = (
    "x, y, half = {x}, {y}, {half}\n"
    "view = image.crop((x - half, y - half, x + half, y + half))\nview = view.resize((view.width * 2, view.height * 2))"
)
CENTRE = ((BOX[0] + BOX[2]) // 2, (BOX[1] + BOX[3]) // 2)


def look(x: int, y: int, half: int) -> str:
    return OPEN + LOOK.format(x=x, y=y, half=half) + SAVE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Broker]:
    async with open_sandbox(SandboxConfig()) as broker:
        yield broker


async def record(draft: Draft, sandbox: Broker, *rounds: tuple[str, str], end: str, answer: str) -> Draft:
    """What is written, with what really came of it."""
    segments: list[Segment] = []
    text = "<think>"
    async with sandbox.session(draft.problem.images, draft.seed) as session:
        for before, code in rounds:
            segments.append(Generated(kind="text", text=f"{text}{before}\n<code>", temperature=0.0))
            segments.append(Generated(kind="code", text=format_code(code).removeprefix("<code>"), temperature=0.0))
            execution = await session.run(code)
            assert execution.error is None, execution.error
            segments.append(Observation(execution=execution, text=observation_text(execution)))
            text = ""
    segments.append(Generated(kind="text", text=f"{text}{end}</think>\n<answer>{answer}</answer>", temperature=0.0))
    return draft.model_copy(update={"segments": tuple(segments), "finished": True})


def passes(draft: Draft) -> bool:
    assert accepted(draft) is draft
    assert leaks(draft) == []
    return True


async def test_looks_of_one_round_and_of_two(sandbox: Broker) -> None:
    said = "The sign is small, near ({}, {}).".format(*CENTRE)
    close = look(*CENTRE, 50)
    end = "Now I see that it says KX."
    assert passes(await record(ready("crop"), sandbox, (said, close), end=end, answer="KX"))
    wide = ("It must be in the upper half.", look(CENTRE[0] - 20, CENTRE[1] + 10, 120))
    assert passes(await record(ready("enhancement"), sandbox, wide, (said, close), end=end, answer="KX"))
    wrong = ("It may hang on the left.", look(150, 480, 50))
    noticed = (f"That is the road, not the sign. {said}", close)
    assert passes(await record(ready("correction"), sandbox, wrong, noticed, end=end, answer="KX"))


async def test_a_picture_is_turned_back_and_a_faint_one_made_clear(sandbox: Broker) -> None:
    turned = ready("rotation")
    back = turned.hints["back"]
    code = f"{OPEN}# put it upright\nview = image.rotate({back}, expand=True){SAVE}"
    said = f"The houses are tilted, by some {turned.hints['angle']} degrees. I turn the picture by {back} degrees."
    assert passes(await record(turned, sandbox, (said, code), end="The sign says KX.", answer="KX"))
    code = f"{OPEN}view = ImageOps.autocontrast(image){SAVE}"
    said = "Nearly everything is grey. I stretch the range."
    assert passes(await record(ready("contrast"), sandbox, (said, code), end="The sign says KX.", answer="KX"))


async def test_values_are_worked_out(sandbox: Broker) -> None:
    counted = ready("operations", question(question="How many pixels of the picture are wide?", answer="800", meta={}))
    code = "import numpy as np\npixels = np.asarray(Image.open(image_path))\nprint('width', pixels.shape[1])"
    assert passes(await record(counted, sandbox, ("I measure it.", code), end="The code printed 800.", answer="800"))
    asked = ready("computation", calculation(choices=("144", "156"), answer="B"))
    product = ("I multiply 12 by 13.", "product = 12 * 13\nprint(f'{product=}')")
    assert passes(await record(asked, sandbox, product, end="The product is 156, option B.", answer="B"))
