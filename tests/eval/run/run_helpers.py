"""A small benchmark, a model that follows a script, and a sandbox that knows what code does: for tests of runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from thyme.config import EngineConfig, SandboxConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.engines.base import Engine, Request
from thyme.engines.scripted import ScriptedEngine
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.items import ItemResult
from thyme.eval.run.folder import Run
from thyme.eval.run.run import WHOLE, run_evaluation
from thyme.eval.run.sources import Shard, Source, Wanted
from thyme.rewards.answer import score_answer
from thyme.types import Execution, ExecutionError, ImageRecord, Problem


def mean(items: Sequence[ItemResult]) -> dict[str, float | None]:
    known = [item.score for item in items if item.score is not None]
    return {"overall": sum(known) / len(known) if known else None}


def benchmark(name: str = "Toy") -> Benchmark:
    def to_problem(row: Any, images: tuple[ImageRecord, ...]) -> Problem:
        raise AssertionError("problems are made, not read")

    return Benchmark(
        name=name,
        title=name,
        to_problem=to_problem,
        score=lambda problem, answer: score_answer(problem, answer),
        figures=mean,
        headline="overall",
    )


def problem(place: int) -> Problem:
    """Every third needs no code; the answer of every second one is right with code, of the others it never is."""
    asked = "plain" if place % 3 == 0 else "crop"
    picture = Image.effect_noise((64, 48), 40 + place).convert("RGB").point(lambda v: (v * 7 + place) % 256)
    return Problem(
        id=f"p{place}",
        question=f"{asked} {place}?",
        images=(ImageRecord.of(picture, name=f"{place}.png"),),
        answer=str(place) if place % 2 == 0 else "nothing",
        kind=asked,
    )


def source(count: int = 9, name: str = "Toy", digest: str = "0", kept: list[Problem] | None = None) -> Source:
    made = [problem(place) for place in range(count)] if kept is None else kept

    def read(wanted: Wanted) -> Iterator[tuple[int, Problem]]:
        return ((place, one) for place, one in enumerate(made) if wanted(place))

    return Source(benchmark(name), f"{name}.tsv", digest, count, read)


def number(text: str) -> str:
    return text.rpartition(" ")[2].partition("?")[0]


def says(request: Request) -> list[str]:
    """A crop, then what it showed; or the answer at once. Blocked, or shown nothing, it guesses."""
    asked = request.prompt.user.rpartition("Question: ")[2].splitlines()[0]
    if asked.startswith("plain") or request.blocked:
        return [f"<think>Plain.</think>\n<answer>{number(asked) if asked.startswith('plain') else 'guess'}</answer>"]
    seen = next((s for s in request.segments if s.kind == "observation"), None)
    told = number(asked) if seen is not None and "shown" in seen.execution.stdout else "nothing seen"
    return ["<think>I look.\n<code>\n```python\ncrop()\n```\n</code>", f"So.</think>\n<answer>{told}</answer>"]


class Session:
    def __init__(self, images: Sequence[ImageRecord], fails: Callable[[str], bool]) -> None:
        self._images, self._fails = images, fails

    async def run(self, code: str) -> Execution:
        await asyncio.sleep(0)
        if self._fails(code):
            return Execution(code=code, error=ExecutionError(type="NameError", message="no"), isolation="scripted")
        crop = self._images[0].image.crop((8, 8, 40, 32))
        crop.load()
        return Execution(
            code=code, ran=code, stdout="shown", images=(ImageRecord.of(crop, name="c.png"),), isolation="scripted"
        )


class FakeSandbox:
    isolation = "scripted"

    def __init__(self, config: SandboxConfig, fails: Callable[[str], bool] = lambda code: False) -> None:
        self.config, self._fails = config, fails

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[Session]:
        yield Session(images, self._fails)

    async def aclose(self) -> None:
        """Nothing to end."""


class Forgetful(list[Request]):
    """Requests hold pictures; here they are not kept."""

    def append(self, request: Request) -> None:
        """Let it go."""


class House:
    """Opens what a run needs, and keeps what was opened."""

    def __init__(
        self,
        script: Any = says,
        *,
        fails: Callable[[str], bool] = lambda code: False,
        forgets: bool = False,
        **engine: Any,
    ) -> None:
        self.script, self.fails, self.forgets, self.engine = script, fails, forgets, engine
        self.engines: list[ScriptedEngine] = []
        self.models: list[str] = []
        self.sandboxes: list[SandboxConfig] = []

    def open_model(self, model: str, config: EngineConfig) -> Engine:
        self.models.append(model)
        self.engines.append(ScriptedEngine(self.script, **{"name": model, **self.engine}))
        if self.forgets:
            self.engines[-1].requests = Forgetful()
        return self.engines[-1]

    @asynccontextmanager
    async def open_sandbox(self, config: SandboxConfig) -> AsyncIterator[FakeSandbox]:
        self.sandboxes.append(config)
        yield FakeSandbox(config, self.fails)

    @property
    def asked(self) -> list[str]:
        """Rollouts that were begun, by id."""
        ids = [request.trajectory_id for engine in self.engines for request in engine.requests]
        return list(dict.fromkeys(ids))

    async def run(
        self,
        out: Path,
        *sources: Source,
        shard: Shard = WHOLE,
        progress: bool = False,
        **settings: Any,
    ) -> Run:
        return await run_evaluation(
            EvaluationConfig(**{"engine": EngineConfig(model="scripted"), "concurrency": 3, **settings}),
            sources or [source()],
            out,
            open_model=self.open_model,
            open_sandbox=self.open_sandbox,
            shard=shard,
            progress=progress,
        )


def facts(run: Run) -> list[dict[str, Any]]:
    """All that a run found, but for how long it took."""
    return [item.model_dump(mode="json", exclude={"seconds"}) for item in run.items]
