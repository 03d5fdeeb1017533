"""An OpenAI-compatible server on this machine that says what it is told to, or fails as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar


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
    cut: bool = False
    """Whether the connection is closed in the middle of the body."""
    hang: bool = False
    """Whether nothing is sent until the server ends."""


@dataclass
class ChatServer:
    """What is in `replies` comes first, then `always`; what was asked is noted."""

    url: str = ""
    """Ends in ``/v1``."""
    replies: list[Says] = field(default_factory=list)
    always: Says | Callable[[dict[str, Any]], Says] = field(default_factory=Says)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Clock of each request, seconds."""
    delay_s: float = 0.0
    together: int = 0
    """Requests that must have been under way at once before any is answered; waited for at most ten seconds."""
    running: int = 0
    most: int = 0
    """That were under way at once."""
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, body: dict[str, Any]) -> Says:
        if self.replies:
            return self.replies.pop(0)
        return self.always if isinstance(self.always, Says) else self.always(body)


S = TypeVar("S", bound=ChatServer)


@contextmanager
def chatting(server: S) -> Iterator[S]:
    """Serve on a free port until the context ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
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


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
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
                says = server.next(body)
            time.sleep(server.delay_s)
            patience = time.monotonic() + 10
            while server.most < server.together and time.monotonic() < patience:
                time.sleep(0.002)
            with server.lock:
                server.running -= 1
            if says.hang:
                server.ended.wait(30)
                return
            self.send(says, _content(says, body))

        def send(self, says: Says, data: bytes) -> None:
            self.send_response(says.status)
            for name, value in ({"content-type": "application/json"} | says.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if says.cut else data)
            self.close_connection = says.cut

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    return Handler


def _content(says: Says, body: dict[str, Any]) -> bytes:
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
