"""Stand-ins for the few names of verifiers and verl that the examples use, where those are missing. Not a test."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

D, C = TypeVar("D"), TypeVar("C")

CODE = """<think>I zoom in.
<code>
```python
from PIL import Image
Image.open(image_path).crop((0, 0, 192, 192)).save("crop.png")
print("crop.png")
```
"""
ANSWER = "\nI see 22.</think>\n<answer>22"


class TaskData(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: str | None = None
    prompt: str | None = None

    @property
    def prompt_text(self) -> str:
        return self.prompt or ""


class Task(Generic[D]):
    def __init__(self, data: D, config: Any = None) -> None:
        self.data = data


class TasksetConfig(BaseModel):
    task: Any = None


class Taskset(Generic[D, C]):
    def __init__(self, config: Any) -> None:
        self.config = config


class HarnessConfig(BaseModel):
    id: str = "verifiers_thyme"


class Harness(Generic[D]):
    def __init__(self, config: Any) -> None:
        self.config = config


class ProgramResult:
    def __init__(self, exit_code: int, stdout: str, stderr: str) -> None:
        self.exit_code, self.stdout, self.stderr = exit_code, stdout, stderr


class BaseTool:
    def __init__(self, config: dict[str, Any], tool_schema: Any) -> None:
        self.config, self.tool_schema = config, tool_schema
        self.name = tool_schema.function["name"]


class OpenAIFunctionToolSchema(BaseModel):
    type: str
    function: dict[str, Any]


class ToolResponse(BaseModel):
    text: str | None = None
    image: list[Any] | None = None


def unchanged(function: Any) -> Any:
    """`vf.reward` and `vf.metric`, which mark a method and change nothing."""
    return function


VERIFIERS = {
    **{c.__name__: c for c in (TaskData, Task, TasksetConfig, Taskset, HarnessConfig, Harness, ProgramResult)},
    **dict.fromkeys(("reward", "metric"), unchanged),
    **dict.fromkeys(("ModelContext", "Runtime", "Trace"), object),
}
MODULES: dict[str, dict[str, Any]] = {
    "verifiers": {},
    "verifiers.v1": VERIFIERS,
    "verl": {},
    "verl.tools": {},
    "verl.tools.base_tool": {"BaseTool": BaseTool},
    "verl.tools.schemas": {c.__name__: c for c in (OpenAIFunctionToolSchema, ToolResponse)},
}


def stand_in() -> None:
    """Put them where the examples look, unless the real ones are loaded already."""
    for name, content in MODULES.items():
        if name not in sys.modules:
            made = ModuleType(name)
            vars(made).update(content)
            sys.modules[name] = made
            parent, _, own = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], own, made)


@contextmanager
def model_server(requests: list[dict[str, Any]]) -> Iterator[str]:
    """An OpenAI-compatible server that looks once and answers 22; it keeps the stop string if it is asked to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            requests.append(body)
            looks = sum(message["role"] == "user" for message in body["messages"]) == 1
            text, stop = (CODE, "</code>") if looks else (ANSWER, "</answer>")
            text += stop if body.get("include_stop_str_in_output") else ""
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            said = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "usage": usage}
            data = json.dumps({**said, "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
