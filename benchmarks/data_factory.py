"""How much of the sandbox's own throughput the data factory leaves: the same blocks, with and without the factory.

    python benchmarks/data_factory.py --table
    python benchmarks/data_factory.py --json data_factory.json
    python benchmarks/data_factory.py --size 4000x3000 --read --rounds 4 --records 32
    python benchmarks/data_factory.py --read --processes 2

One process with one sandbox runs the same kind of block in turns: bare (a session a record, its block, its pictures),
and as records of a build, which is all of it but the teacher: draw, preparation, the block, acceptance by rules, the
search for leaks, pictures encoded and written, journal and Parquet. What the teacher would say is at hand, and so are
decoded pictures, unless both ways are to read them from files (``--read``). With ``--processes`` whole builds as of
`thyme data build` are held against as many processes with a sandbox each, starts and all. Every record has a picture, a
crop, and an answer of its own. docs/data.md has figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thyme.config.data import DataRecipe, SourceSettings, TeacherSettings
from thyme.config.sandbox import SandboxConfig
from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.build import Build
from thyme.data.factory.chunk import open_maker
from thyme.data.factory.folder import count_records, read_records
from thyme.data.factory.run import run_build
from thyme.data.sources.base import Facts
from thyme.data.stages import STAGES
from thyme.data.stages.base import Context
from thyme.data.stages.finish import finish
from thyme.images import load_image
from thyme.sandbox.base import Sandbox
from thyme.sandbox.broker import open_sandbox
from thyme.types import Generated, ImageRecord, Problem

CORNER = (280, 180)
"""Left and top of the first crop, pixels."""
MARGIN = 20
"""Pixels of a crop around its target."""
AT_ONCE = 2
"""Chunks of a turn, which are under way together, as in a process of a build."""
MOST_HELD_BYTES = 4 << 30
"""Of decoded pictures."""
CODE = """from PIL import Image
image = Image.open(image_path)
# The sign, {larger}
crop = image.crop({crop}).resize({size})
crop.save("crop.png")
print("crop.png")"""
BEFORE = "<think>The sign lies near {crop}, so I cut it out and enlarge it.\n<code>\n"
AFTER = "The sign says {answer}.</think>\n<answer>{answer}</answer>"

TABLE = (
    "--enlarge 1 --rounds 5 --records 96",
    "--enlarge 3 --rounds 5 --records 96",
    "--read --enlarge 1 --rounds 6 --records 96",
    "--read --enlarge 3 --rounds 6 --records 96",
    "--size 2246x1582 --read --enlarge 1 --rounds 4 --records 64",
    "--size 4000x3000 --read --enlarge 1 --rounds 4 --records 32",
    "--processes 2 --enlarge 1 --rounds 4 --records 192",
)
"""Options of the rows of docs/data.md."""

Pixels = tuple[int, int]


@dataclass(frozen=True)
class Work:
    """What every record does."""

    folder: Path
    """Of the picture files."""
    size: Pixels
    crop: Pixels
    enlarge: float

    def box(self, number: int) -> tuple[int, int, int, int]:
        """What a record cuts out."""
        left, top = CORNER[0] + number % 32, CORNER[1] + number // 32 % 32
        return left, top, left + self.crop[0], top + self.crop[1]

    def code(self, number: int) -> str:
        """Its block."""
        size = (round(self.crop[0] * self.enlarge), round(self.crop[1] * self.enlarge))
        larger = "as it is" if self.enlarge == 1 else f"{self.enlarge:g} times as large"
        return CODE.format(crop=self.box(number), size=size, larger=larger)

    def image(self, number: int) -> ImageRecord:
        """Its picture, read."""
        return load_image(self.folder / f"{number}.jpg")

    def problem(self, number: int, image: ImageRecord) -> Problem:
        """What is asked."""
        left, top, right, bottom = self.box(number)
        meta = {"box": (left + MARGIN, top + MARGIN, right - MARGIN, bottom - MARGIN)}
        answer = answer_of(number)
        return Problem(id=f"p{number}", question="What is on the sign?", images=(image,), answer=answer, meta=meta)


def answer_of(number: int) -> str:
    """What is on the sign."""
    return f"KX {1000 + number}"


class Pictures:
    """A source of pictures that differ in all pixels."""

    def __init__(self, work: Work, rows: int, held: list[ImageRecord]) -> None:
        """Have all pictures at hand in `held`, or read each from its file where that is empty."""
        self._work, self._rows, self._held = work, rows, held
        self.name, self.fingerprint = "pictures", f"pictures/{rows}"

    def __len__(self) -> int:
        return self._rows

    def facts(self, index: int) -> Facts:
        return Facts(1, answer=True, box=True)

    def problem(self, index: int) -> Problem:
        return self._work.problem(index, self._held[index] if self._held else self._work.image(index))


def world(work: Work, rows: int, held: list[ImageRecord], name: str, settings: SourceSettings, seed: int) -> Pictures:
    """The source of a build."""
    return Pictures(work, rows, held)


def write_pictures(folder: Path, size: Pixels, count: int) -> None:
    """Files of JPEG of which each shows the same photographs in another place."""
    base = photograph(size)
    for number in range(count):
        moved = np.roll(base, (37 * number, 61 * number), (0, 1))
        Image.fromarray(moved).save(folder / f"{number}.jpg", quality=90)


def photograph(size: Pixels) -> NDArray[np.uint8]:
    """(height, width, 3): photographs side by side, twice enlarged, with the noise of a sensor."""
    from skimage import data

    height = 800
    shots = [Image.fromarray(shot()) for shot in (data.coffee, data.rocket, data.chelsea, data.astronaut)]
    row = np.concatenate([np.asarray(s.resize((s.width * height // s.height, height))) for s in shots], axis=1)
    times = (-(-size[1] // height), -(-size[0] // row.shape[1]), 1)
    tiled = np.tile(row, times)[: size[1], : size[0]].astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 3, tiled.shape).astype(np.int16)
    return (tiled + noise).clip(0, 255).astype(np.uint8)


async def says(work: Work, draft: Draft, context: Context) -> Draft | Rejection:
    """What a teacher would say, at once."""
    number = int(draft.origin.id.removeprefix("p"))
    if not draft.segments:
        said = Generated(kind="text", text=BEFORE.format(crop=work.box(number)), temperature=0.0)
        written = Generated(kind="code", text=f"```python\n{work.code(number)}\n```\n</code>", temperature=0.0)
        return draft.model_copy(update={"segments": (said, written), "teacher": "ready"})
    said = Generated(kind="text", text=AFTER.format(answer=answer_of(number)), temperature=0.0)
    draft = draft.model_copy(update={"segments": (*draft.segments, said), "finished": True})
    return draft.model_copy(update={"trajectory": finish(draft, context)})


@asynccontextmanager
async def nobody(recipe: DataRecipe, out: Path) -> AsyncIterator[Any]:
    """No teachers."""
    yield None


async def bare(sandbox: Sandbox, work: Work, problem: Problem) -> None:
    """A record without the factory."""
    async with sandbox.session(problem.images, 0) as session:
        execution = await session.run(work.code(int(problem.id.removeprefix("p"))))
        if execution.error is not None or not execution.images:
            raise RuntimeError(f"the block failed: {execution.error}")


def build_of(work: Work, asked: argparse.Namespace, out: Path, count: int, held: list[ImageRecord]) -> Build:
    """The build that is measured."""
    recipe = DataRecipe(
        count=count,
        chunk=max(1, asked.records // AT_ONCE),
        concurrency=asked.concurrency,
        processes=asked.processes or None,
        duplicates=None,
        sandbox=SandboxConfig(),
        sources={"pictures": SourceSettings(world="pictures")},
        scenarios={"crop": 1.0},
        teachers={"ready": TeacherSettings(model="http://localhost:1/v1#ready")},
    )
    worlds = {"pictures": partial(world, work, count, held)}
    stages = {**STAGES, "generate": partial(says, work)}
    return Build(recipe, out, worlds=worlds, stages=stages, open_teachers=nobody)


# --- one process, in turns --------------------------------------------------------------------------------------------


class Bench:
    """One build in one process, and what it is held against."""

    def __init__(self, build: Build, work: Work, rounds: int, *, read: bool) -> None:
        """Measure `rounds` turns; `read` makes the bare way read its pictures, too."""
        self.build, self.work, self.rounds, self.read = build, work, rounds, read
        self.stages_ms: dict[str, float] = {}
        """Wall clock of a record in each stage, beside the others that are under way."""

    async def run(self) -> dict[str, list[float]]:
        """Records a second, and milliseconds of this process's own CPU a record, by way, in turns."""
        source = self.build.sources()["pictures"]
        plan = self.build.plan({"pictures": source})
        rates: dict[str, list[float]] = {"sandbox": [], "factory": [], "sandbox_ms": [], "factory_ms": []}
        async with open_maker(self.build, plan) as maker:
            places = asyncio.Semaphore(self.build.recipe.concurrency)

            async def one(index: int) -> None:
                async with places:
                    problem = await asyncio.to_thread(source.problem, index) if self.read else source.problem(index)
                    await bare(maker.context.sandbox, self.work, problem)

            async def alone(chunks: Iterable[int]) -> None:
                await asyncio.gather(*(one(index) for chunk in chunks for index in plan.indices(chunk)))

            async def made(chunks: Iterable[int]) -> None:
                await asyncio.gather(*(maker.make(chunk, {}) for chunk in chunks))

            ways: list[tuple[str, Callable[[Iterable[int]], Awaitable[None]]]] = [("sandbox", alone), ("factory", made)]
            for turn in range(self.rounds):
                chunks = range(AT_ONCE * turn, AT_ONCE * (turn + 1))
                for name, way in ways if turn % 2 else reversed(ways):
                    started, used = time.perf_counter(), time.process_time()
                    await way(chunks)
                    records = sum(len(plan.indices(chunk)) for chunk in chunks)
                    rates[name].append(records / (time.perf_counter() - started))
                    rates[f"{name}_ms"].append(1e3 * (time.process_time() - used) / records)
            seconds = maker.tally.seconds
            self.stages_ms = {name: round(1e3 * seconds[name] / plan.count, 2) for name in seconds}
        return rates


