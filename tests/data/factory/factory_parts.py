"""Small parts of a build for the tests of the factory: a source, a teacher and stages that need no model.

Other processes import this module by its name, so everything that goes there stands at its top level.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from thyme.config.data import DataRecipe, SourceSettings, TeacherSettings
from thyme.config.sandbox import SandboxConfig
from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.build import Build
from thyme.data.factory.chunk import open_maker
from thyme.data.factory.draw import Plan
from thyme.data.factory.folder import content, read_outcomes
from thyme.data.factory.held_out import HeldOut
from thyme.data.factory.jobs import Jobs
from thyme.data.scenarios.base import Prepared, Scenario
from thyme.data.sources.base import Facts
from thyme.data.stages.base import Context, Reply
from thyme.errors import BudgetError, EncodeError, EngineError
from thyme.sandbox.broker import open_sandbox
from thyme.types import Execution, Generated, ImageRecord, Observation, Problem

CODE = """from PIL import Image
image = Image.open(image_path)
image.crop((8, 8, 40, 40)).save("crop.png")
print("crop.png", image.size)"""


def square(number: int, size: int = 64) -> Image.Image:
    """A picture that no other number has, nor one near it."""
    image = Image.new("RGB", (size, size), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    step = size // 8
    pattern = (number * 2654435761 + 12345) * 6364136223846793005
    for place in range(64):
        x, y = place % 8 * step, place // 8 * step
        shade = 20 if pattern >> place & 1 else 230
        draw.rectangle((x, y, x + step - 1, y + step - 1), fill=(shade, (shade + number) % 256, shade))
    return image


class Squares:
    """A source: row i shows the picture of number i, and asks for that number."""

    def __init__(self, name: str, settings: SourceSettings, seed: int) -> None:
        self._name, self._rows, self._kind = name, settings.count or 100, settings.split

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return f"squares/{self._rows}/{self._kind}"

    def __len__(self) -> int:
        return self._rows

    def facts(self, index: int) -> Facts:
        if self._kind == "text":
            return Facts(0, answer=True)
        return Facts(1, answer=True, box=index % 4 == 0)

    def problem(self, index: int) -> Problem:
        if self._kind == "damaged" and index % 5 == 0:
            raise EncodeError(f"row {index} is damaged", reason="image_damaged")
        if self._kind == "text":
            return Problem(id=f"{self._name}-{index}", question=f"How much is {index} + 1?", answer=str(index + 1))
        number = index // 2 if self._kind == "twins" else index
        images = (ImageRecord.of(square(number)),)
        return Problem(id=f"{self._name}-{index}", question="Which number is it?", images=images, answer=str(number))


WORLDS = {"squares": Squares}


def as_it_is(problem: Problem, random: Any) -> Prepared:
    return Prepared(problem)


def scenario(name: str, *needs: str) -> Scenario:
    return Scenario(name, name, frozenset(needs), as_it_is, "none.txt", ())


SCENARIOS = {one.name: one for one in (scenario("plain"), scenario("boxed", "box"), scenario("text", "text_only"))}


class Nobody:
    """Teachers that are never asked."""

    def choose(self, draft: Draft) -> str:
        return "nobody"

    async def ask(self, teacher: str, messages: list[dict[str, Any]], *, seed: int) -> Reply:
        raise AssertionError("nobody is to be asked")


@asynccontextmanager
async def open_nobody(recipe: DataRecipe, out: Path) -> AsyncIterator[Nobody]:
    yield Nobody()


class NoSession:
    """Runs nothing."""

    async def run(self, code: str) -> Execution:
        return Execution(code=code, ran=code, stdout="made", isolation="scripted")


class NoSandbox:
    """Hands out sessions that run nothing, where code is not the subject."""

    isolation = "scripted"

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[NoSession]:
        yield NoSession()

    def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AbstractAsyncContextManager[NoSession]:
        return self._session()

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def no_sandbox(config: SandboxConfig) -> AsyncIterator[NoSandbox]:
    yield NoSandbox()


async def passes(draft: Draft, context: Context) -> Draft | Rejection:
    return draft


async def writes(draft: Draft, context: Context) -> Draft | Rejection:
    """A teacher that writes a block in its first turn, and answers in its second."""
    if not draft.segments:
        code = Generated(kind="code", text=f"{CODE}\n</code>", temperature=0.0)
        said = Generated(kind="text", text="<think>I look closer.</think>\n<code>\n", temperature=0.0)
        return draft.model_copy(update={"segments": (said, code), "teacher": "small"})
    said = Generated(kind="text", text=f"<answer>{draft.origin.answer}</answer>", temperature=0.0)
    return draft.model_copy(update={"segments": (*draft.segments, said), "finished": True})


async def runs(draft: Draft, context: Context) -> Draft | Rejection:
    """Runs the block in the sandbox."""
    bench = context.benches[draft.id]
    if bench.session is None:
        opened = context.sandbox.session(draft.problem.images, draft.seed % 2**32)
        bench.session = await bench.resources.enter_async_context(opened)
    execution = await bench.session.run(CODE)
    if execution.error is not None:
        return Rejection.of(draft, "execute", "error_in_code", execution.error.message)
    seen = Observation(execution=execution, text=execution.stdout)
    return draft.model_copy(update={"segments": (*draft.segments, seen)})


async def every_seventh(draft: Draft, context: Context) -> Draft | Rejection:
    """Rejects what a draft's seed says."""
    return Rejection.of(draft, "accept", "seventh") if draft.seed % 7 == 0 else draft


