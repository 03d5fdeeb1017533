"""What the tests of rollers share: a policy over a given engine, a sandbox that obeys, a judge. Not a test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from thyme.config import RolloutConfig
from thyme.config.rewards import JudgeSettings, RewardSettings
from thyme.engines.base import Engine, Request
from thyme.engines.scripted import ScriptedEngine
from thyme.prompts import PromptSet
from thyme.train.grpo.groups import Asked, Group
from thyme.train.grpo.roller import GroupRoller
from thyme.types import Execution, ImageRecord, Problem, Trajectory

WORDS = PromptSet.load(None)
RIGHT = "<think>It is 7. The answer is 7.</think><answer>7</answer>"
WRONG = "<think>It is 8. The answer is 8.</think><answer>8</answer>"


def coded(*sources: str) -> list[str]:
    """What is written where these blocks are run, one after the other, before the right answer."""
    blocks = [f"I look.<code>\n```python\n{source}\n```\n</code>" for source in sources]
    return [f"<think>{blocks[0]}", *blocks[1:], RIGHT.removeprefix("<think>")]


def asked(count: int, first: int = 0, **problem: Any) -> list[Asked]:
    made = {"question": "What number is it?", "answer": "7"} | problem
    return [Asked(place, Problem(id=f"p{place}", **made)) for place in range(first, first + count)]


class Questions:
    """Problems by number, and which of them were loaded."""

    fingerprint = "questions"

    def __init__(self, count: int) -> None:
        self.count = count
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Problem:
        self.loaded.append(index)
        return Problem(id=f"q{index}", question=f"What is number {index}?", answer="7")


class FixedPolicy:
    """The engine that it was given, whatever the model is."""

    fingerprint = "fixed"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked: list[tuple[Any, int]] = []
        self.closed = 0

    @asynccontextmanager
    async def asking(self, model: Any, step: int) -> AsyncIterator[None]:
        self.asked.append((model, step))
        yield

    async def engine(self) -> Engine:
        return self._engine

    async def aclose(self) -> None:
        self.closed += 1


class ToldSandbox:
    """Runs code by a function."""

    isolation = "scripted"

    def __init__(self, run: Callable[[str], Awaitable[Execution]]) -> None:
        self._run = run
        self.open_now = self.most_open = self.closed = 0

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[ToldSandbox]:
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            yield self
        finally:
            self.open_now -= 1

    async def run(self, source: str) -> Execution:
        return await self._run(source)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ToldSandbox]:
        try:
            yield self
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        """Nothing is held."""


async def prints_seven(source: str) -> Execution:
    return Execution(code=source, stdout="7")


@contextmanager
def roller_over(engine: Engine, sandbox: Any = None, **options: Any) -> Iterator[GroupRoller]:
    """Rule-only rewards and a sandbox that prints 7, unless told otherwise."""
    given = {
        "config": RolloutConfig(text_temperature=1.0),
        "sandbox": ToldSandbox(prints_seven).opened if sandbox is None else sandbox,
        "rewards": RewardSettings(),
        "pause_s": 0.01,
    }
    with GroupRoller(FixedPolicy(engine), WORDS, **(given | options)) as roller:
        yield roller


def says(*continuations: Any) -> ScriptedEngine:
    return ScriptedEngine(list(continuations))


def scripted(script: Callable[[Request], Sequence[Any]], **options: Any) -> ScriptedEngine:
    return ScriptedEngine(script, **options)


def member_of(request: Request) -> str:
    """Step, place, attempt and member of a request, without how often it was begun again."""
    return request.trajectory_id.partition("+")[0]


def rewards(groups: Sequence[Group]) -> list[tuple[float | None, ...]]:
    return [group.rewards for group in groups]


def trajectories(groups: Sequence[Group]) -> list[Trajectory]:
    return [member.trajectory for group in groups for member in group.members]


def written(groups: Sequence[Group]) -> list[tuple[str, tuple[tuple[int, ...], ...], str]]:
    """What was rolled out, without clocks."""
    return [(t.id, tuple(s.token_ids for s in t.segments), t.response) for t in trajectories(groups)]


class LocalJudge:
    """An OpenAI-compatible server that finds everything right, when it is up."""

    def __init__(self) -> None:
        self.down = False
        self.seen: Callable[[list[float]], Any] = lambda asked_at: None
        self.hold: Callable[[list[float]], Any] = lambda asked_at: None
        """Called with each request, before it is answered."""
        self.asked_at: list[float] = []
        """Clock of each request."""
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply({"object": "list", "data": [{"id": "judge", "object": "model"}]})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                judge.asked_at.append(time.monotonic())
                judge.seen(judge.asked_at)
                judge.hold(judge.asked_at)
                if judge.down:
                    self.send_error(503)
                    return
                said = {"role": "assistant", "content": json.dumps(judge.verdict)}
                self._reply({"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})

            def _reply(self, body: dict[str, Any]) -> None:
                sent = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        self.verdict: dict[str, Any] = {"correct": 1}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def settings(self) -> RewardSettings:
        """Every answer is judged; a request is sent once."""
        url = f"http://127.0.0.1:{self._server.server_port}/v1#judge"
        judge = JudgeSettings(model=url, retries=0, backoff_s=0.01)
        return RewardSettings(result_by="judge", consistency_by="off", judge=judge)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def judge() -> Iterator[LocalJudge]:
    made = LocalJudge()
    try:
        yield made
    finally:
        made.close()


def nano_prompts(folder: Path) -> PromptSet:
    return PromptSet.load(folder / "prompts")
