"""A finished build with a few real records: their code ran in the sandbox, their pictures lie in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thyme.config.data import DataRecipe
from thyme.config.sandbox import SandboxConfig
from thyme.data.drafts import Draft
from thyme.data.factory.folder import RECORDS, REJECTED, chunk_file, image_ids, stored
from thyme.data.factory.journal import Outcome
from thyme.data.factory.manifest import Manifest, write_manifest
from thyme.data.factory.shard import write_shard
from thyme.data.stages.base import Context
from thyme.data.stages.finish import finish
from thyme.markup import CODE_OPEN, format_code, observation_text
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.types import Generated, ImageRecord, Observation, Problem, Segment

RECIPE = DataRecipe.model_validate(
    {
        "count": 4,
        "sources": {"shots": {"path": "shots"}},
        "scenarios": {"crop": 1.0},
        "teachers": {"one": {"model": "http://127.0.0.1:1/v1#teacher"}},
    }
)
CROP = """from PIL import Image
image = Image.open(image_path).crop(({}, 10, 60, 50))
processed_path = "/mnt/data/temp_processed_images/part.png"
image.save(processed_path)
print(processed_path)"""
PRINT = "print('<ans' + 'wer> &', 6 * 7)"
"""Prints what looks like a tag, which observations escape."""


def picture(seed: int) -> ImageRecord:
    noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return ImageRecord.of(Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC), name="photo.png")


RECORDS_OF = {
    "shots-0000000-crop": ("crop", 1, [CROP.format(5)]),
    "shots-0000001-enhancement": ("enhancement", 1, [CROP.format(1), CROP.format(20)]),
    "shots-0000002-no_code": ("no_code", 1, []),
    "sums-0000003-computation": ("computation", 0, [PRINT]),
}
"""By id: scenario, pictures asked about, code blocks."""


async def draft_of(id: str, sandbox: Any) -> Draft:
    scenario, pictures, blocks = RECORDS_OF[id]
    number = int(id.split("-")[1])
    images = tuple(picture(10 * number + i) for i in range(pictures))
    problem = Problem(id=f"shots-{number}", question=f"What is it, {number}?", images=images, answer="42", kind="ocr")
    segments: list[Segment] = []
    async with sandbox.session(images, seed=number) as session:
        for code in blocks:
            text = "<think>" * (not segments) + f"Look closer.{CODE_OPEN}"
            execution = await session.run(code)
            assert execution.error is None, execution.error
            seen = tuple(image.size for image in execution.images)
            segments += [
                Generated(kind="text", text=text, temperature=1.0),
                Generated(kind="code", text=format_code(code).removeprefix(CODE_OPEN), temperature=0.0),
                Observation(execution=execution, text=observation_text(execution), seen_sizes=seen),
            ]
    ending = "<think>" * (not segments) + "Now I know.</think>\n<answer>42</answer>"
    segments.append(Generated(kind="text", text=ending, temperature=1.0))
    draft = Draft(
        id=id,
        scenario=scenario,
        seed=number,
        source=id.split("-")[0],
        origin=problem,
        problem=problem,
        teacher="teacher",
        segments=tuple(segments),
        finished=True,
    )
    context = Context(recipe=RECIPE, sandbox=sandbox, prompts=PromptSet.load(), teachers=None)  # type: ignore[arg-type]
    return draft.model_copy(update={"trajectory": finish(draft, context)})


async def make_build(out: Path) -> list[Draft]:
    """Write a finished build of one chunk; gives its records."""
    async with open_sandbox(SandboxConfig()) as sandbox:
        made = [await draft_of(id, sandbox) for id in RECORDS_OF]
    put(out, made)
    return made


def put(out: Path, drafts: list[Draft], recipe: DataRecipe = RECIPE) -> None:
    """Write drafts as the accepted records of a finished build."""
    kept = [stored(out, draft) for draft in drafts]
    outcomes = [Outcome.of(index, draft, image_ids(draft)) for index, draft in enumerate(kept)]
    write_shard(chunk_file(out, REJECTED, 0), [], kept=False)
    write_shard(chunk_file(out, RECORDS, 0), outcomes, kept=True)
    write_manifest(out, Manifest(recipe=recipe, count=len(drafts), state="finished", kept=len(drafts)))
