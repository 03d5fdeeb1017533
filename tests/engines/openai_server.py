"""An OpenAI-compatible server that says what it is told to, as vLLM, or as a hosted API, or fails on request."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

OURS = {"model", "messages", "temperature", "max_tokens", "stop", "stream", "seed", "logprobs", "top_logprobs"}
"""Fields that a hosted API knows."""
CUT = "cut the connection here"
HANG = "say nothing more"


@dataclass
class Fake:
    """What the server says and what it can do; every field may be changed while it runs."""

    script: Sequence[str] = ("Red.",)
    """What the model writes from one observation to the next; CUT and HANG as a token are what they say."""
    kind: str = "vllm"
    """``vllm``; ``hosted`` refuses fields it does not know; ``deaf`` passes over them."""
    served: Sequence[str] = ("toy",)
    tokenize: Callable[[str], list[str]] = lambda text: [text[i : i + 4] for i in range(0, len(text), 4)]
    ids: Callable[[str], int] = lambda piece: sum(map(ord, piece))
    prompt_ids: Callable[[dict[str, Any]], list[int]] = lambda body: [1, 2, 3]
    with_ids: bool = True
    logprobs: str | None = "tempered"
    names_stop: bool = True
    strips_stop: bool = True
    streams: bool = True
    context: int | None = 4096
    sees: bool = True
    sees_in_answers: bool = True
    refuses: Sequence[str] = ()
    """Fields that it does not take."""
    failures: list[Response] = field(default_factory=list)
    """Answers to the next chat requests, instead of the real ones."""
    delay_s: float = 0.0
    keep_alive: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0
    written: int = 0
    """Tokens sent in streams."""

    @property
    def last(self) -> dict[str, Any]:
        return self.requests[-1]


def error(message: str, status: int = 400, **headers: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "code": status}}, status, headers)


def texts(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def images(messages: list[dict[str, Any]]) -> int:
    return sum(part["type"] == "image_url" for m in messages if isinstance(m["content"], list) for part in m["content"])


def remaining(fake: Fake, body: dict[str, Any]) -> str:
    """What the script says from here on."""
    *_, last = body["messages"]
    if last["role"] == "assistant" and fake.kind == "vllm":
        text = texts(last)
        written = text.rsplit("</sandbox_output>\n", 1)[-1] if "</sandbox_output>" in text else text
        said = fake.script[text.count("</sandbox_output>")]
        return said.removeprefix(written) if said.startswith(written) else said
    turns = sum(message["role"] == "user" for message in body["messages"])
    return fake.script[min(turns, len(fake.script)) - 1]


def prompt_tokens(fake: Fake, body: dict[str, Any]) -> int:
    messages = body["messages"]
    shown = images(messages)
    if not fake.sees_in_answers:
        shown -= images([m for m in messages if m["role"] == "assistant"])
    closing = 0 if body.get("continue_final_message") and fake.kind == "vllm" else 4
    return sum(len(texts(message)) for message in messages) // 4 + 30 * shown + closing


def refused(fake: Fake, body: dict[str, Any]) -> Response | None:
    unknown = [*(key for key in fake.refuses if key in body)]
    unknown += [key for key in body if key not in OURS] if fake.kind == "hosted" else []
    if body["model"] not in fake.served:
        return error(f"The model `{body['model']}` does not exist.", 404)
    if unknown:
        return error(f"Unsupported parameter: '{unknown[0]}' is not supported with this model.")
    if images(body["messages"]) and not fake.sees:
        return error("This is not a multimodal model and takes no images.")
    return None


@dataclass(frozen=True)
class Said:
    """A span as the server makes it."""

    pieces: list[str]
    """Text of each token."""
    texts: list[str]
    """What is sent of each."""
    finish: str
    stop: str | None


def say(fake: Fake, body: dict[str, Any]) -> Said:
    """Tokens up to a stop string, the limit, or the end, as vLLM does it: the text is cut, the last token is not."""
    rest, sent, pieces, written = remaining(fake, body), [], [], ""
    limit = body.get("max_tokens") or body["max_completion_tokens"]
    for piece in fake.tokenize(rest):
        pieces.append(piece)
        ends = [((written + piece).find(s), s) for s in body.get("stop", ()) if s in written + piece]
        if ends:
            at, stop = min(ends)
            kept = (written + piece)[: at if fake.strips_stop else at + len(stop)]
            sent.append("")
            return Said(pieces, cut_to(kept, sent), "stop", stop)
        written += piece
        sent.append(piece)
        if len(pieces) == limit:
            return Said(pieces, sent, "length", None)
    return Said(pieces, sent, "stop", None)


def cut_to(kept: str, sent: list[str]) -> list[str]:
    """The texts, shortened from the end so that they make up what was kept."""
    joined = "".join(sent)
    if len(joined) < len(kept):
        sent[-1] = kept[len(joined) :]
        return sent
    surplus = len(joined) - len(kept)
    for index in range(len(sent) - 1, -1, -1):
        taken = min(surplus, len(sent[index]))
        sent[index] = sent[index][: len(sent[index]) - taken]
        surplus -= taken
    return sent


def choice(fake: Fake, body: dict[str, Any], said: Said, start: int, stop: int, key: str) -> dict[str, Any]:
    """Tokens `start` to `stop` of a span as a choice."""
    made: dict[str, Any] = {"index": 0, key: {"role": "assistant", "content": "".join(said.texts[start:stop])}}
    last = stop >= len(said.pieces)
    made["finish_reason"] = said.finish if last else None
    if fake.kind == "vllm":
        if last:
            made["stop_reason"] = said.stop if fake.names_stop else None
        if fake.with_ids and body.get("return_token_ids"):
            made["token_ids"] = [fake.ids(piece) for piece in said.pieces[start:stop]]
        if fake.logprobs and body.get("logprobs"):
            tau = (body.get("temperature") or 1.0) if fake.logprobs == "tempered" else 1.0
            likely = [{"token": name, "logprob": -gap / tau} for name, gap in (("a", 0.5), ("b", 1.5), ("c", 4.0))]
            content = [{"token": p, "logprob": -0.5 / tau, "top_logprobs": likely} for p in said.pieces[start:stop]]
            made["logprobs"] = {"content": content}
    return made


async def stream(fake: Fake, body: dict[str, Any], said: Said) -> AsyncIterator[str]:
    fake.running += 1
    fake.most = max(fake.most, fake.running)
    try:
        head: dict[str, Any] = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        if fake.with_ids and body.get("return_token_ids"):
            head["prompt_token_ids"] = fake.prompt_ids(body)
        yield f"data: {json.dumps(head)}\n\n"
        for index, piece in enumerate(said.pieces):
            await asyncio.sleep(fake.delay_s)
            if piece == CUT:
                raise ConnectionError
            while piece == HANG:
                yield ": keep-alive\n\n" if fake.keep_alive else ""
                await asyncio.sleep(0.02)
            fake.written += 1
            yield f"data: {json.dumps({'choices': [choice(fake, body, said, index, index + 1, 'delta')]})}\n\n"
        if not said.pieces:
            yield f"data: {json.dumps({'choices': [choice(fake, body, said, 0, 0, 'delta')]})}\n\n"
        yield "data: [DONE]\n\n"
    finally:
        fake.running -= 1


def app(fake: Fake) -> FastAPI:
    made = FastAPI()

    @made.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        fake.keys.append(request.headers.get("authorization"))
        owner = "vllm" if fake.kind == "vllm" else "somebody"
        length = {} if fake.context is None else {"max_model_len": fake.context}
        return {"object": "list", "data": [{"id": name, "owned_by": owner, **length} for name in fake.served]}

    @made.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await request.json()
        fake.requests.append(body)
        fake.keys.append(request.headers.get("authorization"))
        fake.times.append(time.monotonic())
        if fake.failures:
            return fake.failures.pop(0)
        if (answer := refused(fake, body)) is not None:
            return answer
        said = say(fake, body)
        if body.get("stream") and fake.streams:
            return StreamingResponse(stream(fake, body, said), media_type="text/event-stream")
        usage = {"prompt_tokens": prompt_tokens(fake, body)}
        made = {"choices": [choice(fake, body, said, 0, len(said.pieces), "message")], "usage": usage}
        if fake.with_ids and body.get("return_token_ids"):
            made["prompt_token_ids"] = fake.prompt_ids(body)
        return JSONResponse(made)

    return made


class Switchboard:
    """One server for all fakes, each at a path of its own, since to start and to end one takes longer than a test."""

    def __init__(self) -> None:
        self._apps: dict[str, Any] = {}
        self._count = itertools.count()
        config = uvicorn.Config(self, port=0, log_config=None, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        threading.Thread(target=self._server.run, daemon=True).start()
        while not self._server.started:
            time.sleep(0.005)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _, place, rest = scope["path"].split("/", 2)
        await self._apps[place](scope | {"path": f"/{rest}", "raw_path": b""}, receive, send)

    @contextmanager
    def serving(self, made: Any) -> Iterator[str]:
        place = str(next(self._count))
        self._apps[place] = made
        try:
            yield f"http://127.0.0.1:{self._port}/{place}/v1"
        finally:
            del self._apps[place]


@functools.cache
def switchboard() -> Switchboard:
    return Switchboard()


def serving(fake: Fake | FastAPI) -> AbstractContextManager[str]:
    """The server's URL, which ends in ``/v1``."""
    return switchboard().serving(app(fake) if isinstance(fake, Fake) else fake)
