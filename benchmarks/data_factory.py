"""How much of the sandbox's own throughput the data factory leaves: the same blocks, with and without the factory.

    python benchmarks/data_factory.py --json data_factory.json

One process with one sandbox runs each block twice, in turns: bare (a session a record, its block, its pictures), and as
records of a build, which is all of it but the teacher: draw, preparation, the block, acceptance by rules, the search
for leaks, pictures encoded and written, journal and Parquet. What the teacher would say is at hand, and so are decoded
pictures. docs/data.md has figures.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from thyme.config.data import DataRecipe, SourceSettings, TeacherSettings
from thyme.config.sandbox import SandboxConfig
from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.build import Build
from thyme.data.factory.chunk import open_maker
from thyme.data.factory.folder import count_records, read_records
from thyme.data.sources.base import Facts
from thyme.data.stages import STAGES
from thyme.data.stages.base import Context
from thyme.data.stages.finish import finish
from thyme.images import load_image
from thyme.sandbox.base import Sandbox
from thyme.sandbox.bench import sample_image
from thyme.types import Generated, Problem

SIZE = (1024, 768)
"""Width and height of the pictures, pixels."""
BOX = (300, 200, 620, 420)
CROP = (280, 180, 640, 440)
CODE = """from PIL import Image
image = Image.open(image_path)
crop = image.crop({crop}).resize({size})
crop.save("crop.png")
print("crop.png")"""
BEFORE = "<think>The sign lies near (280, 180, 640, 440), so I cut it out and enlarge it.\n<code>\n"
AFTER = "The sign says KX 47.</think>\n<answer>KX 47</answer>"


class Pictures:
    """A source whose rows are pictures that differ in their pixels; decoded ones are at hand."""

    def __init__(self, rows: int) -> None:
        base = load_image(sample_image()).image.resize(SIZE)
        self._pictures = [load_image(_marked(base, number)) for number in range(rows)]
        self.name, self.fingerprint = "pictures", f"pictures/{rows}"

    def __len__(self) -> int:
        return len(self._pictures)

    def facts(self, index: int) -> Facts:
        return Facts(1, answer=True, box=True)

    def problem(self, index: int) -> Problem:
        meta = {"box": BOX}
        images = (self._pictures[index],)
        return Problem(id=f"p{index}", question="What is on the sign?", images=images, answer="KX 47", meta=meta)


def _marked(base: Image.Image, number: int) -> bytes:
    picture, file = base.copy(), io.BytesIO()
    picture.paste((number % 256, number // 256, 200), (320, 220, 336, 236))
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def block(enlarge: float) -> str:
    """The code of a record, whose crop is that many times as wide and high as in the picture."""
    width, height = CROP[2] - CROP[0], CROP[3] - CROP[1]
    return CODE.format(crop=CROP, size=(round(width * enlarge), round(height * enlarge)))


async def says(code: str, draft: Draft, context: Context) -> Draft | Rejection:
    """What a teacher would say, at once."""
    if not draft.segments:
        said = Generated(kind="text", text=BEFORE, temperature=0.0)
        written = Generated(kind="code", text=f"```python\n{code}\n```\n</code>", temperature=0.0)
        return draft.model_copy(update={"segments": (said, written), "teacher": "ready"})
    said = Generated(kind="text", text=AFTER, temperature=0.0)
    draft = draft.model_copy(update={"segments": (*draft.segments, said), "finished": True})
    return draft.model_copy(update={"trajectory": finish(draft, context)})


@asynccontextmanager
async def nobody(recipe: DataRecipe, out: Path) -> AsyncIterator[Any]:
    """No teachers."""
    yield None


class Bench:
    """One build in one process, and what it is held against."""

    def __init__(self, out: Path, rounds: int, records: int, concurrency: int, code: str) -> None:
        teachers = {"ready": TeacherSettings(model="http://localhost:1/v1#ready")}
        self.pictures = Pictures(rounds * records)
        self.build = Build(
            DataRecipe(
                count=rounds * records,
                chunk=records,
                concurrency=concurrency,
                duplicates=None,
                sandbox=SandboxConfig(),
                sources={"pictures": SourceSettings(world="pictures")},
                scenarios={"crop": 1.0},
                teachers=teachers,
            ),
            out,
            worlds={"pictures": lambda name, settings, seed: self.pictures},
            stages={**STAGES, "generate": partial(says, code)},
            open_teachers=nobody,
        )
        self.rounds, self.records, self.concurrency, self.code = rounds, records, concurrency, code
        self.stages_ms: dict[str, float] = {}
        """Wall clock of a record in each stage, beside the others that are under way."""

    async def run(self) -> dict[str, list[float]]:
        """Records a second, and milliseconds of this process's own CPU a record, by way, in turns."""
        plan = self.build.plan(self.build.sources())
        sandbox: list[Sandbox] = []
        rates: dict[str, list[float]] = {"sandbox": [], "factory": [], "sandbox_ms": [], "factory_ms": []}

        async def bare(chunk: int) -> None:
            await asyncio.gather(*(self._bare(sandbox[0], index, places) for index in plan.indices(chunk)))

        async with open_maker(self.build, plan) as maker:
            sandbox.append(maker.context.sandbox)
            places = asyncio.Semaphore(self.concurrency)
            for chunk in range(self.rounds):
                ways: list[tuple[str, Callable[[int], Awaitable[Any]]]] = [
                    ("sandbox", bare),
                    ("factory", lambda chunk: maker.make(chunk, {})),
                ]
                for name, way in ways if chunk % 2 else reversed(ways):
                    started, used = time.perf_counter(), time.process_time()
                    await way(chunk)
                    rates[name].append(self.records / (time.perf_counter() - started))
                    rates[f"{name}_ms"].append(1e3 * (time.process_time() - used) / self.records)
            seconds = maker.tally.seconds
            self.stages_ms = {name: round(1e3 * seconds[name] / self.rounds / self.records, 2) for name in seconds}
        return rates

    async def _bare(self, sandbox: Sandbox, index: int, places: asyncio.Semaphore) -> None:
        async with places, sandbox.session(self.pictures.problem(index).images, index) as session:
            execution = await session.run(self.code)
            if execution.error is not None or not execution.images:
                raise RuntimeError(f"the block failed: {execution.error}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="turns; the first is not counted")
    parser.add_argument("--records", type=int, default=48, help="of a turn")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--enlarge", type=float, default=3.0, help="of the crop, times its width and height")
    parser.add_argument("--json", type=Path, help="write the figures there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        bench = Bench(out, asked.rounds, asked.records, asked.concurrency, block(asked.enlarge))
        (out / "build.json").write_text("{}")
        rates = {name: found[1:] for name, found in asyncio.run(bench.run()).items()}
        if count_records(out) != (asked.records * asked.rounds, 0):
            raise RuntimeError(f"records were rejected: {next(read_records(out, rejected=True)).note}")
    ratios = [ours / bare for ours, bare in zip(rates["factory"], rates["sandbox"], strict=True)]
    told = {
        "sandbox_per_s": round(statistics.median(rates["sandbox"]), 2),
        "factory_per_s": round(statistics.median(rates["factory"]), 2),
        "sandbox_cpu_ms": round(statistics.median(rates["sandbox_ms"]), 2),
        "factory_cpu_ms": round(statistics.median(rates["factory_ms"]), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "stages_ms": bench.stages_ms,
        "records": asked.records * (asked.rounds - 1),
        "concurrency": asked.concurrency,
        "enlarge": asked.enlarge,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