def in_turns(asked: argparse.Namespace, work: Work, out: Path, count: int) -> dict[str, Any]:
    """Figures of both ways in one process."""
    held = [] if asked.read else [work.image(number) for number in range(count)]
    bench = Bench(build_of(work, asked, out, count, held), work, asked.rounds, read=asked.read)
    (out / "build.json").write_text("{}")
    rates = {name: found[1:] for name, found in asyncio.run(bench.run()).items()}
    check(out, count)
    return {
        "sandbox_per_s": round(statistics.median(rates["sandbox"]), 2),
        "factory_per_s": round(statistics.median(rates["factory"]), 2),
        "sandbox_cpu_ms": round(statistics.median(rates["sandbox_ms"]), 2),
        "factory_cpu_ms": round(statistics.median(rates["factory_ms"]), 2),
        **ratios(rates["factory"], rates["sandbox"]),
        "stages_ms": bench.stages_ms,
    }


def check(out: Path, count: int) -> None:
    """All records were accepted."""
    if count_records(out) != (count, 0):
        raise RuntimeError(f"records were rejected: {next(read_records(out, rejected=True)).note}")


def ratios(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Of neighbouring turns."""
    each = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {"ratio": round(statistics.median(each), 3), "ratios": [round(ratio, 3) for ratio in each]}


# --- whole builds -----------------------------------------------------------------------------------------------------


def whole(asked: argparse.Namespace, work: Work, out: Path, count: int) -> dict[str, Any]:
    """Figures of whole builds, and of as many processes with a sandbox each; the first turn of each is not counted."""
    rates: dict[str, list[float]] = {"sandbox": [], "factory": [], "sandbox_cpu": [], "factory_cpu": []}

    def build(turn: int) -> None:
        run_build(build_of(work, asked, out / f"build-{turn}", count, []))
        check(out / f"build-{turn}", count)

    ways: list[tuple[str, Callable[[int], None]]] = [
        ("sandbox", lambda turn: alone(asked, work, count)),
        ("factory", build),
    ]
    for turn in range(asked.rounds):
        for name, way in ways if turn % 2 else reversed(ways):
            started, used = time.perf_counter(), cpu_s()
            way(turn)
            rates[name].append(count / (time.perf_counter() - started))
            rates[f"{name}_cpu"].append(1e3 * (cpu_s() - used) / count)
    counted = {name: found[1:] for name, found in rates.items()}
    return {
        "sandbox_per_s": round(statistics.median(counted["sandbox"]), 2),
        "factory_per_s": round(statistics.median(counted["factory"]), 2),
        "sandbox_cpu_ms": round(statistics.median(counted["sandbox_cpu"]), 2),
        "factory_cpu_ms": round(statistics.median(counted["factory_cpu"]), 2),
        **ratios(counted["factory"], counted["sandbox"]),
    }


def cpu_s() -> float:
    """CPU of this process and of all that have ended below it, seconds."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def alone(asked: argparse.Namespace, work: Work, count: int) -> None:
    """All blocks in as many processes as the build has, without the factory."""
    context = multiprocessing.get_context("spawn")
    shares = [range(place, count, asked.processes) for place in range(asked.processes)]
    processes = [context.Process(target=share, args=(work, mine, asked.concurrency)) for mine in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process ended with {process.exitcode}")


def share(work: Work, numbers: range, concurrency: int) -> None:
    """What one of them does."""
    asyncio.run(_share(work, numbers, concurrency))


async def _share(work: Work, numbers: range, concurrency: int) -> None:
    places = asyncio.Semaphore(concurrency)
    async with open_sandbox(SandboxConfig()) as sandbox:

        async def one(number: int) -> None:
            async with places:
                image = await asyncio.to_thread(work.image, number)
                await bare(sandbox, work, work.problem(number, image))

        await asyncio.gather(*map(one, numbers))


def pixels(text: str) -> Pixels:
    """A size as it is written on the command line."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 4000x3000")
    return int(width), int(height)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked on the command line, or in words like those."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="turns; the first is not counted")
    parser.add_argument("--records", type=int, default=48, help="of a turn")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--size", type=pixels, default=(1024, 768), help="of the pictures, WIDTHxHEIGHT")
    parser.add_argument("--crop", type=pixels, default=(360, 260), help="what a record cuts out, WIDTHxHEIGHT")
    parser.add_argument("--enlarge", type=float, default=3.0, help="of the crop, times its width and height")
    parser.add_argument("--read", action="store_true", help="both ways read pictures from files")
    parser.add_argument("--processes", type=int, default=0, help="whole builds with so many, pictures read from files")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--table", action="store_true", help="print the table of docs/data.md, each row in turn")
    asked = parser.parse_args(words)
    asked.read = asked.read or asked.processes > 0
    most = tuple(corner + side + 32 for corner, side in zip(CORNER, asked.crop, strict=True))
    if asked.size[0] < most[0] or asked.size[1] < most[1]:
        parser.error(f"--size has to be {most[0]}x{most[1]} at least for this --crop")
    if asked.rounds < 2 or asked.records < AT_ONCE or asked.records % AT_ONCE:
        parser.error(f"--rounds has to be 2 at least, --records a multiple of {AT_ONCE}")
    if not asked.read and 4 * asked.size[0] * asked.size[1] * asked.records * asked.rounds > MOST_HELD_BYTES:
        parser.error("so many decoded pictures are more than 4 GiB; give --read, or fewer --records and --rounds")
    return asked


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Figures, and what they are of."""
    count = asked.records * (1 if asked.processes else asked.rounds)
    with tempfile.TemporaryDirectory() as folder:
        out, pictures = Path(folder) / "out", Path(folder) / "pictures"
        out.mkdir()
        pictures.mkdir()
        write_pictures(pictures, asked.size, count)
        work = Work(pictures, asked.size, asked.crop, asked.enlarge)
        told = (whole if asked.processes else in_turns)(asked, work, out, count)
    return told | {
        "records": asked.records * (asked.rounds - 1),
        "concurrency": asked.concurrency,
        "size": list(asked.size),
        "crop": list(asked.crop),
        "enlarge": asked.enlarge,
        "read": asked.read,
        "processes": asked.processes or 1,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }


def row(words: str) -> str:
    """A row of the table."""
    asked = arguments(words.split())
    told = measured(asked)
    size, back = ("x".join(map(str, told["size"])), [round(told["enlarge"] * side) for side in told["crop"]])
    rates = f"{told['sandbox_per_s']:.1f} | {told['factory_per_s']:.1f} | {told['ratio']:.2f}"
    where = "read" if asked.read else "at hand"
    of = f"{size}, {where}" + (f", {asked.processes} processes" if asked.processes else "")
    used = f"{told['sandbox_cpu_ms']:.1f} | {told['factory_cpu_ms']:.1f}"
    return f"| {of} | {back[0]}x{back[1]} | `{words}` | {rates} | {used} |"


def main() -> None:
    """Measure, and print."""
    asked = arguments()
    if asked.table:
        print("| picture | comes back | options | records a second, bare | made | ratio | CPU, ms, bare | made |")
        print("|---|---|---|---:|---:|---:|---:|---:|")
        for words in TABLE:
            print(row(words), flush=True)
        return
    told = measured(asked)
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
