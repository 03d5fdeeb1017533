"""Trajectories for tests of rewards, as short as they can be, and a judge on this machine that does as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from thyme.config.rewards import JudgeSettings, RewardSettings
from thyme.markup import observation_text
from thyme.types import (
    Execution,
    ExecutionError,
    Generated,
    Observation,
    Problem,
    Prompt,
    RolloutFailure,
    Sampling,
    StopReason,
    Trajectory,
)

SAMPLING = Sampling(text_temperature=1.0, code_temperature=0.0, max_rounds=4, max_round_tokens=512, max_tokens=1024)


@dataclass(frozen=True)
class Ran:
    """A code block, and what came of it."""

    code: str
    stdout: str = ""
    error: str = ""


def rollout(
    *pieces: str | Ran,
    reference: str | None = "42",
    choices: tuple[str, ...] = (),
    question: str = "How many?",
    stop: StopReason = StopReason.ANSWER,
    **meta: object,
) -> Trajectory:
    """What the model wrote, and the code that ran between."""
    segments: list[Generated | Observation] = []
    for piece in pieces:
        if isinstance(piece, str):
            segments.append(Generated(kind="text", text=piece, temperature=1.0))
            continue
        error = ExecutionError(type="ValueError", message=piece.error) if piece.error else None
        execution = Execution(code=piece.code, stdout=piece.stdout, error=error)
        segments.append(Generated(kind="code", text=f"\n{piece.code}\n</code>", temperature=0.0))
        segments.append(Observation(execution=execution, text=observation_text(execution)))
    failed = RolloutFailure(type="SandboxError", message="the sandbox fell over", where="sandbox")
    return Trajectory(
        id="t",
        problem=Problem(id="p", question=question, answer=reference, choices=choices, meta=meta),
        prompt=Prompt(system="", user=question),
        segments=tuple(segments),
        stop=stop,
        error=failed if stop is StopReason.ERROR else None,
        sampling=SAMPLING,
    )


def answered(answer: str, thought: str = "I count 42.", **problem: Any) -> Trajectory:
    """One that is well-formed and ran no code."""
    return rollout(f"<think>{thought}</think>\n<answer>{answer}</answer>", **problem)


# --- a judge ----------------------------------------------------------------------------------------------------------


@dataclass
class Reply:
    """What the server does with one request."""

    content: str = '{"correct": 1}'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent instead of a chat completion."""
    cut: bool = False
    """Whether the connection is closed in the middle of the body."""
    hang: bool = False
    """Whether nothing is sent until the server ends."""


@dataclass
class JudgeServer:
    """An OpenAI-compatible server. What is in `replies` comes first, then `always`."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    always: Reply | Callable[[dict[str, Any]], Reply] = field(default_factory=Reply)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    delay_s: float = 0.0
    running: int = 0
    most: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def materials(self) -> list[dict[str, Any]]:
        """What the judge was shown, request by request."""
        return [json.loads(request["messages"][1]["content"]) for request in self.requests]

    def settings(self, **fields: Any) -> JudgeSettings:
        quick = {"retries": 2, "backoff_s": 0.001, "timeout_s": 10.0}
        return JudgeSettings(model=f"{self.url}#toy", **(quick | fields))

    def rewards(self, judge: dict[str, Any] | None = None, **fields: Any) -> RewardSettings:
        return RewardSettings(judge=self.settings(**(judge or {})), **fields)

    def next(self, body: dict[str, Any]) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        return self.always if isinstance(self.always, Reply) else self.always(body)


def handler(server: JudgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.requests.append(body)
                server.keys.append(self.headers.get("authorization"))
                server.times.append(time.monotonic())
                server.running += 1
                server.most = max(server.most, server.running)
                reply = server.next(body)
            time.sleep(server.delay_s)
            with server.lock:
                server.running -= 1
            if reply.hang:
                server.ended.wait(30)
                return
            self.send(reply)

        def send(self, reply: Reply) -> None:
            message = {"choices": [{"index": 0, "message": {"role": "assistant", "content": reply.content}}]}
            data = json.dumps(message).encode() if reply.body is None else reply.body
            self.send_response(reply.status)
            for name, value in ({"content-type": "application/json"} | reply.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if reply.cut else data)
            self.close_connection = reply.cut

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    return Handler


@contextmanager
def judging() -> Iterator[JudgeServer]:
    server = JudgeServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(server))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        thread.join()
        http.server_close()
