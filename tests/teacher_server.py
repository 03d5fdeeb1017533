"""A teacher on this machine that says what it is told to, and recipes and drafts to try it with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from PIL import Image

from thyme.config.data import DataRecipe
from thyme.data.drafts import Draft, Rejection
from thyme.data.stages.base import Context, Workbench
from thyme.data.stages.execute import execute
from thyme.data.stages.generate import generate
from thyme.data.teachers import TeacherPool
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.types import ImageRecord, Problem


@dataclass
class Says:
    """What the server does with one request."""

    text: str = "<think>It is red.</think>\n<answer>red</answer>"
    finish: str = "stop"
    usage: tuple[int, int] | None = (100, 10)
    reasoning: str = ""
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent instead of a chat completion."""


@dataclass
class TeacherServer:
    """An OpenAI-compatible server. What is in `replies` comes first, then `always`."""

    url: str = ""
    replies: list[Says] = field(default_factory=list)
    always: Says | Callable[[dict[str, Any]], Says] = field(default_factory=Says)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    delay_s: float = 0.0
    together: int = 0
    """Requests that must have been under way at once before any is answered; waited for at most ten seconds."""
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, body: dict[str, Any]) -> Says:
        if self.replies:
            return self.replies.pop(0)
        return self.always if isinstance(self.always, Says) else self.always(body)

    def teacher(self, **fields: Any) -> dict[str, Any]:
        quick = {"retries": 2, "backoff_s": 0.001, "timeout_s": 10.0}
        return {"model": f"{self.url}#toy", **quick, **fields}

    def judge(self, **fields: Any) -> dict[str, Any]:
        return self.teacher(**fields)


def handler(server: TeacherServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.requests.append(body)
                server.keys.append(self.headers.get("authorization"))
                server.running += 1
                server.most = max(server.most, server.running)
                says = server.next(body)
            time.sleep(server.delay_s)
            patience = time.monotonic() + 10
            while server.most < server.together and time.monotonic() < patience:
                time.sleep(0.002)
            with server.lock:
                server.running -= 1
            data = content(says, body)
            self.send_response(says.status)
            for name, value in ({"content-type": "application/json"} | says.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    return Handler


def content(says: Says, body: dict[str, Any]) -> bytes:
    """As servers do: the first stop string and all behind it is left out."""
    if says.body is not None:
        return says.body
    if says.error:
        return json.dumps({"error": {"message": says.error}}).encode()
    text = says.text
    for stop in body.get("stop", ()):
        text = text.partition(stop)[0]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if says.reasoning:
        message["reasoning_content"] = says.reasoning
    answer: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": says.finish}]}
    if says.usage is not None:
        answer["usage"] = {"prompt_tokens": says.usage[0], "completion_tokens": says.usage[1]}
    return json.dumps(answer).encode()


@contextmanager
def teaching() -> Iterator[TeacherServer]:
    server = TeacherServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def recipe_of(server: TeacherServer, **fields: Any) -> DataRecipe:
    values: dict[str, Any] = {
        "count": 1,
        "sources": {"pictures": {"path": "pictures"}},
        "scenarios": {"crop": 1.0},
        "teachers": {"first": server.teacher()},
    }
    return DataRecipe.model_validate(values | fields)


def draft_of(scenario: str = "crop", number: int = 0, **fields: Any) -> Draft:
    """A prepared draft: a red square on grey, and a question about it."""
    image = Image.new("RGB", (64, 48), (128, 128, 128))
    image.paste((255, 0, 0), (40, 20, 50, 30))
    images = (ImageRecord.of(image, name="red_square.png"),)
    problem = Problem(id="p", question="Which colour has the square?", images=images, answer="red")
    box = [40, 20, 50, 30]
    hints = {"boxes": [box], "wrong": [0, 0, 10, 10], "larger": [20, 10, 60, 40]}
    values: dict[str, Any] = {
        "id": f"pictures-{number}-{scenario}",
        "scenario": scenario,
        "seed": 7 + number,
        "source": "pictures",
        "origin": problem,
        "problem": problem,
        "hints": hints,
    }
    return Draft(**(values | fields))


@asynccontextmanager
async def workplace(recipe: DataRecipe, sandbox: Sandbox | None, folder: Path | None = None) -> AsyncIterator[Context]:
    """Without a sandbox nothing can run; what only asks needs none."""
    async with TeacherPool(recipe, folder, environment={}) as teachers:
        yield Context(recipe=recipe, sandbox=cast(Sandbox, sandbox), prompts=PromptSet.load(), teachers=teachers)


async def made(draft: Draft, context: Context) -> Draft | Rejection:
    """Ask and execute in turn until there is an outcome."""
    bench = context.benches[draft.id] = Workbench()
    record: Draft | Rejection = draft
    try:
        for _ in range(context.recipe.max_rounds + 1):
            for stage in (generate, execute):
                if isinstance(record, Rejection) or record.finished:
                    return record
                record = await stage(record, context)
        return record
    finally:
        del context.benches[draft.id]
        await bench.aclose()
