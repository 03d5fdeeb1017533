"""Serves the rule-based teacher and checker behind the OpenAI chat protocol: ``thyme nano teacher``.

It keeps nothing of a conversation: what it says in a turn is a function of its seed and of the messages, so that a
build that goes on, or asks again, gets the same. What it planted goes into a file, one line a conversation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import random
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from PIL import Image

from thyme.nano.factory.checker import Slips, judge
from thyme.nano.factory.faults import Rates, perform
from thyme.nano.factory.plans import Asked, NotOurProblemError, solve
from thyme.nano.factory.reader import Sight, read_picture
from thyme.nano.factory.wrong import Case, Said
from thyme.tags import IMAGE
from thyme.types import image_id

TEACHER: Final = "nano-teacher"
CHECKER: Final = "nano-checker"
MODELS: Final = (TEACHER, CHECKER)
MOST_BYTES: Final = 256 << 20
"""Of a request."""
_REMEMBERED = 512
"""Pictures of which it is remembered what they show."""
_CHARACTERS = 4
"""Of a token, about."""


@dataclass(frozen=True)
class Shown:
    """A picture of a request."""

    id: str
    sight: Sight


@dataclass
class Classroom:
    """Answers requests. Any number of threads may ask."""

    seed: int = 0
    rates: Rates = field(default_factory=Rates)
    slips: Slips = field(default_factory=Slips)
    busy: float = 0.0
    """Share of the requests that are answered with 503 the first time."""
    log: Path | None = None
    """Where it is written down what was planted."""
    _seen: OrderedDict[str, Shown] = field(default_factory=OrderedDict)
    _logged: set[str] = field(default_factory=set)
    _turned_away: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def turns_away(self, body: bytes) -> bool:
        """Whether this request, which comes for the first time, finds the server too busy."""
        if not self.busy:
            return False
        digest = hashlib.blake2b(body, digest_size=8).hexdigest()
        with self._lock:
            first = digest not in self._turned_away
            self._turned_away.add(digest)
        return first and random.Random(f"busy/{self.seed}/{digest}").random() < self.busy

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion.

        Raises:
            NotOurProblemError: The request is none of the data factory about the embedded world.
        """
        try:
            messages, model = request["messages"], request["model"]
            if model not in MODELS:
                raise NotOurProblemError(f"there is no model '{model}'; there are {' and '.join(MODELS)}")
            said = self._taught(messages) if model == TEACHER else self._checked(messages)
            return _completion(request, said)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise NotOurProblemError(f"this is no chat request: {error!r}") from error

    def _taught(self, messages: Sequence[Mapping[str, Any]]) -> Said:
        text, shown = self._parts(_first_of(messages, "user"))
        asked, sight = Asked.of(text), shown[0].sight if shown else None
        key = conversation_key(text, [one.id for one in shown])
        rng = random.Random(f"teacher/{self.seed}/{key}")
        fault = self.rates.draw(asked.scenario, rng)
        turns = perform(fault, Case(asked, sight, solve(asked, sight), rng))
        self._note(key, {"scenario": asked.scenario, "planted": fault.name if fault else ""})
        turn = sum(message["role"] == "assistant" for message in messages)
        said: Said = turns[min(turn, len(turns) - 1)]
        return said

    def _checked(self, messages: Sequence[Mapping[str, Any]]) -> Said:
        text, shown = self._parts(_first_of(messages, "user"), most=1)
        key = conversation_key(text, [one.id for one in shown])
        again = any(message["role"] == "assistant" for message in messages)
        rng = random.Random(f"checker/{self.seed}/{key}")
        judged = judge(text, shown[0].sight if shown else None, self.slips, rng, again=again)
        note = {"fits": judged.true, "needed": judged.needed, "slip": judged.slip}
        self._note(f"check-{key}{'-again' * again}", note)
        return Said(judged.reply)

    def _parts(self, content: str | Sequence[Mapping[str, Any]], most: int | None = None) -> tuple[str, list[Shown]]:
        """Text with a mark for each picture, and what the first `most` pictures show."""
        if isinstance(content, str):
            return content, []
        texts: list[str] = []
        shown: list[Shown] = []
        for part in content:
            if part["type"] == "text":
                texts.append(part["text"])
                continue
            texts.append(IMAGE)
            if most is None or len(shown) < most:
                shown.append(self._read(part["image_url"]["url"]))
        return "".join(texts), shown

    def _read(self, url: str) -> Shown:
        name = hashlib.blake2b(url.encode(), digest_size=16).hexdigest()
        with self._lock:
            if (known := self._seen.get(name)) is not None:
                return known
        try:
            image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True)))
            image.load()
            shown = Shown(image_id(image), read_picture(image))
        except (binascii.Error, OSError, ValueError) as error:
            raise NotOurProblemError(f"the picture is none of the embedded world: {error}") from error
        with self._lock:
            self._seen[name] = shown
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return shown

    def _note(self, key: str, facts: Mapping[str, Any]) -> None:
        """Write down once what was done to a conversation."""
        with self._lock:
            if self.log is None or key in self._logged:
                return
            self._logged.add(key)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **facts}) + "\n")


def _first_of(messages: Sequence[Mapping[str, Any]], role: str) -> Any:
    """Content of the first message of a role.

    Raises:
        NotOurProblemError: There is none.
    """
    for message in messages:
        if message["role"] == role:
            return message["content"]
    raise NotOurProblemError(f"there is no message of the {role}")


def conversation_key(text: str, images: Sequence[str]) -> str:
    """Name of a conversation, by which its record is found again.

    Args:
        text: First turn of the user, a mark for each picture.
        images: Ids of its pictures (`thyme.types.image_id`).
    """
    return hashlib.blake2b("\n".join([text, *images]).encode(), digest_size=12).hexdigest()


def _completion(request: Mapping[str, Any], said: Said) -> dict[str, Any]:
    text = said.text
    stops = request.get("stop") or ()
    for stop in () if said.runs_on else [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    asked = sum(len(json.dumps(message["content"])) if isinstance(message["content"], str) else 1200
                for message in request["messages"]) // _CHARACTERS  # fmt: skip
    usage = {"prompt_tokens": asked, "completion_tokens": max(1, len(text) // _CHARACTERS)}
    message = {"role": "assistant", "content": text}
    return {
        "id": "nano",
        "object": "chat.completion",
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": said.finish}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def open_server(classroom: Classroom, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is not running yet; port 0 takes any free one.

    Raises:
        OSError: The port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            models = [{"id": name, "object": "model"} for name in MODELS]
            self._send(200, {"object": "list", "data": models})

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                self.close_connection = True
                if not length.isdigit():
                    return self._send(411, _error("say how long the request is"))
                return self._send(
                    413, _error(f"a request may have {MOST_BYTES >> 20} MiB; send fewer or smaller images")
                )
            body = self.rfile.read(int(length))
            if self.path.rstrip("/") != "/v1/chat/completions":
                return self._send(404, _error("there is only /v1/chat/completions and /v1/models"))
            if classroom.turns_away(body):
                return self._send(503, _error("too busy; ask again"))
            try:
                self._send(200, classroom.answer(json.loads(body)))
            except (NotOurProblemError, ValueError) as error:
                self._send(400, _error(str(error)))

        def _send(self, status: int, content: Mapping[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            with suppress(ConnectionError):  # whoever asked may be gone
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing; what counts is in the log."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error"}}