async def slowly(draft: Draft, context: Context) -> Draft | Rejection:
    await asyncio.sleep(0.05 + draft.seed % 5 / 100)
    return await every_seventh(draft, context)


async def until_spent(draft: Draft, context: Context) -> Draft | Rejection:
    """What may be spent lasts for the first twenty items."""
    if int(draft.id.split("-")[1]) >= 20 and context.recipe.budget.requests is not None:
        raise BudgetError("the budget of 20 requests is used up")
    return draft


async def breaks(draft: Draft, context: Context) -> Draft | Rejection:
    """A rule that fails at some records."""
    if draft.seed % 3 == 0:
        raise KeyError("box")
    return draft


async def fails(draft: Draft, context: Context) -> Draft | Rejection:
    """A teacher that is gone from the tenth item on."""
    if int(draft.id.split("-")[1]) >= 10:
        raise EngineError("the endpoint is gone")
    return draft


async def kills(draft: Draft, context: Context) -> Draft | Rejection:
    """A record that no process survives."""
    if draft.id.split("-")[1] == "0000012":
        os.kill(os.getpid(), signal.SIGKILL)
    return draft


SIMPLE = {"prepare": passes, "accept": every_seventh}
SLOW = {"prepare": passes, "accept": slowly}
WHOLE = {"prepare": passes, "generate": writes, "execute": runs, "accept": every_seventh}
BREAKING = {"prepare": passes, "accept": breaks}
SPENDING = {"prepare": passes, "accept": until_spent}
FAILING = {"prepare": passes, "accept": fails}
DEADLY = {"prepare": passes, "accept": kills}


def recipe(**settings: Any) -> DataRecipe:
    """A recipe of 40 records in chunks of 8."""
    given: dict[str, Any] = {
        "count": 40,
        "chunk": 8,
        "processes": 2,
        "concurrency": 4,
        "sources": {"squares": SourceSettings(world="squares", count=max(100, settings.get("count", 0)))},
        "scenarios": {"plain": 1.0},
        "teachers": {"small": TeacherSettings(model="http://localhost:1/v1#small")},
    }
    return DataRecipe(**{**given, **settings})


def build(
    out: Path, stages: Any = SIMPLE, *, sandbox: bool = False, held_out: HeldOut | None = None, **settings: Any
) -> Build:
    """A build of it."""
    return Build(
        recipe(**settings),
        out,
        worlds=WORLDS,
        held_out=held_out or HeldOut(),
        stages=stages,
        scenarios=SCENARIOS,
        open_teachers=open_nobody,
        open_sandbox=open_sandbox if sandbox else no_sandbox,
    )


def run_here(build: Build, plan: Plan, jobs: Jobs, processes: int, told: Any) -> None:
    """An executor in this process, where processes are not the subject."""

    async def everything() -> None:
        async with open_maker(build, plan) as maker:
            while not jobs.finished:
                job = jobs.next()
                assert job is not None, "nothing else is under way that could come back"
                if job.kind == "survey":
                    jobs.done(job, await maker.survey(job.chunk))
                else:
                    await maker.make(job.chunk, job.duplicates)
                    jobs.done(job)
                told(maker.tally)

    asyncio.run(everything())


def contents(out: Path) -> list[str]:
    """All outcomes of a build in the order of the draw, without costs and seconds."""
    found = {one.index: content(one.record()) for kind in (False, True) for one in read_outcomes(out, rejected=kind)}
    return [found[index] for index in sorted(found)]


def files(out: Path) -> dict[str, bytes]:
    """Every file of a build that two builds of one recipe share to the byte where nothing is timed."""
    folders = ("draw", "images", "records", "rejected")
    found = (path for name in folders for path in (out / name).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(found)}
