"""Our engine, driven as the rollout drives it: one span of text, one of code, the observation, and on."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rollout_peers.protocol import Result, Run, Script, Work, answer_commands
from thyme.config.engine import EngineConfig
from thyme.engines import transformers_scheduler
from thyme.engines.base import Request
from thyme.engines.transformers import TransformersEngine
from thyme.markup import ANSWER_CLOSE, CODE_CLOSE, CODE_OPEN
from thyme.types import Execution, Generated, ImageRecord, Segment


class Forced:
    """Puts the script's token in the place of the one that was chosen, after all the work of choosing it."""

    def __init__(self, scripts: list[Script]) -> None:
        self._ids = {script.name: script.ids for script in scripts}
        self._choose = transformers_scheduler.choose
        self.score = False

    def __call__(self, logits: torch.Tensor, rows: Any, never: torch.Tensor) -> tuple[list[int], list[float]]:
        _, logprobs = self._choose(logits, rows, never)
        tokens = [self._ids[row.job.trajectory_id][len(row.cache)] for row in rows]
        if self.score:
            logprobs = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()
        return tokens, logprobs


class Ours:
    """The engine and the pictures."""

    def __init__(self, work: Work) -> None:
        self._scripts = work.scripts
        config = EngineConfig(threads=work.threads, device="cpu", dtype="float32", max_batch=max(16, len(work.scripts)))
        self._engine = TransformersEngine.load(Path(work.model), config)
        names = {name for script in work.scripts for _, images, _ in script.turns for name in images}
        self._pictures = {name: ImageRecord.of(work.picture(name)) for name in names}
        self._pauses: list[float] = []
        self._forced = transformers_scheduler.choose = Forced(work.scripts)

    def run(self, count: int, score: bool) -> Result:
        """All trajectories at once."""
        self._forced.score = score
        counters = self._engine.counters
        self._pauses.clear()
        steps, fed, scripts = counters.steps, counters.fed_tokens, self._scripts[:count]
        started = time.perf_counter()
        done = asyncio.run(self._together(scripts))
        seconds = time.perf_counter() - started
        return Result(
            seconds,
            [[token for span in spans for token in span.token_ids] for spans in done],
            counters.fed_tokens - fed,
            counters.steps - steps,
            [[value for span in spans for value in span.logprobs or ()] for spans in done] if score else [],
            [float(1e3 * value) for value in np.quantile(self._pauses, [0.5, 0.99, 1.0])],
        )

    async def _together(self, scripts: list[Script]) -> list[list[Generated]]:
        return await asyncio.gather(*(self._trajectory(script) for script in scripts))

    async def _trajectory(self, script: Script) -> list[Generated]:
        engine = self._engine
        prompt = engine.prompt(script.system, script.user, [self._pictures[script.image]])
        segments: list[Segment] = []

        async def span(ids: list[int], *stop: str) -> None:
            request = Request(script.name, prompt, tuple(segments), stop=stop, max_tokens=len(ids))
            chunks, times = [], []
            async for chunk in engine.stream(request):
                chunks.append(chunk)
                times.append(time.perf_counter())
            self._pauses += [after - before for before, after in pairwise(times)]
            segments.append(
                Generated(
                    kind="text",
                    text="".join(chunk.text for chunk in chunks),
                    token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
                    logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
                    temperature=0.0,
                )
            )

        for one in script.rounds:
            await span(one.text, CODE_OPEN, ANSWER_CLOSE)
            await span(one.code, CODE_CLOSE)
            execution = Execution(code="", stdout=one.stdout, images=(self._pictures[one.image],))
            segments.append(engine.observation(execution))
        await span(script.answer, CODE_OPEN, ANSWER_CLOSE)
        await engine.release(script.name)
        return [segment for segment in segments if isinstance(segment, Generated)]


def load(work: Work) -> Run:
    """Load the weights."""
    return Ours(work).run


if __name__ == "__main__":
    answer_commands(load)
